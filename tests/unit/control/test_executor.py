"""Effects are carried out once, in order, at most one slow one at a time; a process that stood still begins none."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.doubles import EngineDouble, VipDouble, WitnessesDouble, WorkloadDouble
from twinhull_sidecar.control.engine import EngineRunner
from twinhull_sidecar.control.executor import Executor
from twinhull_sidecar.control.persisted import Store
from twinhull_sidecar.role.model import (
    Exit,
    Fence,
    HoldVip,
    Initialise,
    KillApplication,
    Outcome,
    Persist,
    Persisted,
    ProbeVip,
    RenewLease,
    StartApplication,
    StartPrimary,
    StopPrimary,
)


class Bench:
    def __init__(self, directory: Path) -> None:
        self.engine, self.vip, self.workload = EngineDouble(), VipDouble(), WorkloadDouble()
        self.time = 100.0
        self.ended = asyncio.Event()
        self.store = Store(directory)

    async def open(self) -> None:
        self.runner = await EngineRunner.open(lambda: self.engine, lambda: None)
        parts: dict[str, Any] = {"vip": self.vip, "workload": self.workload, "witnesses": WitnessesDouble()}
        self.executor = Executor(
            engine=self.runner,
            fence=None,
            store=self.store,
            now=lambda: self.time,
            lease=1.5,
            probe_timeout=0.9,
            on_end=self.ended.set,
            **parts,
        )

    async def outcome(self) -> Outcome:
        async with asyncio.timeout(2):
            await self.ended.wait()
        self.ended.clear()
        [outcome] = self.executor.outcomes()
        return outcome


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.open()
    yield made
    await made.executor.settle(1)
    await made.runner.close()


async def test_a_lease_reaches_engine_application_and_address(bench: Bench) -> None:
    bench.executor.carry_out([RenewLease(101.5)], 100.0)
    assert bench.engine.lease_ns == 101_500_000_000
    assert bench.workload.calls == ["renew"]
    assert bench.vip.calls == ["renew"]


async def test_a_slow_effect_makes_busy_until_its_outcome(bench: Bench) -> None:
    bench.executor.carry_out([Fence(), StartPrimary(alone=True)], 100.0)
    assert bench.executor.busy == StartPrimary(alone=True)
    assert bench.engine.calls == ["fence"]
    outcome = await bench.outcome()
    assert outcome == Outcome(StartPrimary(alone=True))
    assert bench.executor.busy is None
    await bench.runner.refresh_record(1)
    assert bench.runner.record["alone"] is True


async def test_a_failure_is_an_outcome_with_its_message(bench: Bench) -> None:
    bench.engine.failing["initialise"] = RuntimeError("the disk is full; free some")
    bench.executor.carry_out([Initialise()], 100.0)
    outcome = await bench.outcome()
    assert not outcome.ok
    assert outcome.message == "the disk is full; free some"
    assert bench.executor.busy is None


async def test_a_process_that_stood_still_only_gives_up(bench: Bench) -> None:
    bench.time = 101.0
    bench.executor.carry_out([RenewLease(101.5), KillApplication(), HoldVip()], 100.0)
    outcome = await bench.outcome()
    assert not outcome.ok
    assert "stood still" in outcome.message
    assert bench.engine.lease_ns == 0
    assert bench.workload.calls == ["kill"]
    assert bench.vip.calls == []


async def test_a_probe_runs_beside_a_slow_effect_and_only_once_at_a_time(bench: Bench) -> None:
    bench.vip.taken = ["10.0.0.9"]
    bench.executor.carry_out([ProbeVip(), ProbeVip(), StartApplication(epoch=3)], 100.0)
    assert bench.executor.probe is not None
    assert bench.executor.probe.finished_at is None
    await bench.executor.settle(2)
    assert bench.executor.probe.taken == ("10.0.0.9",)
    assert bench.vip.calls == ["probe"]
    assert bench.workload.calls == ["start(3)"]


async def test_an_answered_probe_is_repeated_soon_and_later_on_less_often(bench: Bench) -> None:
    bench.vip.taken = ["10.0.0.9"]

    async def probes(*times: float) -> int:
        before = len(bench.vip.calls)
        for bench.time in times:
            bench.executor.carry_out([ProbeVip()], bench.time)
            await bench.executor.settle(2)
        return len(bench.vip.calls) - before

    assert await probes(100.0, 100.01, 100.05) == 1
    assert await probes(100.2, 100.4) == 2
    assert await probes(106.0, 106.5, 106.9) == 1
    bench.vip.taken = []
    assert await probes(107.1) == 1
    # Nobody answers any more: the decision may ask as often as it likes.
    assert await probes(107.11, 107.12) == 2


async def test_an_address_that_another_station_has_is_not_held(bench: Bench) -> None:
    bench.vip.taken = ["10.0.0.9"]
    bench.executor.carry_out([HoldVip()], 100.0)
    outcome = await bench.outcome()
    assert not outcome.ok
    assert outcome.message.startswith("another station on the LAN has 10.0.0.9; remove it there")
    assert outcome.taken == ("10.0.0.9",)
    assert bench.vip.calls == ["probe"]


async def test_an_address_that_was_just_probed_is_not_probed_again(bench: Bench) -> None:
    bench.executor.carry_out([ProbeVip()], 100.0)
    await bench.executor.settle(2)
    bench.ended.clear()
    bench.executor.carry_out([HoldVip()], 100.0)
    assert (await bench.outcome()).ok
    assert bench.vip.calls == ["probe", "hold"]


async def test_stop_primary_tells_clean_and_token(bench: Bench) -> None:
    bench.executor.carry_out([StopPrimary(timeout=3)], 100.0)
    assert await bench.outcome() == Outcome(StopPrimary(timeout=3), clean=False, token=None)


async def test_what_is_persisted_is_read_back(bench: Bench) -> None:
    persisted = Persisted(intent=4, stopped=True)
    bench.executor.carry_out([Persist(persisted)], 100.0)
    assert (await bench.outcome()).ok
    assert bench.store.load() == persisted


async def test_exit_is_remembered(bench: Bench) -> None:
    bench.executor.carry_out([Exit()], 100.0)
    await bench.outcome()
    assert bench.executor.exit_wanted
