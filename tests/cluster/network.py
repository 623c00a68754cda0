"""The nodes' network: a bridge with fixed addresses, routed pod ranges, and no way out of the machine."""

from __future__ import annotations

import json
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from tests.cluster.command import CommandError, run, succeeds
from tests.cluster.topology import (
    NETWORK,
    NODES,
    POD_SUBNET,
    SERVICE_SUBNET,
    SUBNET,
    SUBNET6,
    Node,
)

_LAST_RESORT = "4242"
"""Metric of the blackhole routes: any real route is preferred, the default route never reached."""


def create() -> None:
    """Makes podman's network for the nodes, and the host's blackhole routes, unless they exist.

    When the last node stops, podman removes the bridge with its routes; without the blackholes a request to a node,
    a pod or a virtual IP would then leave the machine by the default route.
    """
    for range_ in (SUBNET, POD_SUBNET, SERVICE_SUBNET, SUBNET6):
        _route("replace", "blackhole", range_, "metric", _LAST_RESORT)
    if not succeeds("podman", "network", "exists", NETWORK):
        run(
            "podman", "network", "create", "--driver=bridge", "--disable-dns",
            "--ipv6", f"--subnet={SUBNET}", f"--subnet={SUBNET6}", NETWORK,
        )  # fmt: skip
    subnets = {entry["subnet"] for entry in _inspect()["subnets"]}
    if subnets != {str(SUBNET), str(SUBNET6)}:
        raise RuntimeError(
            f"podman has a network {NETWORK!r} that is not ours ({', '.join(sorted(subnets))}): "
            f"remove what uses it, then `podman network rm {NETWORK}`"
        )


def bridge() -> str:
    """Name of the host's bridge interface; podman chooses it, and the interface exists while a node has power."""
    return str(_inspect()["network_interface"])


def remove() -> None:
    """Removes the network and the routes; the nodes must be gone."""
    if succeeds("podman", "network", "exists", NETWORK):
        run("podman", "network", "rm", "--force", NETWORK)
    for range_ in (SUBNET, POD_SUBNET, SERVICE_SUBNET, SUBNET6):
        try:
            _route("del", "blackhole", range_, "metric", _LAST_RESORT)
        except CommandError as missing:
            if "No such process" not in missing.output:
                raise


def route_to_pods() -> None:
    """Routes on the host to the nodes' pods; to be repeated after the bridge was away."""
    device = bridge()
    for node in NODES:
        run("ip", "route", "replace", str(node.pods), "via", str(node.address), "dev", device)


def pod_network(node: Node) -> str:
    """The CNI configuration of a node.

    The plugin is ptp: pod traffic is routed, so that connection tracking sees it without ``br_netfilter``.
    """
    address_range = {"subnet": str(node.pods)}
    return json.dumps(
        {
            "cniVersion": "0.3.1",
            "name": "pods",
            "plugins": [
                {
                    "type": "ptp",
                    "mtu": 1500,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        # On tmpfs: after a power cut no pod has an address.
                        "dataDir": "/run/cni-addresses",
                        "ranges": [[address_range]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                },
                {"type": "portmap", "capabilities": {"portMappings": True}},
            ],
        },
        indent=2,
    )


def routes_unit(node: Node) -> str:
    """A systemd unit for a node with its routes to the other nodes' pods, so that they are back after a power cut."""
    starts = "".join(
        f"ExecStart=/sbin/ip route replace {peer.pods} via {peer.address}\n" for peer in NODES if peer != node
    )
    return (
        "[Unit]\nDescription=Routes to the pods of the other nodes\nBefore=kubelet.service\n\n"
        f"[Service]\nType=oneshot\nRemainAfterExit=yes\n{starts}\n[Install]\nWantedBy=multi-user.target\n"
    )


def _inspect() -> dict[str, Any]:
    found: list[dict[str, Any]] = json.loads(run("podman", "network", "inspect", NETWORK))
    return found[0]


def _route(verb: str, kind: str, range_: IPv4Network | IPv6Network, *rest: str) -> None:
    family = "-6" if isinstance(range_, IPv6Network) else "-4"
    run("ip", family, "route", verb, kind, str(range_), *rest)
