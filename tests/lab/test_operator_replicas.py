"""Two operators on a real API server, with the chart's rights: one acts, both serve, nothing happens twice."""

from __future__ import annotations

import asyncio
import socket
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.figures import figure
from tests.lab.api_server import ApiServer, api_server
from tests.lab.operator_process import NAMESPACE, eventually, grant_rights, operator, start_sidecar
from tests.lab.test_resource_rules import manifest
from tests.unit.operator.console_bench import Page, read_event
from twinhull_sidecar.api import sidecar_pb2 as pb

__all__ = ["api_server"]

VALUES = ("operator.replicas=2", "console.enabled=true")
LEASE = "twinhull-operator"


def free_port() -> int:
    """A port of loopback that nobody has now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Replica:
    """One operator: its name in the election, and where it serves."""

    name: str
    log: Path
    console: int = field(default_factory=free_port)
    metrics: int = field(default_factory=free_port)

    def environment(self) -> dict[str, str]:
        """What the chart would tell it."""
        return {
            "TWINHULL_LEASE": f"{NAMESPACE}/{LEASE}",
            "TWINHULL_IDENTITY": self.name,
            "TWINHULL_CONSOLE_PORT": str(self.console),
            "TWINHULL_METRICS_PORT": str(self.metrics),
        }

    def samples(self) -> dict[str, float]:
        """Its metrics page."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs}

    def changes(self) -> float:
        """How many requests that change something it has made of the API server."""
        name = 'twinhull_operator_api_requests_total{method="'
        return sum(
            value
            for key, value in self.samples().items()
            if key.startswith(name) and not key.startswith(f'{name}GET"') and 'status="0"' not in key
        )


@dataclass
class Bench:
    """An API server, a module's namespace, and a user who may give orders."""

    server: ApiServer
    kubeconfig: Path
    namespace: str
    directory: Path

    def module(self) -> dict[str, Any]:
        """The module as the API server has it."""
        return self.server.get("mirrormodule", "pg", "-n", self.namespace)

    def apply(self, **spec: Any) -> int:
        """Create or change it; its generation."""
        made = manifest("pg", **spec)
        made["metadata"]["namespace"] = self.namespace
        self.server.apply(made)
        return int(self.module()["metadata"]["generation"])

    def is_done(self, generation: int) -> bool:
        """Whether an operator has brought this generation into the cluster."""
        return bool(self.module().get("status", {}).get("observedGeneration") == generation)

    def holder(self) -> str | None:
        """Who acts, by the Lease."""
        leases = self.server.get("leases", "-n", NAMESPACE)["items"]
        named = [one for one in leases if one["metadata"]["name"] == LEASE]
        return named[0]["spec"].get("holderIdentity") if named else None

    def events(self) -> Counter[str]:
        """How often each event of the module was told: a repeated one would have a count or a second object."""
        found: Counter[str] = Counter()
        for event in self.server.get("events", "-n", self.namespace)["items"]:
            found[event["reason"]] += int(event.get("count") or 1)
        return found

    def objects(self) -> dict[str, Any]:
        """What must be made once only: the certificates' uids and contents, the ports."""
        secrets = self.server.get("secrets", "-n", self.namespace)["items"]
        kept: dict[str, Any] = {
            one["metadata"]["name"]: (one["metadata"]["uid"], one["data"]) for one in secrets
        }
        return {**kept, "port": self.module()["status"]["basePort"]}


@pytest.fixture
def bench(api_server: ApiServer, tmp_path: Path) -> Iterator[Bench]:
    """A namespace of the test's own; no Lease of an earlier test."""
    rights = grant_rights(api_server, tmp_path, *VALUES)
    namespace = f"r{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", namespace)
    api_server.kubectl("delete", "lease", LEASE, "-n", NAMESPACE, "--ignore-not-found")
    api_server.kubectl("create", "serviceaccount", "user", "-n", namespace)
    role = ("--clusterrole=twinhull-operator-user", f"--serviceaccount={namespace}:user")
    api_server.kubectl("create", "rolebinding", "user", "-n", namespace, *role)
    yield Bench(api_server, rights, namespace, tmp_path)
    api_server.kubectl("delete", "mirrormodules", "--all", "-n", namespace, "--timeout=20s")


async def order_by_console(bench: Bench, replica: Replica) -> None:
    """Sign in at this replica's console, see the module protected, and order a comparison."""
    base, key = f"https://127.0.0.1:{replica.console}", f"MirrorModule/{bench.namespace}/pg"
    token = bench.server.kubectl("create", "token", "user", "-n", bench.namespace).strip()
    jar, connector = aiohttp.CookieJar(unsafe=True), aiohttp.TCPConnector(ssl=False)
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:
        page = Page(session, base)
        assert await page.login(token) == 200
        async with asyncio.timeout(60), page.http.get(f"{base}/api/stream") as stream:
            shown = await read_event(stream.content, "modules")
            while [module["colour"] for module in shown] != ["green"]:
                shown = [await read_event(stream.content, "module")]
        status, answer = await page.order(key, "verify::")
        assert status == 202, answer


async def test_the_other_operator_goes_on_after_kill_9_and_nothing_is_done_twice(bench: Bench) -> None:
    replicas = {name: Replica(name, bench.directory / f"{name}.log") for name in ("first", "second")}
    generation = bench.apply()
    with ExitStack() as running:
        processes = {
            name: running.enter_context(operator(bench.kubeconfig, one.log, **one.environment()))
            for name, one in replicas.items()
        }
        module = await eventually(lambda: bench.module() if bench.is_done(generation) else None, 60)
        active = replicas[await eventually(bench.holder)]
        idle = next(one for one in replicas.values() if one is not active)
        one, a = await start_sidecar(bench.server, module, "node-a", "127.0.0.11", bench.directory)
        two, b = await start_sidecar(bench.server, module, "node-b", "127.0.0.12", bench.directory)
        ready = pb.Application(phase="Running", ready=True)
        vip = pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)
        await a.say(
            role="Primary",
            in_sync=True,
            application=ready,
            virtual_ips=[vip],
            peer=pb.Peer(node="node-b", heard=True, role="Secondary"),
            events=[pb.Event(time=time.time(), type="Normal", code="Promoted", message="serves")],
        )
        await b.say(role="Secondary", in_sync=True, peer=pb.Peer(node="node-a", heard=True, role="Primary"))
        await eventually(lambda: bench.module()["status"].get("sync") == "InSync", 60)
        await eventually(lambda: bench.events()["Promoted"])

        # One acts: what the other asks changes nothing, and it shows no module in its metrics.
        before = await asyncio.to_thread(idle.changes)
        generation = bench.apply(failover={"detectionTimeout": "4s"})
        await eventually(lambda: bench.is_done(generation), 60)
        assert await asyncio.to_thread(idle.changes) == before
        shown = {one.name: await asyncio.to_thread(one.samples) for one in replicas.values()}
        assert (
            shown[active.name]["twinhull_operator_leader"],
            shown[idle.name]["twinhull_operator_leader"],
        ) == (1, 0)
        told = {
            name: any(key.startswith("twinhull_module_") for key in found) for name, found in shown.items()
        }
        assert told == {active.name: True, idle.name: False}

        # Both serve the console, and an order at either reaches the sidecar once.
        for replica in (idle, active):
            await order_by_console(bench, replica)
            done = pb.LastOrder(id=f"done {replica.name}", action="verify", state="done")
            await a.say(last_order=done)
        assert a.orders == ["verify", "verify"]

        made = bench.objects()
        processes[active.name].kill()
        killed = time.monotonic()
        happened = pb.Event(time=time.time(), type="Normal", code="Noted", message="while nobody acts")
        await a.say(events=[happened])
        generation = bench.apply(failover={"detectionTimeout": "5s"})
        await eventually(lambda: bench.is_done(generation), 90)
        took = time.monotonic() - killed
        figure(
            f"two operators, kill -9 of the active one: a change is reconciled by the other after {took:.1f} s"
        )
        assert bench.holder() == idle.name
        await eventually(lambda: bench.events()["Noted"])

        # The first one comes back, looks on, and takes over at once when the other ends in order.
        again = running.enter_context(operator(bench.kubeconfig, active.log, **active.environment()))
        await eventually(lambda: _answers(active), 60)
        assert bench.holder() == idle.name
        processes[idle.name].terminate()
        await eventually(lambda: bench.holder() == active.name, 60)
        generation = bench.apply(failover={"detectionTimeout": "6s"})
        await eventually(lambda: bench.is_done(generation), 60)
        assert again.poll() is None

        assert bench.objects() == made
        assert bench.events() == Counter(Promoted=1, Noted=1, ConsoleOrder=2)
        assert a.orders == ["verify", "verify"]
        await one.stop(0)
        await two.stop(0)
    for replica in replicas.values():
        assert "Traceback" not in replica.log.read_text()


def _answers(replica: Replica) -> bool:
    try:
        return bool(replica.samples())
    except OSError:
        return False
