"""What a farm's node tells of itself after each turn of its loop: log, events, a takeover's timeline, the status."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.control import farm_status
from twinhull_sidecar.control.farm_application import Look
from twinhull_sidecar.control.farm_events import TOOK_OVER, PeerState, Scene, happened
from twinhull_sidecar.control.farm_parts import FarmParts
from twinhull_sidecar.control.farm_peer import Word
from twinhull_sidecar.control.farm_role import Standing
from twinhull_sidecar.control.farm_timeline import TakeoverKeeper
from twinhull_sidecar.control.status import Problem, wording
from twinhull_sidecar.control.strangers import Strangers
from twinhull_sidecar.farm import Application, Decision, Own, Peer
from twinhull_sidecar.role.model import LinkView

log = logging.getLogger(__name__)

#: Why this node takes over, in the status; else the peer is heard and does not serve.
_CAUSES = {PeerState.SILENT: "PeerLost", PeerState.LEFT: "PeerLeft"}


@dataclass(frozen=True)
class Turn:
    """What a turn of the loop saw and decided.

    ``before``: the decision of the turn before; ``in_force``: the last one that the kernel follows. ``connections``:
    flows that this node serves; ``uncounted``: why they cannot be counted. ``restarts``: of the application, within
    its window.
    """

    before: Decision | None
    decision: Decision
    in_force: Decision | None
    look: Look
    own: Own
    standing: Standing
    peer: Peer
    peer_state: PeerState
    word: Word | None
    connections: int
    restarts: int
    uncounted: Problem | None


class FarmNotes:
    """``on_change`` is called when the status changed in more than counters and ages."""

    def __init__(self, parts: FarmParts, on_change: Callable[[], None], now: Callable[[], float]) -> None:
        self._parts = parts
        self._on_change = on_change
        self._scene: Scene | None = None
        self._shot: farm_status.FarmShot | None = None
        self._essence: tuple[object, ...] = ()
        self._strangers = Strangers()
        self._takeover = TakeoverKeeper(time.time, now)

    def status(self) -> pb.Status:
        """See ``api.server.Controller``."""
        if self._shot is None:
            return farm_status.starting(self._parts.config, self._parts.node)
        return farm_status.build(self._shot)

    def take(self, turn: Turn, now: float) -> None:
        """Tell of a turn what is new."""
        parts, decision, standing = self._parts, turn.decision, turn.standing
        scene = Scene(
            standing=standing,
            announcing=decision.announce,
            whole=decision.way is not None and decision.way.name in {"solo", "all"},
            peer=turn.peer_state,
            peer_announces=turn.peer.message is not None and turn.peer.message.announcing,
            checks=parts.checkers.states,
            restarts=turn.restarts,
            trouble=turn.look.trouble,
        )
        was = self._scene
        if was is None or wording(was.standing.reason) != wording(standing.reason):
            fields = {"role": standing.role, "code": standing.code}
            log.info(standing.reason, extra={"fields": fields})
        took = False
        for kind, code, message in happened(was, scene, parts.settings.peer):
            parts.events.add(kind, code, message)
            took |= code == TOOK_OVER
        if took:
            announces = turn.before is None or not turn.before.announce
            lost_at = turn.peer.heard_at if scene.peer is PeerState.SILENT else None
            self._takeover.begun(_CAUSES.get(scene.peer, "PeerUnavailable"), lost_at, now, announces)
        elif decision is turn.in_force and parts.driver.holder.held():
            self._takeover.in_force(parts.driver.holder.announced_at)
        self._scene = scene
        self._publish(turn, now)

    def _publish(self, turn: Turn, now: float) -> None:
        parts = self._parts
        # Not what is decided: what the kernel does.
        shown = turn.in_force if parts.driver.holder.held() else None
        others = (parts.wishes.problem, turn.uncounted)
        shot = farm_status.FarmShot(
            config=parts.config,
            node=parts.node,
            incarnation=parts.heartbeat.incarnation,
            standing=turn.standing,
            share=0.0 if shown is None else round(shown.share, 4),
            announcing=shown is not None and shown.announce,
            connections=turn.connections,
            draining=parts.wishes.wish.draining,
            checks=parts.checkers.states,
            workload=parts.workload.state(),
            restarts=turn.restarts,
            ready=turn.own.application is Application.READY,
            virtual_ips=parts.watch.states(),
            links=tuple(
                LinkView(name, one.heard_at, one.accepted, one.lost)
                for name, one in parts.heartbeat.links().items()
            ),
            heard_at=turn.peer.heard_at,
            peer_role="" if turn.word is None else turn.word.role,
            now=now,
            events=parts.events,
            last_order=parts.desk.last,
            timeline=self._takeover.current,
            problems=(
                *parts.watch.problems,
                *self._strangers.problems(parts.heartbeat.refused, now),
                *(one for one in others if one is not None),
                *self._trouble(),
            ),
        )
        self._shot = shot
        essence = farm_status.essence(shot)
        if essence != self._essence:
            self._essence = essence
            self._on_change()

    def _trouble(self) -> tuple[Problem, ...]:
        trouble = self._parts.driver.trouble
        if not trouble:
            return ()
        return (Problem("virtual_ips", f"the addresses cannot be held ({trouble})", "it is tried again"),)
