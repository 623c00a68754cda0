"""The control loop: at every event, and at least each twentieth of the detection timeout, it gathers what is,
lets ``role.decide`` decide, and carries the effects out.

Leases are renewed from this very loop, through the RenewLease effect: a loop that hangs or fails renews
nothing, and everything this node holds ends by itself.
"""

from __future__ import annotations

import asyncio
import datetime
import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.checkers.watching import Watches
from twinhull_sidecar.config import ModuleConfig
from twinhull_sidecar.control import maintenance, observe, status
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.engine import EngineRunner
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.executor import Executor
from twinhull_sidecar.control.orders import OrderDesk
from twinhull_sidecar.control.peer_orders import PeerOrders
from twinhull_sidecar.control.strangers import Strangers
from twinhull_sidecar.control.timeline import TimelineKeeper
from twinhull_sidecar.control.verification import VerificationWatch, VerifyDue
from twinhull_sidecar.control.witness_status import witness_list, witness_problems
from twinhull_sidecar.fencing.watchdog import Watchdog
from twinhull_sidecar.heartbeat import Heartbeat, ReceivedMessage
from twinhull_sidecar.role import undo
from twinhull_sidecar.role.decide import decide
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import (
    Action,
    Decision,
    LinkView,
    Observation,
    Order,
    Outcome,
    PeerView,
    Phase,
    Role,
    State,
)
from twinhull_sidecar.role.promotion import until_lost
from twinhull_sidecar.schedule import read_schedule
from twinhull_sidecar.vip import VipHolder
from twinhull_sidecar.workload.adapter import Workload

log = logging.getLogger(__name__)

LONGEST_PAUSE = 0.1
#: A timer may fire a little early; the look for which it was set must not.
TIMER_IS_EARLY = 0.001
READY_INTERVAL = 0.1
PROBLEM_INTERVAL = 5.0
#: A disk that does not answer for so long must not keep the loop from deciding.
RECORD_PATIENCE = 0.05
#: Seconds that the start waits for the application's containers; pulling an image may take longer.
GATHER_PATIENCE = 10.0

#: Orders that only the serving node can carry out; asked elsewhere, they are passed on to it.
_OF_THE_PRIMARY = (Action.SWITCHOVER, Action.RESTART, Action.RESYNC, Action.VERIFY, Action.REPAIR)


@dataclass
class Parts:
    """What the loop drives."""

    config: ModuleConfig
    node: str
    engine: EngineRunner
    heartbeat: Heartbeat
    vip: VipHolder
    workload: Workload
    executor: Executor
    orders: OrderDesk
    peer_orders: PeerOrders
    watches: Watches
    events: EventLog
    state: State
    watchdog: Watchdog | None = None


class ControlLoop:
    """Runs one module's decision on this node; ``on_change`` is called when its status changed."""

    def __init__(
        self, parts: Parts, on_change: Callable[[], None], now: Callable[[], float] = boottime
    ) -> None:
        self._parts = parts
        self._on_change = on_change
        self._now = now
        self._pause = min(LONGEST_PAUSE, parts.config.detection_timeout / 20)
        #: Until the next look, if nothing happens before.
        self._until_due = self._pause
        self._woken = asyncio.Event()
        self._terminating = False
        self._peer: PeerView | None = None
        self._decision: Decision | None = None
        self._shot: status.Snapshot | None = None
        self._essence: tuple[object, ...] = ()
        self._timeline = TimelineKeeper(
            time.time,
            now,
            has_vip=parts.state.settings.has_vip,
            has_application=parts.state.settings.has_application,
        )
        self._ready = False
        self._complaints: frozenset[str] = frozenset()
        self._strangers = Strangers()
        schedule = parts.config.verify_schedule
        self._due = schedule and VerifyDue(read_schedule(schedule))
        self._verification = VerificationWatch(parts.events, time.time)
        self._vip_problems: tuple[status.Problem, ...] = ()
        # Kept here until a decision has seen them: a failed turn loses nothing.
        self._outcomes: tuple[Outcome, ...] = ()
        self._orders: tuple[Order, ...] = ()

    # --- what others call ---

    def wake(self) -> None:
        """Something happened: decide again soon."""
        self._woken.set()

    def terminate(self) -> None:
        """Leave in order: hand over, then :meth:`run` returns."""
        self._terminating = True
        self.wake()

    def heard(self, received: ReceivedMessage) -> None:
        """A heartbeat of the peer was accepted."""
        if received.newest:
            try:
                message = observe.peer_message(received.payload)
            except ValueError as error:
                log.warning("the peer's heartbeat cannot be understood: %s", error)
            else:
                self._peer = PeerView(
                    message, received.received_at, received.acknowledged_at, received.incarnation
                )
                self._parts.heartbeat.pace(message.detection_timeout)
        self.wake()

    def status(self) -> pb.Status:
        """See ``api.server.Controller``."""
        if self._shot is None:
            config, node = self._parts.config, self._parts.node
            return pb.Status(
                module=config.module, uid=config.uid, node=node, role=Role.WAITING, reason="starts"
            )
        shot = self._shot
        built = status.build(shot)
        built.witnesses.extend(witness_list(shot.config, shot.observation.witnesses, shot.observation.now))
        return built

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See ``api.server.Controller``."""
        accepted, message, identity = await self._parts.orders.take(
            request.action,
            request.user,
            request.discard_peer,
            request.id,
            self._parts.peer_orders.forward if self._peer_serves(request.action) else None,
        )
        return pb.OrderReply(accepted=accepted, message=message, id=identity)

    def _peer_serves(self, action: str) -> bool:
        if action not in _OF_THE_PRIMARY or self._peer is None or self._decision is None:
            return False
        recent = self._now() - self._peer.received_at < self._parts.config.detection_timeout
        return recent and self._peer.message.serving and not self._decision.state.serving

    # --- the loop ---

    async def run(self) -> None:
        """Decide and act until the decision says Exit. Raises when turn after turn fails."""
        watchers = [asyncio.create_task(self._watch_ready()), asyncio.create_task(self._watch_address())]
        failing_since: float | None = None
        try:
            await self._gather()
            while not self._parts.executor.exit_wanted:
                self._woken.clear()
                # Before anything is gathered: whatever is decided rests on what was true at this moment.
                now = self._now()
                await self._parts.engine.refresh_record(RECORD_PATIENCE)
                try:
                    self._tick(now)
                    failing_since = None
                except Exception:
                    # The next turn may go better; until then nothing is renewed.
                    if failing_since is None:
                        log.exception("a turn of the control loop failed")
                        failing_since = self._now()
                    elif self._now() - failing_since > self._parts.config.detection_timeout:
                        # The heartbeats must end, too: else the peer would trust in this node for ever.
                        raise
                await self._sleep()
        finally:
            for watcher in watchers:
                watcher.cancel()
            await asyncio.gather(*watchers, return_exceptions=True)

    async def _gather(self) -> None:
        """At the start only: let the application's containers come to their gates before anything is mounted.

        Bounded: a container that cannot start (its image is missing) must not keep the data from being replicated.
        """
        end = self._now() + GATHER_PATIENCE
        while not (self._parts.workload.gathered() or self._terminating) and self._now() < end:
            self._woken.clear()
            await self._sleep()

    async def _sleep(self) -> None:
        try:
            async with asyncio.timeout(self._until_due):
                await self._woken.wait()
        except TimeoutError:
            pass

    def _tick(self, now: float) -> None:
        parts = self._parts
        running = parts.workload.state()
        parts.watches.follow(running.phase.value == Phase.RUNNING.value, running.epoch)
        self._outcomes += parts.executor.outcomes()
        self._orders += parts.orders.drain()
        engine = parts.engine.status()
        self._verification.observe(engine.get("verify"), in_sync=bool(engine.get("in_sync")))
        due = self._due and self._due.is_now(datetime.datetime.now(datetime.UTC))
        if due and engine["in_sync"] and engine["mode"] == "primary":
            self._orders += (Order(uuid.uuid4().hex, Action.VERIFY, "schedule"),)
        seen = Observation(
            now=now,
            record=observe.record_view(parts.engine.record),
            engine=observe.engine_view(engine, now),
            workload=observe.workload_view(parts.workload.state()),
            vip_held=parts.vip.held(),
            links=tuple(
                LinkView(name, link.heard_at, link.accepted, link.lost)
                for name, link in parts.heartbeat.links().items()
            ),
            peer=self._peer,
            probe=parts.executor.probe,
            witnesses=parts.executor.witnesses.views(),
            fence=parts.executor.fence.view if parts.executor.fence is not None else None,
            busy=parts.executor.busy,
            outcomes=self._outcomes,
            orders=self._orders,
            complaints=parts.watches.complaints,
            failback_window=maintenance.is_open(
                parts.config.failback_window, datetime.datetime.now(datetime.UTC)
            ),
            terminating=self._terminating,
        )
        decision = decide(parts.state, seen)
        parts.state = decision.state
        if parts.watchdog is not None:
            needed = decision.state.serving or bool(undo.held(seen))
            parts.watchdog.tend(needed=needed, stuck=bool(decision.stuck), now=now)
        self._outcomes, self._orders = (), ()
        # Effects first: what is published must not run ahead of a fence.
        parts.executor.carry_out(decision.effects, now)
        parts.heartbeat.publish(asdict(decision.message))
        # Silence is noticed by the clock alone: the look at its end shall not be a pause late.
        left = until_lost(Facts(decision.state, seen))
        self._until_due = left + TIMER_IS_EARLY if 0 < left < self._pause else self._pause
        self._tell_checks(seen)
        self._take_note(seen, decision)
        self._publish(seen, decision, engine)

    def _tell_checks(self, seen: Observation) -> None:
        complaints = {one.checker: one.detail for one in seen.complaints}
        for name in complaints.keys() - self._complaints:
            self._parts.events.warning("CheckerFails", f"Checker {name} fails: {complaints[name]}")
        for name in self._complaints - complaints.keys():
            self._parts.events.normal("CheckerPasses", f"Checker {name} fails no more")
        self._complaints = frozenset(complaints)

    def _take_note(self, seen: Observation, decision: Decision) -> None:
        parts = self._parts
        self._follow_timeline(seen, decision)
        for answer in decision.answers:
            parts.orders.answer(answer)
        before, self._decision = self._decision, decision
        if before is None or status.wording(before.reason) != status.wording(decision.reason):
            fields = {"role": decision.role, "code": decision.code}
            log.info(decision.reason, extra={"fields": fields})
        if before is None or (before.role, before.code) != (decision.role, decision.code):
            worrying = decision.role in (Role.WAITING, Role.ALONE)
            message = f"{decision.role}: {decision.reason}"
            parts.events.add("Warning" if worrying else "Normal", decision.code, message)

    def _follow_timeline(self, seen: Observation, decision: Decision) -> None:
        timing = Facts(decision.state, seen).peer_timing
        peers_lease = timing.lost_after(closed=True)
        self._timeline.decided(decision.state.promotion, seen.heard_at, peers_lease, seen.probe)
        for outcome in seen.outcomes:
            self._timeline.ended(outcome, self._parts.vip.announced_at)
        self._timeline.observed(seen)
        if (told := self._timeline.report()) is not None:
            self._parts.events.normal("TookOver", told)

    def _publish(self, seen: Observation, decision: Decision, engine: dict[str, Any]) -> None:
        """Keep what the status is built from, and tell the watchers when something of interest changed."""
        parts = self._parts
        self._ready = self._ready and seen.workload.phase is Phase.RUNNING
        self._shot = status.Snapshot(
            config=parts.config,
            node=parts.node,
            incarnation=parts.heartbeat.incarnation,
            observation=seen,
            decision=decision,
            engine=engine,
            ready=self._ready,
            virtual_ips=tuple(parts.vip.states()),
            events=parts.events,
            last_order=parts.orders.last,
            checks=parts.watches.states,
            timeline=self._timeline.current,
            verification=self._verification.current,
            problems=(
                *self._vip_problems,
                *self._strangers.problems(parts.heartbeat.refused, seen.now),
                *status.problems(parts.config, seen, decision),
                *status.fencing_problems(
                    decision,
                    parts.watchdog.problem if parts.watchdog is not None else "",
                    parts.executor.fence.problem if parts.executor.fence is not None else "",
                ),
                *witness_problems(
                    parts.config, seen.witnesses, now=seen.now, started_at=parts.state.started_at
                ),
            ),
        )
        essence = status.essence(self._shot)
        if essence != self._essence:
            self._essence = essence
            self._on_change()

    # --- beside the loop ---

    async def _watch_ready(self) -> None:
        """Ask the application whether it is ready while it runs; for status and timeline only."""
        while True:
            await asyncio.sleep(READY_INTERVAL)
            if self._parts.workload.state().phase.value != Phase.RUNNING.value:
                continue
            ready = await self._parts.workload.ready()
            if ready and not self._ready:
                self._timeline.ready()
            if ready != self._ready:
                self._ready = ready
                self.wake()

    async def _watch_address(self) -> None:
        """Check the virtual addresses against this node's interfaces, at the start and now and then."""
        while True:
            found = await self._parts.vip.check()
            problems = tuple(status.Problem(item.field, item.message, item.mend) for item in found)
            if problems != self._vip_problems:
                for problem in problems:
                    message = f"{problem.field}: {problem.message}; {problem.mend}"
                    self._parts.events.warning("VirtualIPRefused", message)
                self._vip_problems = problems
                self.wake()
            await asyncio.sleep(PROBLEM_INTERVAL)
