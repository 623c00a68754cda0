"""Power cuts, returns and freezes of nodes, for the end-to-end tests and the demo."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tests.cluster import network
from tests.cluster.command import CommandError, run, succeeds
from tests.cluster.topology import CONTROL_PLANE, Node


@dataclass(frozen=True)
class Cut:
    """When a node went dark, in seconds: the instant before on two clocks, and when its link surely was down."""

    unix: float
    monotonic: float
    dark: float
    """CLOCK_MONOTONIC; what was sent to the node later than this cannot have arrived."""


def cut(node: Node) -> Cut:
    """Takes the power from a node: every process in it dies at once.  Its page cache is the host's, and stays.

    The node's link goes first.  ``podman kill`` alone lets the dying kernel sockets say goodbye to their peers, and
    the node's addresses answer ARP for another half second; a machine without power does neither.

    """
    link = _host_side(node)
    unix, monotonic = time.time(), time.monotonic()
    run("ip", "link", "set", link, "down")
    dark = time.monotonic()
    run("podman", "kill", node.name)
    return Cut(unix, monotonic, dark)


def restore(node: Node) -> None:
    """Gives the power back, unless it is there; returns when the node's init runs (its pods need seconds more)."""
    if is_on(node):
        return
    # `podman kill` returns before podman has cleaned up behind the dead container.
    deadline = time.monotonic() + 20
    while True:
        try:
            run("podman", "start", node.name)
            break
        except CommandError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    network.route_to_pods()


def is_on(node: Node) -> bool:
    """Whether the node has power."""
    return run("podman", "inspect", "--format={{.State.Running}}", node.name).strip() == "true"


@contextmanager
def frozen_api() -> Iterator[None]:
    """Freezes the API server, as a hung disk would, for the length of the block.

    Its node's kubelet is frozen first: otherwise its liveness probe would restart the API server after two minutes.
    """
    try:
        for program in ("kubelet", "kube-apiserver"):
            signal(CONTROL_PLANE, "STOP", program)
        yield
    finally:
        for program in ("kube-apiserver", "kubelet"):
            signal(CONTROL_PLANE, "CONT", program)


@contextmanager
def cut_between_nodes(first: Node, second: Node, *, everything: bool) -> Iterator[None]:
    """Drops packets between two nodes in both directions; both keep their way to everyone else.

    Args:
        everything: ARP too, as when the switch between them splits.  Otherwise IP only, as when a firewall or a
            dedicated link fails: the nodes still see each other's answers to ARP on the clients' network.
    """
    matched = "" if everything else "ether type { ip, ip6 } "
    table = "twinhull_test_partition"
    pairs = ((first, second), (second, first))
    try:
        for here, peer in pairs:
            rules = (
                f"add table netdev {table}\n"
                f"add chain netdev {table} peer {{ type filter hook ingress device eth0 priority -500; }}\n"
                f"add rule netdev {table} peer ether saddr {peer.mac} {matched}drop\n"
            )
            run("podman", "exec", "--interactive", here.name, "nft", "-f", "-", stdin=rules)
        yield
    finally:
        for here, _ in pairs:
            if is_on(here):
                succeeds("podman", "exec", here.name, "nft", "delete", "table", "netdev", table)


def signal(node: Node, name: str, program: str) -> None:
    """Sends a signal to each process of that name in a node, pods included.

    Raises:
        CommandError: no such process.
    """
    run("podman", "exec", node.name, "pkill", f"-{name}", "--exact", program)


def _host_side(node: Node) -> str:
    """The interface of the host that is the other end of the node's cable."""
    process = run("podman", "inspect", "--format={{.State.Pid}}", node.name).strip()
    listed: list[dict[str, Any]] = json.loads(
        run("nsenter", f"--target={process}", "--net", "ip", "-json", "link", "show", "dev", "eth0")
    )
    peer = listed[0]["link_index"]
    ours: list[dict[str, Any]] = json.loads(run("ip", "-json", "link", "show", "type", "veth"))
    return next(str(link["ifname"]) for link in ours if link["ifindex"] == peer)
