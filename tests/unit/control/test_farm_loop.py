"""A farm's loop with doubles of the kernel, the peer and the application: who serves, what is told, how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.unit.control.doubles import WorkloadDouble, module
from tests.unit.control.test_loop import HeartbeatDouble
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.checkers import Checkers
from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.config import Checker, Farm, ServicePort, VirtualIP
from twinhull_sidecar.control import farm_network
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.farm_driver import Driver
from twinhull_sidecar.control.farm_flows import Flows
from twinhull_sidecar.control.farm_loop import FarmLoop
from twinhull_sidecar.control.farm_orders import FarmDesk
from twinhull_sidecar.control.farm_parts import FarmParts
from twinhull_sidecar.control.farm_peer import Word
from twinhull_sidecar.control.farm_persisted import FarmStore, Wish
from twinhull_sidecar.control.farm_watch import NetworkWatch
from twinhull_sidecar.control.farm_wishes import Wishes
from twinhull_sidecar.farm import NOTHING, FarmMessage, Phase, Wanted
from twinhull_sidecar.heartbeat import ReceivedMessage
from twinhull_sidecar.vip import AddressState, Problem
from twinhull_sidecar.workload import Phase as Running
from twinhull_sidecar.workload import WorkloadState

TIMEOUT = 0.4
ADDRESS = "10.0.0.50"


class HolderDouble:
    """Does at once what it is told; remembers it."""

    def __init__(self) -> None:
        self.announced_at: float | None = None
        self.applied: list[Wanted] = []
        self.failing: OSError | None = None
        self.renewed = 0
        self.capable = self.lan = True

    @property
    def wanted(self) -> Wanted:
        return self.applied[-1] if self.applied else NOTHING

    def macs(self) -> dict[str, str]:
        return {ADDRESS: "02:00:00:00:00:01"}

    def pods(self) -> dict[str, str]:
        return {}

    def held(self) -> bool:
        return self.wanted.way is not None

    def states(self) -> list[AddressState]:
        return [AddressState(ADDRESS, "eth0", self.held(), "")]

    def renew(self, until: float) -> None:
        self.renewed += 1

    async def check(self) -> list[Problem]:
        return []

    async def apply(self, wanted: Wanted) -> None:
        if self.failing is not None:
            raise self.failing
        self.applied.append(wanted)
        self.announced_at = boottime() if wanted.announce else self.announced_at

    async def withdraw(self) -> None:
        self.applied.append(NOTHING)

    async def close(self) -> None:
        self.applied.append(NOTHING)


class Bench:
    def __init__(self, directory: Path) -> None:
        checker = Checker("web", "tcp", 80, interval=0.1, rise=1, fall=1)
        self.config = module(
            str(directory),
            kind="FarmModule",
            farm=Farm(checkers=(checker,)),
            volumes=(),
            virtual_ips=(VirtualIP(ADDRESS, ports=(ServicePort("web", 80, 80),)),),
            detection_timeout=TIMEOUT,
        )
        self.holder, self.workload, self.heartbeat = HolderDouble(), WorkloadDouble(), HeartbeatDouble()
        self.healthy, self.flows = True, Flows()
        self.store = FarmStore(directory, self.config.uid)
        self.events = EventLog()

    def open(self, wish: Wish = Wish()) -> None:  # noqa: B008
        settings = farm_network.settings(self.config, "a")
        self.driver = Driver(settings, lambda _given: self.holder, boottime, self.wake, retry=0.1)
        self.desk = FarmDesk(self.events, self.wake)
        heartbeat: Any = self.heartbeat
        workload: Any = self.workload
        self.loop = FarmLoop(
            FarmParts(
                config=self.config,
                settings=settings,
                node="a",
                heartbeat=heartbeat,
                driver=self.driver,
                watch=NetworkWatch(
                    self.driver, settings, None, self.events, peer_macs=dict, on_change=self.wake
                ),
                workload=workload,
                checkers=Checkers(
                    self.config.farm.checkers if self.config.farm else (), "h", self.wake, self.check
                ),
                desk=self.desk,
                wishes=Wishes(wish, self.store, self.desk, self.wake),
                events=self.events,
                count=lambda _others: self.flows,
            ),
            lambda: None,
        )
        self.peer_says: FarmMessage | None = None
        self.extra: dict[str, Any] = {}
        self.running = asyncio.create_task(self.loop.run())
        self.speaking = asyncio.create_task(self._speak())

    async def check(self, checker: Checker, host: str) -> str:
        if not self.healthy:
            raise CheckError("refused")
        return "accepts"

    async def _speak(self) -> None:
        while True:
            if self.peer_says is not None:
                now = boottime()
                self.heartbeat.heard_at = now
                word = Word(self.peer_says, "Up", TIMEOUT, **self.extra)
                payload = word.payload() | {"hears_ms": 1.0}
                self.loop.heard(ReceivedMessage("lan", payload, "j", 1, now, now, True))
            await asyncio.sleep(TIMEOUT / 10)

    def wake(self) -> None:
        if hasattr(self, "loop"):
            self.loop.wake()

    def way(self) -> str | None:
        return None if self.holder.wanted.way is None else self.holder.wanted.way.name

    def role(self) -> str:
        return self.loop.status().role

    async def order(self, action: str) -> pb.LastOrder:
        """Give an order, wait for its outcome."""
        reply = await self.loop.order(pb.OrderRequest(action=action, user="anna"))
        assert reply.accepted, reply.message

        def over() -> bool:
            last = self.loop.status().last_order
            return last.id == reply.id and last.state in {"done", "failed"}

        await self.until(over)
        return self.loop.status().last_order

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(8):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    async def close(self) -> None:
        for task in (self.running, self.speaking):
            task.cancel()
        await asyncio.gather(self.running, self.speaking, return_exceptions=True)
        await self.driver.close()


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(farm_network, "look", lambda *_: farm_network.Surroundings())
    made = Bench(tmp_path)
    made.open()
    yield made
    await made.close()


PEER_UP = FarmMessage(Phase.UP)


async def test_alone_it_serves_everything_after_it_has_listened(bench: Bench) -> None:
    # The role is what is decided; the share shows when the kernel follows.
    await bench.until(lambda: bench.loop.status().farm.share == 1.0)
    assert (bench.role(), bench.way()) == ("Up", "solo")
    assert bench.loop.status().farm.announcing
    assert bench.heartbeat.published[-1]["announcing"] is True
    assert bench.heartbeat.published[0]["announcing"] is False
    assert bench.holder.renewed
    assert "renew" in bench.workload.calls


async def test_with_a_peer_it_has_its_share_and_takes_all_when_the_peer_is_lost(bench: Bench) -> None:
    bench.peer_says = PEER_UP
    await bench.until(lambda: bench.loop.status().farm.share == 0.5)
    assert bench.loop.status().peer.heard
    bench.peer_says = None
    await bench.until(lambda: bench.loop.status().farm.share == 1)
    await bench.until(lambda: bench.loop.status().last_failover.promoted)
    assert bench.loop.status().last_failover.cause == "PeerLost"
    assert {"PeerLost", "TookOver"} <= {event.code for event in bench.events}


async def test_a_failing_check_takes_the_share_and_a_passing_one_gives_it_back(bench: Bench) -> None:
    bench.peer_says = PEER_UP
    await bench.until(lambda: bench.role() == "Up")
    bench.healthy = False
    await bench.until(lambda: bench.way() == "drain")
    assert bench.heartbeat.published[-1]["phase"] == "DRAINING"
    assert bench.loop.status().reason_code == "ApplicationNotReady"
    bench.healthy = True
    await bench.until(lambda: bench.role() == "Up")


async def test_a_drain_is_remembered_and_refused_without_a_peer(bench: Bench) -> None:
    await bench.until(lambda: bench.role() == "Up")
    refused = await bench.order("drain")
    assert refused.state == "failed"
    assert "b does not serve now" in refused.message
    bench.peer_says = PEER_UP
    await bench.until(lambda: bench.loop.status().farm.share == 0.5)
    assert (await bench.order("drain")).state == "done"
    assert bench.way() == "drain"
    await bench.until(lambda: bench.store.load() == Wish(draining=True))
    assert bench.role() == "Draining"
    assert (await bench.order("resume")).state == "done"
    await bench.until(lambda: bench.role() == "Up")
    assert bench.store.load() == Wish()


async def test_an_order_to_the_module_reaches_the_other_node(bench: Bench) -> None:
    await bench.until(lambda: bench.role() == "Up")
    assert (await bench.order("stop")).state == "done"
    await bench.until(lambda: bench.workload.now.phase is Running.HELD)
    said = bench.heartbeat.published[-1]
    assert (said["intent"], said["stopped"]) == (1, True)
    await bench.until(lambda: bench.way() is None)
    assert bench.role() == "Stopped"
    # The peer knows of a newer order.
    bench.extra, bench.peer_says = {"intent": 2, "stopped": False}, PEER_UP
    await bench.until(lambda: bench.role() == "Up")
    await bench.until(lambda: bench.store.load() == Wish(intent=2))


async def test_an_application_that_ends_too_often_is_given_up_until_start(bench: Bench) -> None:
    await bench.until(lambda: bench.role() == "Up")
    for _ in range(bench.config.application.max_restarts + 1):
        await bench.until(lambda: bench.workload.now.phase is Running.RUNNING)
        bench.workload.now = WorkloadState(Running.FAILED, bench.workload.now.epoch, 1, "code 1")
        bench.wake()
    await bench.until(lambda: bench.loop.status().reason_code == "ApplicationFailed")
    assert bench.role() == "Waiting"
    await bench.until(lambda: bench.heartbeat.published[-1]["phase"] == "DOWN")
    assert (await bench.order("start")).state == "done"
    await bench.until(lambda: bench.role() == "Up")


async def test_sigterm_lets_connections_end_then_the_peer_take_over_then_stops(bench: Bench) -> None:
    await bench.until(lambda: bench.role() == "Up")
    bench.peer_says, bench.flows = PEER_UP, Flows(tcp=2)
    await bench.until(lambda: bench.loop.status().farm.share == 0.5)
    bench.loop.terminate()
    await bench.until(lambda: bench.way() == "drain")
    assert (bench.role(), bench.workload.now.phase) == ("Draining", Running.RUNNING)
    bench.flows = Flows()
    await bench.until(lambda: bench.heartbeat.published[-1]["yielding"] and bench.way() == "pass")
    assert bench.workload.now.phase is Running.RUNNING
    bench.peer_says = FarmMessage(Phase.UP, announcing=True)
    async with asyncio.timeout(8):
        await bench.running
    assert bench.heartbeat.published[-1]["leaving"] is True
    assert bench.workload.state() == WorkloadState(Running.HELD, 1)
    assert bench.workload.calls.count("stop") == 1


async def test_addresses_that_the_kernel_refuses_are_tried_again(bench: Bench) -> None:
    bench.holder.failing = OSError("no such device")
    await bench.until(lambda: bench.loop.status().reason_code == "AddressesNotHeld")
    assert "no such device" in bench.loop.status().problems[0].message
    assert not bench.loop.status().farm.announcing
    # The peer must not give up for a node that cannot.
    assert not any(one["announcing"] for one in bench.heartbeat.published)
    bench.holder.failing = None
    await bench.until(lambda: bench.role() == "Up")


async def test_a_mirrors_order_is_refused_with_what_would_be_right(bench: Bench) -> None:
    reply = await bench.loop.order(pb.OrderRequest(action="switchover"))
    assert not reply.accepted
    assert "choose one of drain, resume, start, stop, restart" in reply.message


async def test_turn_after_turn_failing_ends_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("twinhull_sidecar.control.farm_loop.decide", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        async with asyncio.timeout(5):
            await bench.running
