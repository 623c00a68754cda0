"""What the farm's tests share: a laboratory with many client addresses and a router, farm nodes, their clients."""

from __future__ import annotations

import json
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest

from tests.lab.netns import CLIENT, NODES, Lab, Pod
from tests.lab.vip_harness import ENVIRONMENT, ROOT, boottime

PORT, TARGET_PORT = 80, 8080
#: Addresses that the client has beside its own: a /16 and a /64, routed to it by the nodes.
CLIENTS4, CLIENTS6 = "10.80", "fd80::"
#: The host behind the router.
FAR = "far"
ROUTER = "router"
FAR_ADDRESS = {4: "10.81.0.2", 6: "fd81::2"}


class FarmLab(Lab):
    """Two nodes and a client with 65,000 addresses; strict reverse-path filtering on the nodes; a router."""

    def __enter__(self) -> FarmLab:
        super().__enter__()
        try:
            self._extend()
        except BaseException:
            self.close()
            raise
        return self

    def _extend(self) -> None:
        self.run(CLIENT, "ip", "route", "add", "local", f"{CLIENTS4}.0.0/16", "dev", "lo")
        self.run(CLIENT, "ip", "-6", "route", "add", "local", f"{CLIENTS6}/64", "dev", "lo")
        self.run(CLIENT, "sysctl", "-qw", "net.ipv6.ip_nonlocal_bind=1")
        self.run(CLIENT, "sysctl", "-qw", "net.ipv4.ip_local_port_range=2048 65000")
        for node in NODES:
            self.run(node, "sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1", "net.ipv4.conf.lan0.rp_filter=1")
            self.run(node, "ip", "route", "add", f"{CLIENTS4}.0.0/16", "via", self.address(CLIENT))
            self.run(
                node, "ip", "-6", "route", "add", f"{CLIENTS6}/64", "via", self.address(CLIENT, version=6)
            )

    def add_router(self, mtu: int = 1500) -> None:
        """A router on the LAN and a host behind it; ``mtu`` of the way between the two."""
        self._add_namespace(ROUTER)
        self._add_namespace(FAR)
        self.run(ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        switch, namespace = self.namespace("switch"), self.namespace(ROUTER)
        self.run(
            ROUTER, "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan-r", "netns", switch
        )
        self.run("switch", "ip", "link", "set", "lan-r", "master", "lan", "up")
        self.run(FAR, "ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far0", "netns", namespace)
        for line in ("10.77.0.254/24 dev lan0", "10.81.0.1/24 dev far0"):
            self.run(ROUTER, "ip", "addr", "add", *line.split())
        for line in ("fd77::fe/64 dev lan0 nodad", "fd81::1/64 dev far0 nodad"):
            self.run(ROUTER, "ip", "addr", "add", *line.split())
        self.run(ROUTER, "ip", "link", "set", "lan0", "up")
        self.run(ROUTER, "ip", "link", "set", "far0", "mtu", str(mtu), "up")
        self.run(FAR, "ip", "addr", "add", f"{FAR_ADDRESS[4]}/24", "dev", "eth0")
        self.run(FAR, "ip", "addr", "add", f"{FAR_ADDRESS[6]}/64", "dev", "eth0", "nodad")
        self.run(FAR, "ip", "link", "set", "eth0", "up")
        self.run(FAR, "ip", "route", "add", "default", "via", "10.81.0.1")
        self.run(FAR, "ip", "-6", "route", "add", "default", "via", "fd81::1")
        for node in NODES:
            self.run(node, "ip", "route", "add", "10.81.0.0/24", "via", "10.77.0.254")
            self.run(node, "ip", "-6", "route", "add", "fd81::/64", "via", "fd77::fe")


class FarmNode:
    """One node's process."""

    def __init__(self, lab: Lab, document: dict[str, Any]) -> None:
        self.name: str = document["node"]
        self.process: Any = lab.spawn(
            self.name,
            [sys.executable, "-m", "tests.lab.farm_node"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        self.told: list[dict[str, Any]] = []
        self._lines: queue.Queue[dict[str, Any]] = queue.Queue()
        self.order(**document)
        threading.Thread(target=self._read, daemon=True).start()

    def order(self, **change: Any) -> None:
        """Tell the node something of itself."""
        self.process.stdin.write(json.dumps(change) + "\n")
        self.process.stdin.flush()

    def wait(self, what: Callable[[dict[str, Any]], object], timeout: float = 8.0) -> dict[str, Any]:
        """The first line from now on, or the newest there is, for which ``what`` holds."""
        deadline = time.monotonic() + timeout
        while True:
            newest: dict[str, Any] | None = next((one for one in reversed(self.told) if "way" in one), None)
            if newest is not None and what(newest):
                return newest
            left = deadline - time.monotonic()
            assert left > 0, f"{self.name}: not within {timeout} s: {self.told[-5:]}"
            try:
                self.told.append(self._lines.get(timeout=left))
            except queue.Empty:
                continue

    def way(self, name: str | None, announce: bool | None = None, timeout: float = 8.0) -> dict[str, Any]:
        """Wait until the node treats traffic in this way."""
        return self.wait(
            lambda one: one["way"] == name and (announce is None or one["announce"] is announce), timeout
        )

    def _read(self) -> None:
        for line in self.process.stdout:
            self._lines.put(json.loads(line))


class Farm:
    """A farm on both nodes, with an application in a pod of each."""

    def __init__(
        self,
        lab: FarmLab,
        *,
        timeout: float = 1.0,
        affinity: str = "ClientIP",
        weights: dict[str, int] | None = None,
        addresses: Sequence[str] | None = None,
        name: str = "front",
        port: int = PORT,
    ) -> None:
        self.lab, self.timeout = lab, timeout
        self.addresses = list(addresses or (lab.virtual_ip(), lab.virtual_ip(version=6)))
        self._common = {
            "module": f"shop/{name}",
            "addresses": self.addresses,
            "port": port,
            "target_port": TARGET_PORT,
            "affinity": affinity,
            "weights": weights or {"a": 1, "b": 1},
            "detection_timeout": timeout,
            "heartbeat_port": 7400 + port,
            "links": [
                {"name": link, "addresses": {node: lab.address(node, link) for node in NODES}}
                for link in ("lan", "direct")
            ],
        }
        self.pods: dict[str, Pod] = {node: lab.add_pod(node) for node in NODES}
        self.servers: dict[str, Any] = {}
        self.nodes: dict[str, FarmNode] = {}

    @property
    def address(self) -> str:
        """The first address."""
        return self.addresses[0]

    def serve(self, node: str) -> None:
        """Start the application in the node's pod; it names itself as the node."""
        argv = [sys.executable, "-m", "tests.lab.farm_server", node, str(TARGET_PORT)]
        process = self.lab.spawn(
            self.pods[node].name, argv, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        self.servers[node] = process

    def start(self, node: str, application: str = "ready", refuse: str = "") -> FarmNode:
        """Start a node's process. ``refuse``: a family that the node's kernel does not have."""
        pod = self.pods[node]
        document = {
            **self._common,
            "node": node,
            "application": application,
            "refuse": refuse,
            "pod_ip": f"{pod.address4},{pod.address6}",
        }
        self.nodes[node] = FarmNode(self.lab, document)
        return self.nodes[node]

    def up(self) -> Farm:
        """Both applications and both nodes; ``a`` announces."""
        for node in NODES:
            self.serve(node)
        self.start("a").way("solo", announce=True, timeout=20)
        self.start("b").way("both", announce=False, timeout=20)
        self.nodes["a"].way("both", announce=True, timeout=20)
        return self

    def kill(self, node: str) -> float:
        """Cut a node's power: nothing leaves it any more, and its processes end. When it was."""
        for link in ("lan", "direct"):
            self.lab.cut(link, node)
        moment = boottime()
        self.nodes[node].process.kill()
        self.servers[node].kill()
        self.nodes[node].process.wait()
        self.servers[node].wait()
        return moment

    def revive(self, node: str) -> FarmNode:
        """Boot the node again: without addresses, tables and connections."""
        self.lab.run(node, "nft", "flush", "ruleset")
        self.lab.run(node, "conntrack", "-F")
        for version in (4, 6):
            self.lab.run(node, "ip", f"-{version}", "neigh", "flush", "dev", "lan0")
        for address in self.addresses:
            length = 128 if ":" in address else 32
            subprocess.run(
                self.lab.command(node, ["ip", "addr", "del", f"{address}/{length}", "dev", "lan0"]),
                capture_output=True,
                check=False,
            )
        for link in ("lan", "direct"):
            self.lab.heal(link, node)
        self.serve(node)
        return self.start(node)


class Clients:
    """Connections that live, in a process of their own."""

    def __init__(
        self,
        lab: Lab,
        address: str,
        *,
        tcp: int = 40,
        udp: int = 0,
        where: str = CLIENT,
        sources: Sequence[str] | None = None,
        interval: float = 0.1,
    ) -> None:
        version = 6 if ":" in address else 4
        chosen = sources or [client(number, version) for number in range(1, tcp + udp + 1)]
        argv = [sys.executable, "-m", "tests.lab.farm_client", address, str(PORT), str(tcp), str(udp)]
        process: Any = lab.spawn(
            where,
            [*argv, str(interval), *chosen],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=ENVIRONMENT,
            cwd=ROOT,
        )
        assert process.stdout.readline() == "ready\n"
        self._process = process

    def report(self) -> list[dict[str, Any]]:
        """Every connection as it is now."""
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return found

    def of(self, node: str) -> list[dict[str, Any]]:
        """The connections that a node serves."""
        return [one for one in self.report() if one["node"] == node]

    def broken(self, node: str) -> list[str]:
        """Why connections of a node have broken."""
        return [f"{one['protocol']} {one['broken']}" for one in self.of(node) if one["broken"]]

    def close(self) -> None:
        """End the clients."""
        self._process.kill()
        self._process.wait()


def client(number: int, version: int = 4) -> str:
    """One of the client's many addresses."""
    if version == 6:
        return f"{CLIENTS6}{number:x}"
    return f"{CLIENTS4}.{number >> 8}.{number & 255}"


def ask_tcp(
    lab: Lab, address: str, source: str, *, where: str = CLIENT, port: int = PORT, timeout: float = 3.0
) -> str:
    """Who answers a new connection from ``source``, and what client it saw; else the error's name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.inside(where), socket.socket(family, socket.SOCK_STREAM) as opened:
        return _ask(opened, address, source, port, timeout)


def ask_many(
    lab: Lab, address: str, sources: Iterator[str] | Sequence[str], port: int = PORT
) -> Counter[str]:
    """How many of new connections, one from each source, each node answers."""
    counts: Counter[str] = Counter()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.inside(CLIENT):
        for source in sources:
            with socket.socket(family, socket.SOCK_STREAM) as opened:
                answer = _ask(opened, address, source, port, 5.0).split()
            counts[answer[0] if answer[1:2] == [source] else " ".join(answer)] += 1
    return counts


def _ask(opened: socket.socket, address: str, source: str, port: int, timeout: float) -> str:
    opened.settimeout(timeout)
    try:
        if source:
            opened.bind((source, 0))
        opened.connect((address, port))
        opened.sendall(b"hello\n")
        return opened.recv(200).decode().strip()
    except OSError as error:
        return type(error).__name__


def freeze(node: FarmNode) -> float:
    """Stop a node's process; when it was."""
    node.process.send_signal(signal.SIGSTOP)
    return boottime()


@pytest.fixture
def farm_lab() -> Iterator[FarmLab]:
    """A laboratory of its own for one test."""
    with FarmLab() as built:
        yield built
