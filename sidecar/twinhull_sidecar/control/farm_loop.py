"""A farm's control loop: at every event, and at least each twentieth of the detection timeout, it looks at what
is, lets ``farm.decide`` decide, and has it carried out.

All leases are renewed from this very loop, the application's and the addresses': one that hangs or fails
renews nothing, and everything that this node does ends by itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.farm_application import Look, Start, Stop, Supervision, supervise
from twinhull_sidecar.control.farm_count import FlowCounter
from twinhull_sidecar.control.farm_events import PeerState
from twinhull_sidecar.control.farm_leave import Leave, LeaveView, Step, advance
from twinhull_sidecar.control.farm_notes import FarmNotes, Turn
from twinhull_sidecar.control.farm_parts import FarmParts
from twinhull_sidecar.control.farm_peer import Word, understood
from twinhull_sidecar.control.farm_role import RoleView, Standing, stand
from twinhull_sidecar.farm import (
    Application,
    Decision,
    FarmMessage,
    FarmSettings,
    Memory,
    Own,
    Peer,
    Phase,
    Wanted,
    decide,
)
from twinhull_sidecar.farm.ways import Way
from twinhull_sidecar.heartbeat import ReceivedMessage
from twinhull_sidecar.workload import Phase as Running

log = logging.getLogger(__name__)

LONGEST_PAUSE = 0.1
#: The application's lease lasts this long at least: two running copies harm nobody, killing a healthy one because the
#: machine was busy for a moment does. What the peer waits for are the leases of the addresses.
APPLICATION_LEASE = 2.0
#: For so long the start waits for the peer, which may know that the module was ordered to stop.
LONGEST_LISTEN = 3.0
#: The last datagrams must leave the socket before it is closed.
FAREWELL = 0.05
#: Seconds that a leaving announcer sends on what still comes to it: the peer has announced itself twice by then.
LINGER = 1.3


class FarmLoop:
    """Runs one farm on this node; ``on_change`` is called when its status changed."""

    def __init__(
        self, parts: FarmParts, on_change: Callable[[], None], now: Callable[[], float] = boottime
    ) -> None:
        self._parts = parts
        self._now = now
        self._started_at = now()
        self._lease = parts.settings.lease
        self._pause = min(LONGEST_PAUSE, parts.settings.detection_timeout / 20)
        self._woken = asyncio.Event()
        self._memory = Memory(self._started_at)
        self._supervision = Supervision()
        self._peer = Peer()
        self._word: Word | None = None
        self._leave: Leave | None = None
        #: How and until when a node that leaves still sends on what comes to it.
        self._linger: tuple[Way, float] | None = None
        self._said_announcing = False
        self._terminating = False
        self._exit = False
        self._decision: Decision | None = None
        #: The last decision that the kernel follows.
        self._in_force: Decision | None = None
        self._work: asyncio.Task[None] | None = None
        self._counter = FlowCounter(parts.count, self._peer_pods, now, self._counted)
        self._notes = FarmNotes(parts, on_change, now)

    # --- what others call ---

    def wake(self) -> None:
        """Something happened: decide again soon."""
        self._woken.set()

    def terminate(self) -> None:
        """Leave in order, then :meth:`run` returns."""
        self._terminating = self._counter.hurry = True
        self.wake()

    def heard(self, received: ReceivedMessage) -> None:
        """A heartbeat of the peer was accepted."""
        before = self._word
        if received.newest:
            try:
                self._word = understood(received.payload)
            except ValueError as error:
                log.warning("the peer's heartbeat cannot be understood: %s", error)
            else:
                self._parts.heartbeat.pace(self._word.detection_timeout)
        self._look_at_links()
        if before is None or self._word is None or self._word.essence != before.essence:
            self.wake()

    def status(self) -> pb.Status:
        """See ``api.server.Controller``."""
        return self._notes.status()

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See ``api.server.Controller``."""
        accepted, message, identity = await self._parts.desk.take(
            request.action, request.user, request.discard_peer, request.id, None
        )
        return pb.OrderReply(accepted=accepted, message=message, id=identity)

    def peer_macs(self) -> dict[str, str]:
        """The peer's Ethernet addresses by virtual address, as it said last."""
        return {} if self._word is None else dict(self._word.message.macs)

    def _peer_pods(self) -> tuple[str, ...]:
        return () if self._word is None else tuple(self._word.message.pods.values())

    def _counted(self) -> None:
        if self._leave is not None:
            self.wake()

    # --- the loop ---

    async def run(self) -> None:
        """Decide and act until the leave is over. Raises when turn after turn fails."""
        beside = [asyncio.create_task(self._watch_network()), asyncio.create_task(self._counter.run())]
        failing_since: float | None = None
        try:
            while not self._exit:
                self._woken.clear()
                try:
                    self._turn(self._now())
                    failing_since = None
                except Exception:
                    if failing_since is None:
                        log.exception("a turn of the control loop failed")
                        failing_since = self._now()
                    elif self._now() - failing_since > self._parts.config.detection_timeout:
                        # The heartbeats must end, too: else the peer would trust in this node for ever.
                        raise
                await self._sleep()
            await asyncio.sleep(FAREWELL)
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)
            await self._parts.checkers.close()
            if self._work is not None:
                self._work.cancel()
                await asyncio.gather(self._work, return_exceptions=True)

    async def _sleep(self) -> None:
        pause = self._pause
        if self._decision is not None and self._decision.again_at is not None:
            pause = min(pause, max(0.0, self._decision.again_at - self._now()))
        try:
            async with asyncio.timeout(pause):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _turn(self, now: float) -> None:
        parts = self._parts
        # First of all: whatever goes wrong below, a turn that begins is a sign of life.
        parts.workload.renew(now + max(self._lease, APPLICATION_LEASE))
        self._look_at_links()
        self._take_orders(now)
        self._advance_leave(now)
        look = self._supervise(now)
        own = self._own(look)
        settings = self._deciding()
        decision = decide(settings, own, self._peer, self._memory, now)
        before, self._decision = self._decision, decision
        self._memory = decision.memory
        standing = self._stand(decision, look, own)
        if parts.driver.want(self._wanted(before, decision, own, now)):
            self._in_force = decision
        parts.driver.renew(now + self._lease)
        self._tell_peer(decision, own, standing)
        if decision.phase is not Phase.UP and decision is self._in_force:
            parts.wishes.in_force(self._counter.flows.tcp)
        self._notes.take(
            Turn(
                before=before,
                decision=decision,
                in_force=self._in_force,
                look=look,
                own=own,
                standing=standing,
                peer=self._peer,
                peer_state=self._peer_state(now),
                word=self._word,
                connections=self._counter.flows.total,
                restarts=len(self._supervision.failures),
                uncounted=self._counter.problem,
            ),
            now,
        )

    def _wanted(self, before: Decision | None, decision: Decision, own: Own, now: float) -> Wanted:
        message = self._peer.message
        macs = dict(message.macs) if message else {}
        pods = dict(message.pods) if message else {}
        if own.leaving and not decision.hold:
            if before is not None and before.announce and before.way is not None:
                self._linger = (before.way, now + LINGER)
            if self._linger is not None and now < self._linger[1]:
                # Whoever has not heard the peer's announcement yet is still sent on to it.
                return Wanted(True, False, self._linger[0], macs, pods)
        return Wanted(decision.hold, decision.announce, decision.way, macs, pods)

    def _look_at_links(self) -> None:
        health = self._parts.heartbeat.links()
        heard = [one.heard_at for one in health.values() if one.heard_at is not None]
        lan = [health[name].heard_at for name in self._parts.watch.around.lan_links]
        message = None if self._word is None else self._word.message
        lan_heard = max((one for one in lan if one is not None), default=None)
        self._peer = Peer(message, max(heard, default=None), lan_heard)

    def _peer_state(self, now: float) -> PeerState:
        peer = self._peer
        if peer.message is None or peer.heard_at is None:
            return PeerState.UNKNOWN
        if now - peer.heard_at >= self._deciding().detection_timeout:
            return PeerState.SILENT
        return PeerState.LEFT if peer.message.leaving else PeerState.HEARD

    def _take_orders(self, now: float) -> None:
        parts, peer = self._parts, self._peer
        heard = self._peer_state(now) is PeerState.HEARD
        if self._word is not None and heard:
            self._supervision = parts.wishes.heard(self._word, self._supervision)
        self._supervision = parts.wishes.take(
            self._supervision,
            peer=parts.settings.peer,
            peer_serves=heard and peer.message is not None and peer.message.phase is Phase.UP,
            leaving=self._terminating,
            epoch=parts.workload.state().epoch,
            at=now + parts.settings.detection_timeout / 5,
        )

    def _advance_leave(self, now: float) -> None:
        if not self._terminating:
            return
        grace = self._parts.config.application.stop_grace
        before = self._leave or Leave(now)
        seen = LeaveView(
            now=now,
            runs=self._parts.workload.state().phase is not Running.HELD or self._work is not None,
            holds=(self._decision is not None and self._decision.hold)
            or (self._linger is not None and now < self._linger[1]),
            connections=None if self._counter.counted_at is None else self._counter.flows.tcp,
            counted_at=self._counter.counted_at or 0.0,
        )
        self._leave = advance(before, seen, grace, self._deciding().detection_timeout)
        if before.step is Step.DRAIN and self._leave.step is Step.YIELD and self._counter.flows.tcp:
            message = f"{self._counter.flows.tcp} connections were still open after {grace:g} s and are ended"
            self._parts.events.warning("ConnectionsEnded", message)
        self._exit = self._leave.step is Step.EXIT

    def _supervise(self, now: float) -> Look:
        """Look after the application; begin what is to be done, one thing at a time."""
        parts, leave = self._parts, self._leave
        configured, state = parts.config.application, parts.workload.state()
        wanted = not parts.wishes.wish.stopped and (leave is None or leave.step in {Step.DRAIN, Step.YIELD})
        wanted = wanted and (self._listened(now) or state.phase is not Running.HELD)
        if leave is not None and state.phase in {Running.HELD, Running.FAILED}:
            # What has ended is not started for the last seconds.
            wanted = False
        grace = configured.stop_grace if leave is None else leave.stop_grace(configured.stop_grace, now)
        before = self._supervision
        look = supervise(before, configured, state, wanted=wanted, grace=grace, now=now)
        after = look.supervision
        if self._work is not None and isinstance(look.effect, Start):
            after = replace(after, epoch=before.epoch)
        self._supervision = after
        if look.restarted is not None:
            parts.wishes.restarted(look.restarted)
        elif before.restart is not None and after.restart is None:
            parts.wishes.not_restarted(before.restart.order)
        if self._work is None:
            match look.effect:
                case Start(epoch):
                    self._begin(parts.workload.start(epoch))
                case Stop(seconds):
                    self._begin(parts.workload.stop(seconds))
        parts.checkers.follow(state.phase is Running.RUNNING, state.epoch)
        return look

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        async def carry_out() -> None:
            try:
                await work
            except Exception:
                log.exception("the application could not be started or stopped")
            self._work = None
            self.wake()

        self._work = asyncio.create_task(carry_out())

    def _own(self, look: Look) -> Own:
        driver, leave = self._parts.driver, self._leave
        application = look.application
        if application is Application.READY and not self._parts.checkers.passing:
            application = Application.UNREADY
        return Own(
            application=application,
            lan=driver.holder.lan and self._parts.watch.looked,
            holding=driver.holding(),
            draining=self._parts.wishes.wish.draining or leave is not None,
            leaving=leave is not None and leave.step is not Step.DRAIN,
            capable=driver.holder.capable,
        )

    def _deciding(self) -> FarmSettings:
        """The settings of the next decision: the longer of both timeouts bounds the leases of both nodes."""
        settings = self._parts.settings
        theirs = 0.0 if self._word is None else self._word.detection_timeout
        timeout = max(settings.detection_timeout, theirs)
        return replace(settings, detection_timeout=timeout, lan_links=self._parts.watch.around.lan_links)

    def _stand(self, decision: Decision, look: Look, own: Own) -> Standing:
        parts = self._parts
        held = [one for one in parts.watch.problems if one.field.startswith("virtual_ips")]
        nothing = not parts.driver.settings.addresses or not parts.watch.around.placements
        refused = f"{held[0].field}: {held[0].message}" if nothing and held else ""
        return stand(
            RoleView(
                decision=decision,
                look=look,
                own=own,
                wish=parts.wishes.wish,
                leave=self._leave,
                checks=parts.checkers.states,
                connections=self._counter.flows.tcp,
                looked=parts.watch.looked,
                refused=refused,
                trouble=parts.driver.trouble,
            )
        )

    def _tell_peer(self, decision: Decision, own: Own, standing: Standing) -> None:
        parts, wish = self._parts, self._parts.wishes.wish
        # The peer gives up when it hears that this node announces: not before that is true.
        in_force = self._in_force is decision and parts.driver.holder.held()
        self._said_announcing = decision.announce and (in_force or self._said_announcing)
        message = FarmMessage(
            phase=decision.phase,
            announcing=self._said_announcing,
            yielding=decision.yielding,
            leaving=own.leaving and not decision.hold,
            capable=own.capable,
            reached=decision.reached,
            macs=parts.driver.holder.macs(),
            pods=parts.driver.holder.pods(),
        )
        word = Word(message, standing.role, parts.config.detection_timeout, wish.intent, wish.stopped)
        parts.heartbeat.publish(word.payload())

    # --- beside the loop ---

    def _listened(self, now: float) -> bool:
        """Whether the peer had its time to say something since the start."""
        timeout = min(self._parts.settings.detection_timeout, LONGEST_LISTEN)
        return self._word is not None or now - self._started_at >= timeout

    async def _watch_network(self) -> None:
        # The peer's Ethernet addresses are not a stranger's: it has its time to name them.
        end = self._started_at + self._parts.settings.detection_timeout
        while self._word is None and self._now() < end:  # noqa: ASYNC110
            await asyncio.sleep(self._pause)
        await self._parts.watch.run()
