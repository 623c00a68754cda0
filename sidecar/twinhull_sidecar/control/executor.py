"""Carries out the decision's effects: fast ones at once, slow ones one at a time beside the loop."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from twinhull_sidecar.control.engine import EngineRunner
from twinhull_sidecar.control.persisted import Store
from twinhull_sidecar.fencing.peer import PeerFence
from twinhull_sidecar.role.model import (
    FAST,
    AbortPrimary,
    AllowDiscard,
    AskVotes,
    Effect,
    Exit,
    Fence,
    FencePeer,
    GoAlone,
    HoldVip,
    Initialise,
    KillApplication,
    Outcome,
    Persist,
    ProbeView,
    ProbeVip,
    RenewLease,
    Resync,
    ReturnVotes,
    StartApplication,
    StartPrimary,
    StartSecondary,
    StopApplication,
    StopPrimary,
    StopSecondary,
    Verify,
    WithdrawVip,
)
from twinhull_sidecar.vip import VipHolder
from twinhull_sidecar.witness.watch import Witnesses
from twinhull_sidecar.workload.adapter import Workload

log = logging.getLogger(__name__)

NANOSECONDS = 1_000_000_000
#: Seconds for the probe in an orderly change, where the other node has withdrawn the address already.
SHORT_PROBE = 0.3
#: Seconds between a probe that was answered and the next one, at first and when that goes on for long.
QUICK_PAUSE, QUICK_FOR, SLOW_PAUSE = 0.1, 5.0, 1.0


class TakenError(OSError):
    """Another station on the LAN has virtual addresses of the module."""

    def __init__(self, addresses: Iterable[str]) -> None:
        self.addresses = tuple(addresses)
        taken = ", ".join(self.addresses)
        super().__init__(
            f"another station on the LAN has {taken}; remove it there, or give the module another"
        )


@dataclass
class Executor:
    """Effects in, outcomes out. ``on_end`` is called when a slow effect or a probe has ended.

    Whoever drives it never gives a slow effect while :attr:`busy` is set.
    """

    engine: EngineRunner
    workload: Workload
    vip: VipHolder
    store: Store
    witnesses: Witnesses
    fence: PeerFence | None
    now: Callable[[], float]
    lease: float
    probe_timeout: float
    on_end: Callable[[], None]
    busy: Effect | None = None
    probe: ProbeView | None = None
    exit_wanted: bool = False

    def __post_init__(self) -> None:
        self._outcomes: list[Outcome] = []
        #: Since when every probe was answered or failed.
        self._refused_since: float | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def outcomes(self) -> tuple[Outcome, ...]:
        """The outcomes since the last call."""
        ended, self._outcomes = tuple(self._outcomes), []
        return ended

    def carry_out(self, effects: Iterable[Effect], decided_at: float) -> None:
        """Begin every effect, in order; the fast ones are done when this returns.

        ``decided_at``: the time of the observation that they rest on. When the process stood still since then,
        only what gives something up is done; the next decision sees how things are.
        """
        for effect in effects:
            if isinstance(effect, FAST):
                if isinstance(effect, Fence | KillApplication) or not self._stale(decided_at):
                    self._fast(effect)
            else:
                assert self.busy is None, f"{effect} while {self.busy} runs"
                self.busy = effect
                self._spawn(self._slow(effect, decided_at))

    def _stale(self, decided_at: float) -> bool:
        return self.now() - decided_at > self.lease / 2

    async def settle(self, timeout: float) -> None:
        """Wait for what still runs; what takes longer than ``timeout`` seconds is left."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def _spawn(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _fast(self, effect: Effect) -> None:
        match effect:
            case RenewLease():
                self.engine.engine.renew_lease(int(effect.acknowledging_until * NANOSECONDS))
                self.workload.renew(effect.until)
                self.vip.renew(effect.until)
            case Fence():
                self.engine.engine.fence()
            case KillApplication():
                self.workload.kill()
            case ProbeVip():
                if self._may_probe():
                    self.probe = ProbeView(started_at=self.now())
                    self._spawn(self._probe(self.probe.started_at))

            case AskVotes(generation, seize):
                self.witnesses.ask(generation, seize)
            case ReturnVotes(generation):
                self.witnesses.give_back(generation)
            case FencePeer() if self.fence is not None:
                self.fence.begin()

    def _may_probe(self) -> bool:
        """A probe that is answered ends at once: the next one waits a little, and longer when that goes on."""
        probe, now = self.probe, self.now()
        if probe is None or self._refused_since is None:
            return probe is None or probe.finished_at is not None
        pause = QUICK_PAUSE if now - self._refused_since < QUICK_FOR else SLOW_PAUSE
        return probe.finished_at is not None and now - probe.finished_at >= pause

    async def _probe(self, started_at: float) -> None:
        try:
            taken = await self.vip.probe(self.probe_timeout)
        except OSError as error:
            self.probe = ProbeView(started_at, self.now(), error=str(error))
        else:
            self.probe = ProbeView(started_at, self.now(), taken=tuple(taken))
        if not self.probe.taken and self.probe.error is None:
            self._refused_since = None
        elif self._refused_since is None:
            self._refused_since = started_at
        self.on_end()

    async def _hold(self) -> None:
        """Hold the addresses, unless another station of the LAN has one (DESIGN.md R7)."""
        probe = self.probe
        if (
            probe is None
            or probe.finished_at is None
            or self.now() - probe.finished_at > self.lease
            or probe.taken
        ):
            # Nobody has asked just now, as the decision does before a promotion by silence.
            taken = await self.vip.probe(min(self.probe_timeout, SHORT_PROBE))
            if taken:
                raise TakenError(taken)
        await self.vip.hold()

    async def _slow(self, effect: Effect, decided_at: float) -> None:
        begun = self.now()
        try:
            if self._stale(decided_at):
                raise TimeoutError("the process stood still before it could begin")
            outcome = await self._carry_out(effect)
        except Exception as error:
            # Whatever went wrong, the decision hears of it: it tries again or does something else.
            taken = error.addresses if isinstance(error, TakenError) else ()
            outcome = Outcome(effect, ok=False, message=str(error) or type(error).__name__, taken=taken)
        seconds = round(self.now() - begun, 3)
        fields = {"effect": type(effect).__name__, "seconds": seconds}
        if outcome.ok:
            log.info("%s took %.3f s", effect, seconds, extra={"fields": fields})
        else:
            log.warning("%s failed: %s", effect, outcome.message, extra={"fields": fields})
        self._outcomes.append(outcome)
        self.busy = None
        self.on_end()

    async def _carry_out(self, effect: Effect) -> Outcome:  # noqa: PLR0912
        engine, call = self.engine.engine, self.engine.call
        match effect:
            case Initialise():
                await call(engine.initialise)
            case StartPrimary(alone):
                await call(engine.start_primary, alone)
            case GoAlone():
                await call(engine.go_alone)
            case StopPrimary(timeout):
                answer = json.loads(await call(engine.stop_primary, timeout))
                return Outcome(effect, clean=answer["clean"], token=answer["token"])
            case AbortPrimary():
                await call(engine.abort_primary)
            case StartSecondary():
                await call(engine.start_secondary)
            case StopSecondary():
                answer = json.loads(await call(engine.stop_secondary))
                return Outcome(effect, message=answer["why"] or "", token=answer["token"])
            case Resync():
                await call(engine.resync)
            case Verify(repair):
                await call(engine.verify, repair)
            case AllowDiscard(generation):
                await call(engine.allow_discard, generation)
            case HoldVip():
                await self._hold()
            case WithdrawVip():
                await self.vip.withdraw()
            case StartApplication(epoch):
                await self.workload.start(epoch)
            case StopApplication(grace):
                await self.workload.stop(grace)
            case Persist(persisted):
                await asyncio.get_running_loop().run_in_executor(None, self.store.save, persisted)
            case Exit():
                self.exit_wanted = True
            case _:
                raise AssertionError(f"{effect} is not a slow effect")
        return Outcome(effect)
