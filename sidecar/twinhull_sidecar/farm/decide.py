"""What a farm node does now: a pure function of what it knows. No I/O, no clock.

Invariants:

* A node that hears its peer announce does not, unless the peer yields or loses the tie.
* A node takes the peer's share only after ``detection_timeout`` of silence on every link, or when the peer
  says that it takes none. The leases of a peer that died or froze are half as long.
* Nobody is given a share who cannot be forwarded to.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import Enum

from twinhull_sidecar.farm.message import FarmMessage, Phase
from twinhull_sidecar.farm.settings import FarmSettings
from twinhull_sidecar.farm.ways import ALL, BOTH, CLOSED, DRAIN, LAST, PASS, SOLO, Way


class Application(Enum):
    """What the supervision says of this node's application."""

    STOPPED = "stopped"
    UNREADY = "not ready"
    READY = "ready"


@dataclass(frozen=True)
class Own:
    """This node. ``lan``: the addresses' interfaces have a carrier. ``holding``: the leases have not run out.

    ``draining``: an administrator ordered it. ``leaving``: this sidecar ends. ``capable``: see
    :func:`.requirements.missing`.
    """

    application: Application
    lan: bool = True
    holding: bool = False
    draining: bool = False
    leaving: bool = False
    capable: bool = True

    @property
    def phase(self) -> Phase:
        """What the peer is told."""
        if self.application is Application.STOPPED or not self.lan or self.leaving:
            return Phase.DOWN
        unready = self.application is Application.UNREADY or self.draining
        return Phase.DRAINING if unready else Phase.UP


@dataclass(frozen=True)
class Peer:
    """The peer's newest message; when it was last heard on any link, and on one of ``lan_links``."""

    message: FarmMessage | None = None
    heard_at: float | None = None
    lan_heard_at: float | None = None


@dataclass(frozen=True)
class Memory:
    """What one decision leaves to the next.

    ``listening_since``: the peer's silence counts from then on. ``deaf_since``: the peer speaks and has not
    heard this node since. ``decided_at``: when the last decision was made.
    """

    listening_since: float
    announcing: bool = False
    yielding: bool = False
    deaf_since: float | None = None
    decided_at: float | None = None


@dataclass(frozen=True)
class Decision:
    """What the node does: ``way`` None: the addresses' traffic is not treated at all.

    ``again_at``: the decision may differ from then on although nothing was heard. ``reached``: for the message
    to the peer.
    """

    state: str
    reason: str
    phase: Phase
    hold: bool
    announce: bool
    yielding: bool
    way: Way | None
    share: float
    memory: Memory = field(compare=False)
    again_at: float | None = field(compare=False)
    reached: bool = True


def decide(settings: FarmSettings, own: Own, peer: Peer, memory: Memory, now: float) -> Decision:
    """The decision at ``now`` (CLOCK_BOOTTIME, as all times here)."""
    timeout = settings.detection_timeout
    slept = memory.decided_at is not None and now - memory.decided_at >= settings.lease
    if slept and not own.holding:
        # This process was frozen: the silence was its own, and the peer may have taken over.
        memory = Memory(listening_since=now)
    memory = replace(memory, decided_at=now)
    there = peer.message is not None and _within(peer.heard_at, timeout, now) and not peer.message.leaving
    if not there or peer.message is None:
        return _alone(own, peer, memory, timeout, now)
    message = peer.message
    memory = replace(memory, deaf_since=_deaf_since(message, memory, timeout, now))
    deaf = memory.deaf_since is not None and now - memory.deaf_since >= timeout
    reached = _within(peer.lan_heard_at, timeout, now) if settings.lan_links else True
    # One direction may be cut: what this node forwards must arrive there.
    why = _no_split(settings, own, message, reached and message.reached)
    announce, yielding = _announcer(settings, own, message, memory, deaf=deaf, split=why is None)
    if not announce and deaf and message.announcing:
        reason = f"{settings.peer} does not hear this node, and serves everything"
        decision = _draft("Waiting", reason, own.phase, None)
    elif own.leaving and not announce:
        decision = _draft("Stopped", f"leaving; {settings.peer} goes on", own.phase, None)
    elif why is None:
        decision = _together(settings, own, message)
    elif announce:
        decision = _single(own, why)
    else:
        decision = _draft("Waiting", f"{why}; {settings.peer} serves alone", own.phase, None)
    announce = announce and decision.hold
    yielding = announce and yielding
    again = [peer.heard_at, peer.lan_heard_at if reached else None, memory.deaf_since]
    return replace(
        decision,
        announce=announce,
        yielding=yielding,
        memory=replace(memory, announcing=announce, yielding=yielding),
        again_at=min(one + timeout for one in again if one is not None and one + timeout > now),
        reached=reached,
    )


def _alone(own: Own, peer: Peer, memory: Memory, timeout: float, now: float) -> Decision:
    listened = now - max(memory.listening_since, peer.heard_at or 0.0)
    left = peer.message is not None and peer.message.leaving and _within(peer.heard_at, timeout, now)
    if listened < timeout and not left:
        decision = _draft("Waiting", "listening for the peer", own.phase, None)
        return replace(decision, memory=memory, again_at=memory.listening_since + timeout)
    why = "the peer left" if left else f"the peer is silent for {timeout:g} s"
    decision = _single(own, why)
    return replace(
        decision, memory=replace(memory, announcing=decision.hold, yielding=False, deaf_since=None)
    )


def _single(own: Own, why: str) -> Decision:
    """Serve without the peer."""
    phase = own.phase
    if phase is Phase.UP:
        return _draft("Up", f"{why}: serve everything", phase, SOLO, 1.0)
    if phase is Phase.DRAINING:
        return _draft("Draining", f"{why}, {_unready(own)}: keep what is served", phase, LAST)
    return _draft(_down(own), f"{why}, {_unready(own)}", phase, None)


def _together(settings: FarmSettings, own: Own, message: FarmMessage) -> Decision:
    phase, theirs, peer = own.phase, message.phase, settings.peer
    if phase is Phase.UP:
        way, share, reason = {
            Phase.UP: (BOTH, settings.share, "both nodes serve"),
            Phase.DRAINING: (ALL, 1.0, f"{peer} takes nothing new: take all of it"),
            Phase.DOWN: (SOLO, 1.0, f"{peer} does not serve: serve everything"),
        }[theirs]
        return _draft("Up", reason, phase, way, share)
    if phase is Phase.DRAINING:
        way = {Phase.UP: DRAIN, Phase.DRAINING: CLOSED, Phase.DOWN: LAST}[theirs]
        return _draft("Draining", f"{_unready(own)}: keep what is served", phase, way)
    if theirs is Phase.DOWN:
        return _draft(_down(own), f"{_unready(own)} and {peer} does not serve", phase, None)
    # Without a carrier nothing comes and nothing goes.
    return _draft(_down(own), f"{_unready(own)}: {peer} serves", phase, PASS if own.lan else None)


def _announcer(
    settings: FarmSettings, own: Own, message: FarmMessage, memory: Memory, *, deaf: bool, split: bool
) -> tuple[bool, bool]:
    """Whether this node announces, and whether it asks the peer to."""
    mine = memory.announcing and own.holding and own.lan
    phase, theirs = own.phase.value, message.phase.value
    better = (phase, settings.first) > (theirs, not settings.first)
    serves = own.phase is not Phase.DOWN
    if mine and message.announcing:
        # After a handover, a healed partition, or while only one direction is cut: then this node is the one
        # that can give in.
        if memory.yielding or deaf:
            return False, False
        return message.yielding or better, False
    if mine:
        # Make before break: this node answers until the peer does. One that can forward need not hand over.
        return True, theirs > phase and (not split or not serves)
    if message.announcing:
        return serves and message.yielding, False
    return serves and better, False


def _no_split(settings: FarmSettings, own: Own, message: FarmMessage, reachable: bool) -> str | None:
    """Why the peer cannot be given a share at all."""
    if not own.capable or not message.capable:
        who = settings.node if not own.capable else settings.peer
        return f"the kernel of {who} cannot divide the clients"
    if not reachable:
        return f"{settings.peer} is not reached over the addresses' own network"
    return None


def _deaf_since(message: FarmMessage, memory: Memory, timeout: float, now: float) -> float | None:
    deaf = message.hears_ms is None or message.hears_ms > timeout * 1000
    return (memory.deaf_since or now) if deaf else None


def _draft(state: str, reason: str, phase: Phase, way: Way | None, share: float = 0.0) -> Decision:
    hold = way is not None
    return Decision(state, reason, phase, hold, hold, False, way, share, Memory(0.0), None)


def _unready(own: Own) -> str:
    if own.leaving:
        return "leaving"
    if not own.lan:
        return "the addresses' network is down here"
    if own.application is not Application.READY:
        return f"the application is {own.application.value}"
    return "draining"


def _down(own: Own) -> str:
    return "Stopped" if own.application is Application.STOPPED or own.leaving else "Waiting"


def _within(moment: float | None, seconds: float, now: float) -> bool:
    return moment is not None and now - moment < seconds
