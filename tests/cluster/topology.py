"""Names, versions and addresses of the test cluster: constants only, so that every other file agrees."""

from __future__ import annotations

import os
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from pathlib import Path

CLUSTER = "twinhull"
REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("TWINHULL_CACHE", Path.home() / ".cache" / "twinhull"))
BINARIES = CACHE / "bin"
"""Programs of the host: kind, helm, crictl, and the wrapper named podman that kind is made to call."""
KUBECONFIG = CACHE / "kubeconfig"

KUBERNETES_VERSION = "v1.34.4"
KIND_VERSION = "v0.33.0"
CRICTL_VERSION = "v1.34.0"
HELM_VERSION = "v3.19.0"

ONLINE_NODE_IMAGE = "docker.io/kindest/node:v1.37.0"
"""kind's own default node image, used where a container registry answers."""
NODE_IMAGE = "localhost/twinhull/node:" + KUBERNETES_VERSION
IMAGE_REPOSITORY = "localhost/k8s"
"""Where kubeadm is told to find the images of Kubernetes that we build ourselves."""
APP_REPOSITORY = "localhost/twinhull/twinhull"
APP_IMAGE = APP_REPOSITORY + ":dev"
POSTGRES_IMAGE = "localhost/twinhull/postgres:15"
HAPROXY_IMAGE = "localhost/twinhull/haproxy:2.6"

NETWORK = "kind"
SUBNET = IPv4Network("10.89.42.0/24")
SUBNET6 = IPv6Network("fd42:7768:6c00::/64")
GATEWAY = SUBNET[1]
POD_SUBNET = IPv4Network("10.244.0.0/16")
SERVICE_SUBNET = IPv4Network("10.96.0.0/16")
VIRTUAL_IP = IPv4Address("10.89.42.50")
"""An address of the nodes' own subnet that no container gets, for the demo's module."""
FARM_IP = IPv4Address("10.89.42.51")
"""Another one, for a farm."""
CLIENT_ADDRESS = IPv4Address("10.89.42.100")
"""The client outside the cluster: a network namespace with a leg in the nodes' bridge."""


@dataclass(frozen=True)
class Node:
    """One node: a podman container that keeps name, addresses and MAC over a power cut."""

    name: str
    address: IPv4Address
    address6: IPv6Address
    mac: str
    pods: IPv4Network


CONTROL_PLANE = Node(
    name=f"{CLUSTER}-control-plane",
    address=IPv4Address("10.89.42.11"),
    address6=IPv6Address("fd42:7768:6c00::11"),
    mac="02:74:68:00:00:11",
    pods=IPv4Network("10.244.0.0/24"),
)
WORKER = Node(
    name=f"{CLUSTER}-worker",
    address=IPv4Address("10.89.42.12"),
    address6=IPv6Address("fd42:7768:6c00::12"),
    mac="02:74:68:00:00:12",
    pods=IPv4Network("10.244.1.0/24"),
)
NODES = (CONTROL_PLANE, WORKER)


def node_named(name: str) -> Node:
    """The node of that name, or of the short names ``control-plane`` and ``worker``.

    Raises:
        ValueError: no such node; the message names those that exist.
    """
    for node in NODES:
        if name in {node.name, node.name.removeprefix(f"{CLUSTER}-")}:
            return node
    raise ValueError(f"no node {name!r}: the cluster has {', '.join(node.name for node in NODES)}")
