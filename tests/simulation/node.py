"""One simulated node: disk, process (decision, engine, executor), heartbeats, kernel leases, application."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.simulation.engine import DIAL, Engine
from tests.simulation.network import LINKS, Network
from tests.simulation.storage import Disk
from tests.simulation.witnesses import LOOK, TEST_INTERVAL, Outside
from tests.simulation.world import T, World
from twinhull_sidecar.role import decide as role
from twinhull_sidecar.role import model as m

if TYPE_CHECKING:
    from tests.simulation.history import History

#: Between decisions when nothing is going on, and when something is; shares of the detection timeout.
CALM, ALERT = 0.19, 0.06
SIMPLE = (
    m.HoldVip,
    m.WithdrawVip,
    m.StartApplication,
    m.AllowDiscard,
    m.Persist,
    m.StartSecondary,
    m.StopSecondary,
)


class Datagram:
    """One heartbeat."""

    __slots__ = ("echo", "incarnation", "message", "seq")

    def __init__(
        self, incarnation: int, seq: int, echo: tuple[int, int] | None, message: m.PeerMessage
    ) -> None:
        self.incarnation, self.seq, self.echo, self.message = incarnation, seq, echo, message


class Node:
    """State that outlives the process is in ``disk`` and in the kernel's leases; the rest is made by :meth:`boot`."""

    def __init__(self, history: History, index: int, settings: m.Settings) -> None:
        self.history, self.index, self.settings = history, index, settings
        self.world: World = history.world
        self.network: Network = history.network
        self.disk = Disk()
        self.alive = False
        self.frozen = False
        self.ids = itertools.count()
        self.incarnation = 0
        self.vip_until = self.app_until = 0.0
        self.awake_since = 0.0
        self.stopped_at: float | None = None  # its process is frozen or dead since
        self.reconfigured: float | None = None  # detection timeout of the next process
        self.slow = 0.02 * T  # typical duration of a slow effect
        self.crash_after: int | None = None  # crash at the n-th slow effect from now
        self.reason, self.code = "", ""
        self.engine = Engine(self)
        self.last_ack = 0.0
        self.held_since = 0.0  # when "no automatic failover" was last put on its disk

    @property
    def peer(self) -> Node:
        """The other node."""
        return self.history.nodes[1 - self.index]

    def leased_until(self) -> float:
        """When nothing that its process was leased is left, the process having stopped."""
        acknowledging = self.engine.lease_until if self.alive and self.engine.mode == "primary" else 0.0
        return max(acknowledging, self.app_until, self.vip_until)

    def new_id(self, kind: str) -> str:
        """A name that is unique in the history."""
        return f"{kind}{self.settings.node}{next(self.ids)}"

    def resync_time(self) -> float:
        """How long copying takes."""
        return self.world.random.uniform(0.05, 0.8) * T

    # -------------------------------------------------------------------------------------- process

    def boot(self) -> None:
        """A new process begins."""
        if self.alive:
            return
        now = self.world.now
        self.alive, self.frozen = True, False
        self.awake_since, self.stopped_at = now, None
        if self.reconfigured is not None:
            self.settings, self.reconfigured = (
                replace(self.settings, detection_timeout=self.reconfigured),
                None,
            )
        self.incarnation += 1
        self.engine = Engine(self)
        self.state = role.begin(self.settings, now, self.disk.persisted)
        self.message: m.PeerMessage | None = None  # nothing is said before the first decision
        self.phase, self.epoch, self.app_until = m.Phase.HELD, 0, 0.0
        self.links: dict[str, float] = {}
        self.peer_view: m.PeerView | None = None
        self.newest: tuple[int, int] = (-1, -1)  # of the peer: incarnation, sequence number
        self.seq = itertools.count()
        self.sent_at: list[float] = []
        self.inbox: list[tuple[str, Datagram]] = []
        self.busy: m.Effect | None = None
        self.outcomes: list[m.Outcome] = []
        self.orders: list[m.Order] = []
        self.probe: m.ProbeView | None = None
        self.outside = Outside(self)
        self.terminating = False
        self.due = 0.0
        incarnation = self.incarnation
        self._every(self.settings.interval, self.beat, incarnation)
        self._every(DIAL, self.engine.tick, incarnation)
        self._every(0.27 * T, self._application_writes, incarnation)
        if self.settings.tests:
            self._every(TEST_INTERVAL, self.outside.test, incarnation)
        if self.outside.votes:
            self._every(LOOK, self.outside.look, incarnation)
        self.wake_soon()

    def _every(self, period: float, action: Callable[[], None], incarnation: int) -> None:
        def run() -> None:
            if not self.alive or self.incarnation != incarnation:
                return
            if not self.frozen:
                action()
            self.world.after(period * (0.9 + 0.2 * self.world.random.random()), run)

        self.world.after(period * self.world.random.random(), run)

    def crash(self, *, power: bool) -> None:
        """The process dies; its kernel closes the stream, unless the power is gone."""
        if not self.alive:
            return
        self.stopped_at = self.stopped_at or self.world.now
        self.alive = self.frozen = False
        connection = self.engine.connection
        if power:
            self.vip_until = self.app_until = 0.0
            lost = self.disk.power_cut(self.world.random.random())
            self.history.power_lost(self, lost)
        elif connection is not None:
            connection.close(self.engine)
        self.phase = m.Phase.HELD

    def freeze(self) -> None:
        """The whole process stands still; the kernel goes on: it buffers datagrams, and lets leases run out."""
        if self.alive and not self.frozen:
            self.frozen, self.stopped_at = True, self.world.now

    def thaw(self) -> None:
        """Everything that waited happens now."""
        if not (self.alive and self.frozen):
            return
        self.frozen = False
        self.awake_since, self.stopped_at = self.world.now, None
        inbox, self.inbox = self.inbox, []
        for link, datagram in inbox:
            self._accept(link, datagram)
        self.run()
        self.history.resume_streams()

    # ------------------------------------------------------------------------------------ heartbeats

    def beat(self) -> None:
        """Send the present message on every link."""
        if self.message is None:
            return
        seq = next(self.seq)
        self.sent_at.append(self.world.now)
        echo = self.newest if self.newest[0] >= 0 else None
        datagram = Datagram(self.incarnation, seq, echo, self.message)
        network, world, peer = self.network, self.world, self.peer
        for link in LINKS:
            for _ in range(network.copies()):
                if network.up(link, self.index):
                    world.after(network.transit(), lambda link=link: peer.arrive(link, datagram))  # type: ignore[misc]

    def arrive(self, link: str, datagram: Datagram) -> None:
        """A datagram reaches the kernel."""
        if not self.alive or not self.network.up(link, 1 - self.index):
            return
        if self.frozen:
            if len(self.inbox) < self.history.receive_buffer:
                self.inbox.append((link, datagram))
        else:
            self._accept(link, datagram)

    def _accept(self, link: str, datagram: Datagram) -> None:
        position = (datagram.incarnation, datagram.seq)
        old_incarnation = datagram.incarnation < self.newest[0]
        if old_incarnation:
            return
        mine = datagram.echo is not None and datagram.echo[0] == self.incarnation
        known = position > self.newest
        first = datagram.incarnation > self.newest[0]
        if known:
            self.newest = position
        if first:
            self.beat()
        if not mine or datagram.echo is None:
            return
        now = self.world.now
        self.links[link] = now
        if not known:
            return
        before = self.peer_view.message if self.peer_view is not None else None
        self.peer_view = m.PeerView(
            message=datagram.message,
            received_at=now,
            acknowledged_at=self.sent_at[datagram.echo[1]],
            incarnation=str(datagram.incarnation),
        )
        if before is not datagram.message:
            self.wake_soon()

    # -------------------------------------------------------------------------------------- decision

    def wake_soon(self) -> None:
        """Call the decision at the next moment."""
        if self.due > self.world.now + 0.001 or self.due <= self.world.now - 1e-9:
            self._schedule(0.0005)

    def _schedule(self, delay: float) -> None:
        due = self.world.now + delay
        self.due = due

        def run() -> None:
            if self.due == due and self.alive and not self.frozen:
                self.run()

        self.world.at(due, run)

    def observation(self) -> m.Observation:
        """What the control loop gathers."""
        now = self.world.now
        outcomes, self.outcomes = tuple(self.outcomes), []
        orders, self.orders = tuple(self.orders), []
        self._expire()
        return m.Observation(
            now=now,
            record=self.disk.record,
            engine=self.engine.view(),
            workload=m.WorkloadView(self.phase, self.epoch),
            vip_held=self.vip_until > now,
            links=tuple(m.LinkView(name, at) for name, at in self.links.items()),
            peer=self.peer_view,
            probe=self.probe,
            witnesses=self.outside.views(),
            fence=self.outside.fence,
            busy=self.busy,
            outcomes=outcomes,
            orders=orders,
            terminating=self.terminating,
        )

    def _expire(self) -> None:
        if self.app_until <= self.world.now and self.phase is not m.Phase.FAILED:
            self.phase = m.Phase.HELD

    def run(self) -> None:
        """One turn of the control loop."""
        before = self.state
        decision = role.decide(self.state, self.observation())
        self.state, self.reason, self.code = decision.state, decision.reason, decision.code
        history = self.history
        if history.trace is not None and (
            before.role != decision.role
            or decision.effects[1:]
            or (decision.effects and not isinstance(decision.effects[0], m.RenewLease))
        ):
            history.log(self, f"{decision.role.value} {decision.code}: {decision.reason} {decision.effects}")
        for effect in decision.effects:
            self.carry_out(effect)
            if not self.alive:
                return
        if decision.message != self.message:
            self.message = decision.message
            self.beat()
        view, timeout = self.peer_view, self.settings.detection_timeout
        calm = self.busy is None and view is not None and self.world.now - view.received_at < 0.3 * timeout
        self._schedule(timeout * (CALM if calm and self.state.fenced_at is None else ALERT))

    # --------------------------------------------------------------------------------------- effects

    def carry_out(self, effect: m.Effect) -> None:
        """Fast ones at once; a slow one acts at some moment of its duration, and ends later."""
        now = self.world.now
        if isinstance(effect, m.RenewLease):
            self._renew(effect.until, effect.acknowledging_until)
        elif isinstance(effect, m.Fence):
            self.engine.lease_until = min(self.engine.lease_until, now)
        elif isinstance(effect, m.KillApplication):
            self.phase = m.Phase.HELD
            self.app_until = now
        elif isinstance(effect, m.ProbeVip):
            self._probe()
        elif isinstance(effect, m.AskVotes | m.ReturnVotes | m.FencePeer):
            self.outside.carry_out(effect)
        else:
            self._begin(effect)

    def _renew(self, until: float, writes_until: float) -> None:
        now = self.world.now
        self._expire()
        self.engine.lease_until = max(self.engine.lease_until, writes_until)
        self.app_until = max(self.app_until, until) if self.phase is not m.Phase.HELD else until
        if self.vip_until > now:
            self.vip_until = max(self.vip_until, until)
        self.engine.release()

    def _probe(self) -> None:
        begun = self.world.now
        self.probe = m.ProbeView(begun)
        incarnation = self.incarnation

        def finish() -> None:
            if self.alive and self.incarnation == incarnation:
                if self.frozen:
                    self.world.after(T / 10, finish)
                    return
                answered = self.network.lan_up and self.peer.vip_until > self.world.now
                self.probe = m.ProbeView(begun, self.world.now, ("vip",) if answered else ())
                self.wake_soon()

        self.world.after(0.15 * self.settings.detection_timeout, finish)

    def _begin(self, effect: m.Effect) -> None:
        assert self.busy is None
        self.busy = effect
        incarnation, begun = self.incarnation, self.world.now
        total = self.slow * (0.2 + 1.6 * self.world.random.random())
        moment = total * self.world.random.random()
        steps: list[tuple[float, Callable[[], None]]] = []
        if self.crash_after is not None:
            self.crash_after -= 1
            if self.crash_after < 0:
                self.crash_after = None
                when = self.world.random.choice((0.0, moment * 0.9, (moment + total) / 2, total))
                steps.append((when, lambda: self.history.crash_at_step(self)))
        acted = [False]

        def act() -> None:
            acted[0] = True
            self._act(effect, begun)

        def end() -> None:
            if acted[0]:
                self._end(m.Outcome(effect))
            else:  # thawed before the act: each waits apart
                self.world.after(T / 50, lambda: guard(end))

        steps.append((moment, act))

        def guard(action: Callable[[], None]) -> None:
            if not self.alive or self.incarnation != incarnation:
                return
            if self.frozen:
                self.world.after(T / 20, lambda: guard(action))
                return
            action()

        for when, action in steps:
            self.world.after(when, lambda action=action: guard(action))  # type: ignore[misc]
        if not isinstance(effect, m.StopPrimary):
            self.world.after(total, lambda: guard(end))

    def _end(self, outcome: m.Outcome) -> None:
        self.busy = None
        self.outcomes.append(outcome)
        if self.frozen:
            return
        self.run()

    def _act(self, effect: m.Effect, begun: float) -> None:  # noqa: PLR0912
        engine, now = self.engine, self.world.now
        if isinstance(effect, m.Initialise):
            engine.initialise()
        elif isinstance(effect, m.StartPrimary):
            self.history.promotes(self, effect.alone)
            engine.start_primary(effect.alone)
        elif isinstance(effect, m.GoAlone):
            self.history.goes_alone(self)
            engine.go_alone(effect.stream)
        elif isinstance(effect, m.StopPrimary):
            self._stop_primary(effect)
        elif isinstance(effect, m.AbortPrimary):
            engine.idle()
        elif isinstance(effect, m.StartSecondary):
            engine.start_secondary()
        elif isinstance(effect, m.StopSecondary):
            engine.idle()
        elif isinstance(effect, m.AllowDiscard):
            engine.discard = effect.generation
        elif isinstance(effect, m.HoldVip):
            self.vip_until = begun + self.settings.lease
        elif isinstance(effect, m.WithdrawVip):
            self.vip_until = now
        elif isinstance(effect, m.StartApplication):
            self.phase, self.epoch, self.app_until = (
                m.Phase.RUNNING,
                effect.epoch,
                begun + self.settings.lease,
            )
            self._expire()
        elif isinstance(effect, m.StopApplication):
            self.phase = m.Phase.HELD
        elif isinstance(effect, m.Persist):
            if effect.persisted.held and not self.disk.persisted.held:
                self.held_since = now
            self.disk.persisted = effect.persisted
        elif isinstance(effect, m.Exit):
            self.history.left(self)

    def _stop_primary(self, effect: m.StopPrimary) -> None:
        engine, incarnation = self.engine, self.incarnation
        over = [False]

        def done(clean: bool, token: str | None) -> None:
            if not over[0] and self.alive and self.incarnation == incarnation:
                over[0] = True
                self._end(m.Outcome(effect, clean=clean, token=token))

        def late() -> None:
            if not over[0] and self.alive and self.incarnation == incarnation:
                if self.frozen:
                    self.world.after(T / 10, late)
                else:
                    engine.idle()
                    done(False, None)

        self.world.after(effect.timeout, late)
        engine.stop_primary(done)

    # ----------------------------------------------------------------------------------- application

    def _application_writes(self) -> None:
        self._expire()
        if self.phase is m.Phase.RUNNING and len(self.engine.waiting) < 4:
            op = self.history.next_op()
            if not self.engine.write(op, flush=self.world.random.random() < 0.4):
                self.history.unused_op()

    def acknowledge(self, op: int) -> None:
        """The application's system call returns."""
        self.last_ack = self.world.now
        self.history.acknowledged(self, op)

    def fail_application(self) -> None:
        """It ends by itself."""
        if self.alive and self.phase is m.Phase.RUNNING:
            self.phase = m.Phase.FAILED
            self.wake_soon()
