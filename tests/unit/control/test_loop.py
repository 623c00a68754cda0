"""The loop around the decision: nothing is lost by a failed turn, orders reach who can carry them out, SIGTERM ends."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import pytest

from tests.unit.control.doubles import EngineDouble, VipDouble, WitnessesDouble, WorkloadDouble, module
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.checkers.watching import Target, Watches
from twinhull_sidecar.control import observe
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.engine import EngineRunner
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.executor import Executor
from twinhull_sidecar.control.loop import ControlLoop, Parts
from twinhull_sidecar.control.orders import OrderDesk
from twinhull_sidecar.control.persisted import Store
from twinhull_sidecar.heartbeat import LinkHealth, ReceivedMessage
from twinhull_sidecar.role.decide import begin, decide
from twinhull_sidecar.role.model import Decision, Observation, Order, PeerMessage, Persisted, State

DECIDE = "twinhull_sidecar.control.loop.decide"


class HeartbeatDouble:
    """Remembers what was published."""

    incarnation = "i"

    def __init__(self) -> None:
        self.published: list[Mapping[str, Any]] = []
        self.paces: list[float | None] = []
        self.heard_at: float | None = None
        self.refused: Counter[str] = Counter()

    def publish(self, message: Mapping[str, Any]) -> None:
        self.published.append(message)

    def pace(self, peers_timeout: float | None) -> None:
        self.paces.append(peers_timeout)

    def links(self) -> dict[str, LinkHealth]:
        return {"lan": LinkHealth(self.heard_at, None)}


class PeerOrdersDouble:
    """Remembers what was passed on."""

    def __init__(self) -> None:
        self.forwarded: list[Order] = []

    async def forward(self, order: Order) -> None:
        self.forwarded.append(order)


class Bench:
    def __init__(self, directory: Path) -> None:
        self.engine, self.vip, self.workload = EngineDouble(), VipDouble(), WorkloadDouble()
        self.heartbeat, self.peer_orders = HeartbeatDouble(), PeerOrdersDouble()
        self.config = module(str(directory))
        self.changes = 0

    async def open(self, directory: Path) -> None:
        self.runner = await EngineRunner.open(lambda: self.engine, self.wake)
        doubles: dict[str, Any] = {"vip": self.vip, "workload": self.workload}
        self.executor = Executor(
            engine=self.runner,
            fence=None,
            store=Store(directory),
            now=boottime,
            lease=1.5,
            probe_timeout=0.6,
            on_end=self.wake,
            witnesses=cast("Any", WitnessesDouble()),
            **doubles,
        )
        self.events = EventLog()
        others: dict[str, Any] = {"heartbeat": self.heartbeat, "peer_orders": self.peer_orders}
        self.parts = Parts(
            config=self.config,
            node="a",
            engine=self.runner,
            executor=self.executor,
            orders=OrderDesk(self.events, self.wake),
            watches=Watches((), Target("127.0.0.1", self.config.application).check, self.wake),
            events=self.events,
            state=begin(observe.settings(self.config, "a"), boottime(), Persisted()),
            **doubles,
            **others,
        )
        self.loop = ControlLoop(self.parts, self.changed)
        self.running = asyncio.create_task(self.loop.run())

    def wake(self) -> None:
        if hasattr(self, "loop"):
            self.loop.wake()

    def changed(self) -> None:
        self.changes += 1

    def hear(self, **fields: Any) -> None:
        """A heartbeat of the peer, with these fields."""
        now = boottime()
        self.heartbeat.heard_at = now
        payload = asdict(PeerMessage(node="b", uid=self.config.uid, **fields))
        self.loop.heard(ReceivedMessage("lan", payload, "j", 1, now, now, True))

    async def close(self) -> None:
        self.running.cancel()
        await asyncio.gather(self.running, return_exceptions=True)
        await self.executor.settle(1)
        await self.runner.close()

    async def until(self, condition: Any) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110
                await asyncio.sleep(0.01)


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    made = Bench(tmp_path)
    await made.open(tmp_path)
    yield made
    await made.close()


async def test_it_tells_at_once_and_says_why(bench: Bench) -> None:
    await bench.until(lambda: bench.heartbeat.published)
    assert bench.heartbeat.published[0]["node"] == "a"
    status = bench.loop.status()
    assert status.role == "Waiting"
    assert "b" in status.reason
    assert bench.changes >= 1
    await bench.until(lambda: len(bench.events))


async def test_sigterm_ends_a_node_that_does_not_serve(bench: Bench) -> None:
    await bench.until(lambda: bench.heartbeat.published)
    bench.loop.terminate()
    async with asyncio.timeout(10):
        await bench.running
    assert bench.heartbeat.published[-1]["leaving"] is True


async def test_a_failed_turn_loses_neither_orders_nor_outcomes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bench.until(lambda: bench.heartbeat.published)
    seen: list[Observation] = []
    real = decide
    failures = [RuntimeError("a bug")] * 3

    def failing(state: State, observation: Observation) -> Decision:
        if failures:
            raise failures.pop()
        seen.append(observation)
        return real(state, observation)

    monkeypatch.setattr(DECIDE, failing)
    reply = await bench.loop.order(pb.OrderRequest(action="stop", id="o1", user="anna"))
    assert reply.accepted
    await bench.until(lambda: any(observation.orders for observation in seen))
    assert [order.id for observation in seen for order in observation.orders] == ["o1"]


async def test_turn_after_turn_failing_ends_the_loop(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(state: State, observation: Observation) -> Decision:
        raise RuntimeError("a bug")

    monkeypatch.setattr(DECIDE, broken)
    with pytest.raises(RuntimeError, match="a bug"):
        async with asyncio.timeout(bench.config.detection_timeout * 3):
            await bench.running


async def test_an_order_of_the_primarys_is_passed_on_to_it(bench: Bench) -> None:
    bench.hear(serving=True, fresh=False, generation="g")
    await bench.until(lambda: bench.heartbeat.published)
    reply = await bench.loop.order(pb.OrderRequest(action="switchover", id="o1", user="anna"))
    assert reply.accepted
    assert [order.id for order in bench.peer_orders.forwarded] == ["o1"]
    again = await bench.loop.order(pb.OrderRequest(action="switchover", id="o1", user="anna"))
    assert again.accepted
    assert len(bench.peer_orders.forwarded) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (pb.OrderRequest(action="explode"), "choose one of switchover"),
        (pb.OrderRequest(action="stop", discard_peer=True), "goes with force-primary only"),
    ],
)
async def test_a_wrong_order_is_refused_with_what_would_be_right(
    bench: Bench, request_: pb.OrderRequest, message: str
) -> None:
    reply = await bench.loop.order(request_)
    assert not reply.accepted
    assert message in reply.message


async def test_heartbeats_are_sent_as_often_as_the_peers_timeout_needs(bench: Bench) -> None:
    bench.hear(detection_timeout=0.5)
    bench.hear(detection_timeout=0.0)  # refused
    bench.hear()
    assert bench.heartbeat.paces == [0.5, None]


async def test_a_heartbeat_that_cannot_be_understood_changes_nothing(bench: Bench) -> None:
    await bench.until(lambda: bench.heartbeat.published)
    now = boottime()
    bench.loop.heard(ReceivedMessage("lan", {"node": 1}, "j", 1, now, now, True))
    await asyncio.sleep(0.3)
    assert not bench.running.done()


async def test_nothing_is_decided_before_the_containers_have_come_to_their_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinhull_sidecar.control.loop.GATHER_PATIENCE", 0.5)
    made = Bench(tmp_path)
    made.workload.has_gathered = False
    await made.open(tmp_path)
    try:
        await asyncio.sleep(0.2)
        assert not made.heartbeat.published
        made.workload.has_gathered = True
        await made.until(lambda: made.heartbeat.published)
    finally:
        await made.close()


async def test_a_container_that_never_comes_delays_the_start_only_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("twinhull_sidecar.control.loop.GATHER_PATIENCE", 0.3)
    made = Bench(tmp_path)
    made.workload.has_gathered = False
    await made.open(tmp_path)
    try:
        await made.until(lambda: made.heartbeat.published)
    finally:
        await made.close()
