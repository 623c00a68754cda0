"""A farm on the cluster: both nodes serve, a dead node's clients move, a mirror behind it on the same two nodes."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import data, images, kind, power
from tests.cluster.client import outside_client
from tests.cluster.command import CommandError, run
from tests.cluster.deployment import FARM, HOLDER_OF_API, Module, example, move_to, other
from tests.cluster.rows import committing
from tests.cluster.topology import APP_REPOSITORY, FARM_IP, HAPROXY_IMAGE, NODES, REPOSITORY, SUBNET, Node
from tests.e2e.conftest import PASSWORD
from tests.figures import figure

Deploy = Callable[..., Module]
PORT = 80
#: Connections that live through a power cut.
CONNECTIONS = 200
#: Addresses of the client, each a client of its own to the farm.
SOURCES = [str(SUBNET[number]) for number in range(101, 141)]
DETECTION_TIMEOUT = 1.0

#: Answers each line with the node, and the client's address and port as it sees them.
SERVER = """
import os, socketserver
class Answer(socketserver.StreamRequestHandler):
    def handle(self):
        for _ in self.rfile:
            self.wfile.write(f"{os.environ['NODE_NAME']} {self.client_address[0]} {self.client_address[1]}\\n".encode())
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("", 8080), Answer).serve_forever()
"""


def answering(document: dict[str, Any]) -> None:
    """The minimal farm with a server that says who it is; the twinhull image has the Python for it."""
    container = document["spec"]["template"]["spec"]["containers"][0]
    container["image"] = f"{APP_REPOSITORY}:{images.release_tag()}"
    container["command"] = ["python3", "-c", SERVER]
    container["env"] = [{"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}]


@pytest.fixture
def deploy(powered: None) -> Iterator[Deploy]:
    """Applies an example with a farm and waits until both nodes serve; deletes it afterwards."""
    deployed: list[tuple[Module, list[dict[str, Any]]]] = []

    def deployed_farm(name: str, change: Callable[[dict[str, Any]], None] | None = None) -> Module:
        documents = example(name, change)
        module = Module.apply(documents, module_kind=FARM)
        deployed.append((module, documents))
        module.wait_both_up()
        return module

    yield deployed_farm
    for node in NODES:
        power.restore(node)
    kind.wait_ready()
    for module, documents in deployed:
        module.delete(documents)
        for document in documents:
            if document["kind"] == "MirrorModule":
                Module(document["metadata"]["name"]).discard_data()


@pytest.fixture
def namespace(powered: None) -> Iterator[str]:
    """A client outside the cluster with many addresses."""
    with outside_client() as name:
        for source in SOURCES:
            run("ip", "-netns", name, "address", "add", f"{source}/{SUBNET.prefixlen}", "dev", "eth0")
        yield name


@contextmanager
def living_connections(namespace: str) -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Connections from the sources by turns, each asks ten times a second; yields what tells how each is."""
    words = ["ip", "netns", "exec", namespace, sys.executable, "-m", "tests.lab.farm_client"]
    words += [str(FARM_IP), str(PORT), str(CONNECTIONS), "0", "0.1", *SOURCES]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"

    def report() -> list[dict[str, Any]]:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        found: list[dict[str, Any]] = json.loads(process.stdout.readline())
        return found

    try:
        yield report
    finally:
        process.kill()
        process.wait()


_ASK = """
import socket, sys, time
address, port, until, *sources = sys.argv[1:]
for source in sources:
    while True:
        try:
            with socket.socket() as s:
                s.bind((source, 0)); s.settimeout(0.2); s.connect((address, int(port)))
                s.sendall(b"hello\\n"); print(s.recv(200).decode().strip(), flush=True)
                break
        except OSError as error:
            if time.monotonic() > float(until):
                print(type(error).__name__, flush=True)
                break
"""


def ask(namespace: str, sources: list[str], until: float = 0.0) -> list[str]:
    """What a new connection from each source is answered, in order; tried again until then (CLOCK_MONOTONIC)."""
    words = [
        "ip",
        "netns",
        "exec",
        namespace,
        sys.executable,
        "-c",
        _ASK,
        str(FARM_IP),
        str(PORT),
        str(until),
    ]
    return run(*words, *sources, timeout=120).splitlines()


@pytest.mark.timeout(600)
def test_a_dead_node_s_clients_move_and_nobody_else_s(deploy: Deploy, namespace: str) -> None:
    module = deploy("farm-minimal.yaml", answering)
    announcer = next(node for node in NODES if module.status(node)["farm"]["announcing"])
    for victim in (announcer, other(announcer)):
        with living_connections(namespace) as report:
            before = report()
            serving = Counter(one["node"] for one in before)
            share = Counter({one["source"]: one["node"] for one in before}.values())
            assert set(share) == {node.name for node in NODES}, share
            assert all(one["client"] for one in before), "the application sees the client's own address"
            moving = [one["source"] for one in before if one["node"] == victim.name]
            begin = time.monotonic()
            cut = power.cut(victim)
            answers = ask(namespace, moving[:1], until=begin + 20)
            took = time.monotonic() - cut.monotonic
            assert answers[0].startswith(other(victim).name), answers
            figure(f"farm, power cut of {victim.name}: its clients are served again after {took:.2f} s")
            answers = ask(namespace, SOURCES, until=time.monotonic() + 5)
            assert Counter(answer.split()[0] for answer in answers) == {other(victim).name: len(SOURCES)}
            power.restore(victim)
            kind.wait_ready()
            module.wait_both_up()
            answers = ask(namespace, SOURCES, until=time.monotonic() + 5)
            assert Counter(answer.split()[0] for answer in answers) == share
            assert serving.total() == CONNECTIONS
            broken = Counter(one["node"] for one in report() if one["broken"])
            assert other(victim).name not in broken, report()
            figure(f"farm: connections broken by the cut and the return: {dict(broken)} of {dict(serving)}")


@pytest.mark.timeout(600)
def test_drained_for_maintenance(deploy: Deploy, namespace: str) -> None:
    module = deploy("farm-minimal.yaml", answering)
    with living_connections(namespace) as report:
        module.control(NODES[0], "drain")
        module.wait("drained", lambda: module.status(NODES[0])["role"] == "Draining", timeout=20)
        module.wait("all to the other", lambda: module.status(NODES[1])["farm"]["share"] == 1.0, timeout=20)
        answers = ask(namespace, SOURCES)
        assert Counter(answer.split()[0] for answer in answers) == {NODES[1].name: len(SOURCES)}
        module.control(NODES[0], "resume")
        module.wait_both_up()
        assert {answer.split()[0] for answer in ask(namespace, SOURCES)} == {node.name for node in NODES}
        assert [one for one in report() if one["broken"]] == []


def announce_from(front: Module, node: Node) -> None:
    """Let this node announce the farm's address: one whose application is restarted by order hands over first."""
    if not front.status(node)["farm"]["announcing"]:
        front.control(other(node), "restart")
        front.wait("the announcer moves", lambda: front.status(node)["farm"]["announcing"], timeout=30)
        front.wait_both_up()


@pytest.mark.timeout(900)
def test_an_air_traffic_control_site_loses_the_node_with_everything(
    deploy: Deploy, namespace: str, tmp_path: Path
) -> None:
    """HAProxy on both nodes, PostgreSQL on one; the node with primary, API server and the farm's announcer dies."""
    images.build_haproxy()
    images.load(HAPROXY_IMAGE)
    front = deploy("atc-site.yaml")
    mirror = Module("flight-data")
    move_to(mirror, HOLDER_OF_API)
    announce_from(front, HOLDER_OF_API)
    with committing(namespace, PASSWORD, tmp_path / "rows.log", FARM_IP) as rows:
        rows.wait_for_commit(time.monotonic())
        cut = power.cut(HOLDER_OF_API)
        committed = rows.wait_for_commit(cut.dark, timeout=60)
        figure(f"farm in front of a mirror: first commit {committed - cut.monotonic:.2f} s after the cut")
        power.restore(HOLDER_OF_API)
        mirror.wait_in_sync()
        front.wait_both_up()
        rows.wait_for_commit(time.monotonic())
        rows.stop()
        assert data.differences(mirror, "data") == []
        rows.start()
        rows.wait_for_commit(time.monotonic())
        assert rows.judge() == []


@pytest.mark.timeout(300)
def test_the_resource_shows_both_nodes(deploy: Deploy) -> None:
    module = deploy("farm-minimal.yaml", answering)
    module.wait("2/2", lambda: module.resource_status().get("up") == "2/2", timeout=30)
    shown = kind.kubectl("get", "farmmodules")
    assert "2/2" in shown, shown
    assert str(FARM_IP) in shown, shown
    with socket.socket() as probe:
        probe.settimeout(5)
        probe.connect((str(FARM_IP), PORT))
    with pytest.raises(CommandError, match="weights"):
        Module.apply(example("farm-minimal.yaml", _no_weight), module_kind=FARM)


def _no_weight(document: dict[str, Any]) -> None:
    document["spec"]["weights"] = {node.name: 0 for node in NODES}
