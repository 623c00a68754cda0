"""A machine on the nodes' network that is no part of the cluster: a network namespace with a leg in the bridge."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from tests.cluster import network
from tests.cluster.command import CommandError, run
from tests.cluster.topology import CLIENT_ADDRESS, SUBNET, SUBNET6

NAMESPACE = "twinhull-client"
_LEG = "twinhull-client"
_MAC = "02:74:68:00:01:00"
_ADDRESS6 = SUBNET6[0x100]


@contextmanager
def outside_client() -> Iterator[str]:
    """Makes the namespace for the length of the block and yields its name, for ``ip netns exec``.

    At least one node must have power: without any there is no bridge.
    """
    _remove()
    run("ip", "netns", "add", NAMESPACE)
    try:
        run("ip", "link", "add", _LEG, "type", "veth", "peer", "name", "eth0", "netns", NAMESPACE)
        run("ip", "link", "set", _LEG, "master", network.bridge(), "up")
        inside = ("ip", "-netns", NAMESPACE)
        run(*inside, "link", "set", "lo", "up")
        # The same each time: the nodes remember the neighbours that an earlier client's addresses had.
        run(*inside, "link", "set", "eth0", "address", _MAC, "up")
        run(*inside, "address", "add", f"{CLIENT_ADDRESS}/{SUBNET.prefixlen}", "dev", "eth0")
        run(*inside, "address", "add", f"{_ADDRESS6}/{SUBNET6.prefixlen}", "dev", "eth0", "nodad")
        yield NAMESPACE
    finally:
        _remove()


def _remove() -> None:
    for command in (("ip", "link", "del", _LEG), ("ip", "netns", "del", NAMESPACE)):
        try:
            run(*command)
        except CommandError as missing:
            if "Cannot find device" not in missing.output and "No such file" not in missing.output:
                raise
