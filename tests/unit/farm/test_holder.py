"""The holder's leases, on a clock of the test's own and a kernel that only notes what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping
from typing import Any

import pytest

from tests.unit.farm.cases import T, settings
from twinhull_sidecar.farm import holder
from twinhull_sidecar.farm.holder import NOTHING, FarmError, FarmHolder, Wanted
from twinhull_sidecar.farm.ways import BOTH, PASS, SOLO, Way

LEASE = T / 2
SERVE = Wanted(hold=True, announce=True, way=SOLO)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0


class FakeKernel:
    """Notes calls; ``takes`` and ``preparing``: how long a lease and the tables take; ``fails``: why not."""

    clock: Clock
    made: FakeKernel

    def __init__(self, *_: object) -> None:
        FakeKernel.made = self
        self.calls: list[str] = []
        self.leases: list[float] = []
        self.takes = self.preparing = 0.0
        self.fails = ""
        self.capable = self.lan = True
        self.stale = False

    def prepare(self, peer_macs: Mapping[str, str], peer_pods: Mapping[str, str]) -> None:
        self.clock.now += self.preparing

    def lease(self, way: Way | None, announce: bool, hold: bool, seconds: float) -> None:
        if self.fails:
            raise OSError(5, self.fails)
        self.clock.now += self.takes
        self.calls.append(f"lease {way.name if way else None}{' announced' if announce else ''}")
        self.leases.append(round(seconds, 3))

    def drop(self) -> None:
        self.calls.append("drop")

    def announce(self) -> None:
        self.calls.append("announce")

    def forget(self) -> None:
        self.calls.append("forget")

    def look(self) -> None:
        pass

    def uninstall(self) -> None:
        self.calls.append("uninstall")

    def probing(self, peer_macs: Collection[str]) -> Any:
        raise NotImplementedError


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    FakeKernel.clock = made
    monkeypatch.setattr(holder, "_now", lambda: made.now)
    monkeypatch.setattr(holder, "Kernel", FakeKernel)
    return made


async def renewed(made: FarmHolder, clock: Clock) -> None:
    made.renew(clock.now + LEASE)
    # The thread's work is over when a call behind it is.
    await asyncio.get_running_loop().run_in_executor(made._thread, int)


async def test_a_decision_is_in_force_for_one_lease_and_announced_once(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(SERVE)
    kernel = FakeKernel.made
    assert kernel.calls == ["lease solo announced", "announce"]
    assert kernel.leases == [LEASE]
    assert made.held()
    assert made.announced_at == clock.now
    await made.apply(Wanted(hold=True, announce=True, way=BOTH))
    assert kernel.calls[2:] == ["lease both announced"]
    clock.now += LEASE
    assert not made.held()
    await made.close()
    assert kernel.calls[-2:] == ["drop", "uninstall"]


async def test_renewing_asks_the_kernel_now_and_then(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(SERVE)
    for _ in range(40):
        clock.now += LEASE / 10
        await renewed(made, clock)
        assert made.held()
    assert 10 <= len(FakeKernel.made.leases) <= 20
    await made.close()


async def test_an_expired_hold_is_not_revived_by_renewing(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(SERVE)
    clock.now += LEASE
    await renewed(made, clock)
    await renewed(made, clock)
    assert not made.held()
    assert FakeKernel.made.calls[2:] == ["drop"]
    await made.apply(SERVE)
    assert made.held()
    # It is a new beginning: neighbours are told again.
    assert FakeKernel.made.calls[3:] == ["lease solo announced", "announce"]
    await made.close()


async def test_what_the_kernel_did_too_late_is_taken_back(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(SERVE)
    FakeKernel.made.takes = LEASE
    clock.now += LEASE / 2
    await renewed(made, clock)
    assert not made.held()
    assert FakeKernel.made.calls[-1] == "drop"
    await made.close()


async def test_a_decision_that_waited_too_long_for_the_tables_is_not_carried_out(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    FakeKernel.made.preparing = LEASE
    with pytest.raises(FarmError, match="took longer than a lease"):
        await made.apply(SERVE)
    assert not made.held()
    assert FakeKernel.made.calls == ["drop"]
    FakeKernel.made.preparing = LEASE / 2
    await made.apply(SERVE)
    assert made.held()
    await made.close()


async def test_what_the_kernel_refuses_leaves_nothing_held(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(SERVE)
    FakeKernel.made.fails = "no buffer space"
    with pytest.raises(FarmError, match="no buffer space"):
        await made.apply(Wanted(hold=True, announce=True, way=BOTH))
    assert not made.held()
    assert FakeKernel.made.calls[-1] == "drop"
    await made.close()


async def test_connections_of_an_application_that_is_gone_are_forgotten(clock: Clock) -> None:
    made = FarmHolder(settings(), None)
    await made.apply(Wanted(hold=True, announce=False, way=PASS))
    await asyncio.get_running_loop().run_in_executor(made._slow, int)
    assert FakeKernel.made.calls == ["lease pass", "forget"]
    await made.apply(NOTHING)
    assert not made.held()
    assert FakeKernel.made.calls[-1] == "drop"
    await made.close()
    await made.close()
