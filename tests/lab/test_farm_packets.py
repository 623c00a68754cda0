"""Large packets, fragments, errors of routers, clients behind a router: each packet finds its connection's node."""

from __future__ import annotations

import socket
from collections import Counter

import pytest

from tests.lab.farm_harness import FAR, PORT, ROUTER, Clients, Farm, FarmLab, ask_tcp, client, farm_lab
from tests.lab.netns import CLIENT, NODES
from tests.lab.test_farm_balance import frames
from tests.lab.vip_harness import mac

__all__ = ["farm_lab"]


def far(number: int, version: int) -> str:
    return f"10.81.0.{number}" if version == 4 else f"fd81::{number:x}"


def add_far_addresses(lab: FarmLab, numbers: range) -> None:
    for number in numbers:
        lab.run(FAR, "ip", "addr", "add", f"{far(number, 4)}/24", "dev", "eth0")
        lab.run(FAR, "ip", "addr", "add", f"{far(number, 6)}/64", "dev", "eth0", "nodad")


def transfer(lab: FarmLab, where: str, address: str, source: str, *, request: bytes, size: int) -> str:
    """Send a request, read the line and ``size`` bytes behind it; who answered, else the error's name."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.inside(where), socket.socket(family, socket.SOCK_STREAM) as opened:
        opened.settimeout(5)
        try:
            opened.bind((source, 0))
            opened.connect((address, PORT))
            opened.sendall(request + b"\n")
            with opened.makefile("rb") as answer:
                node, seen, _ = answer.readline().decode().split()
                rest = answer.read(size)
        except OSError as error:
            return type(error).__name__
    return node if seen == source and len(rest) == size else f"{node} {seen} {len(rest)}"


def datagram(lab: FarmLab, where: str, address: str, source: str, data: bytes) -> str:
    """Send a datagram; who answered that all of it came, else what went wrong."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with lab.inside(where), socket.socket(family, socket.SOCK_DGRAM) as opened:
        opened.settimeout(2)
        try:
            opened.bind((source, 0))
            opened.sendto(data, (address, PORT))
            node, seen, _, size = opened.recv(65536).split(b"\n")[0].decode().split()
        except OSError as error:
            return type(error).__name__
    return node if seen == source and int(size) == len(data) else f"{node} {seen} {size}"


@pytest.mark.parametrize("version", [4, 6])
def test_full_packets_and_fragments_with_strict_reverse_path_filtering(
    farm_lab: FarmLab, version: int
) -> None:
    for node in NODES:
        assert farm_lab.run(node, "cat", "/proc/sys/net/ipv4/conf/lan0/rp_filter") == "1\n"
    farm = Farm(farm_lab).up()
    address = farm.addresses[0 if version == 4 else 1]
    sources = [client(number, version) for number in range(1, 25)]
    downloads = Counter(
        transfer(farm_lab, CLIENT, address, one, request=b"get 1000000", size=1_000_000) for one in sources
    )
    assert set(downloads) == {"a", "b"}
    uploads = Counter(
        transfer(farm_lab, CLIENT, address, one, request=b"x" * 60_000, size=0) for one in sources
    )
    assert uploads == downloads
    largest = 1500 - (28 if version == 4 else 48)
    for size in (largest, largest + 1, 4000, 20_000):
        found = Counter(datagram(farm_lab, CLIENT, address, one, b"x" * size) for one in sources)
        assert found == downloads, size


@pytest.mark.parametrize("version", [4, 6])
def test_a_client_behind_a_router_with_a_narrow_way_is_served_by_both(
    farm_lab: FarmLab, version: int
) -> None:
    farm_lab.add_router(mtu=1400)
    # The client says that it takes 1460 bytes: only the router's error tells the server otherwise.
    farm_lab.run(FAR, "ip", "link", "set", "eth0", "mtu", "1400")
    farm_lab.run(FAR, "ip", "route", "replace", "default", "via", "10.81.0.1", "advmss", "1460")
    farm_lab.run(FAR, "ip", "-6", "route", "replace", "default", "via", "fd81::1", "advmss", "1440")
    add_far_addresses(farm_lab, range(10, 34))
    farm = Farm(farm_lab).up()
    address = farm.addresses[0 if version == 4 else 1]
    with frames(farm_lab, "b") as at_other:
        found = Counter(
            transfer(farm_lab, FAR, address, far(number, version), request=b"get 300000", size=300_000)
            for number in range(10, 34)
        )
    assert set(found) == {"a", "b"}, found
    if version == 4:
        # The router's errors came to the announcer, which passed on a copy.
        errors = {key[0] for key in at_other if key[1] == "10.77.0.254" and key[2] == address}
        assert errors == {mac(farm_lab, "a")}
    fragments = Counter(
        datagram(farm_lab, FAR, address, far(number, version), b"x" * 5000) for number in range(10, 34)
    )
    assert fragments == found


def test_connections_through_a_router_outlive_a_failover_and_a_return(farm_lab: FarmLab) -> None:
    farm_lab.add_router()
    add_far_addresses(farm_lab, range(10, 50))
    farm = Farm(farm_lab).up()
    sources = [far(number, 4) for number in range(10, 50)]
    clients = Clients(farm_lab, farm.address, tcp=40, udp=40, where=FAR, sources=sources)
    assert {one["node"] for one in clients.report()} == {"a", "b"}
    assert all(one["client"] for one in clients.report())
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    later = Clients(farm_lab, farm.address, tcp=20, udp=20, where=FAR, sources=sources)
    farm.revive("a").way("both", announce=False)
    farm.nodes["b"].way("both", announce=True)
    assert ask_tcp(farm_lab, farm.address, sources[0], where=FAR)[:2] in {"a ", "b "}
    assert clients.broken("b") == []
    assert [one for one in later.report() if one["broken"]] == []


def test_nothing_goes_back_and_forth_between_two_nodes_that_take_nothing(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    for node in NODES:
        farm.nodes[node].order(draining=True)
    for node in NODES:
        farm.nodes[node].way("closed")
    with frames(farm_lab, "a") as at_a, frames(farm_lab, "b") as at_b:
        for number in range(1, 21):
            assert ask_tcp(farm_lab, farm.address, client(number), timeout=0.05) == "TimeoutError"
            assert datagram_lost(farm_lab, farm.address, client(number))
    for counts in (at_a, at_b):
        assert sum(number for key, number in counts.items() if key[2] == farm.address) <= 2 * 20 * 2
    # Neither has taken anything, and both take again.
    for node in NODES:
        farm.nodes[node].order(draining=False)
    for node in NODES:
        farm.nodes[node].way("both")
    assert ask_tcp(farm_lab, farm.address, client(1))[:2] in {"a ", "b "}


def datagram_lost(lab: FarmLab, address: str, source: str) -> bool:
    with lab.inside(CLIENT), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        opened.settimeout(0.05)
        opened.bind((source, 0))
        opened.sendto(b"x", (address, PORT))
        try:
            opened.recv(100)
        except OSError:
            return True
    return False


def test_a_node_that_listens_in_on_the_lan_forwards_nothing_twice(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    for node in NODES:
        farm_lab.run(node, "ip", "link", "set", "lan0", "promisc", "on")
    # A switch that has forgotten where the nodes are sends everything to everybody.
    farm_lab.run("switch", "ip", "link", "set", "lan", "type", "bridge", "ageing_time", "0")
    with frames(farm_lab, "a") as at_a:
        found = Counter(
            datagram(farm_lab, CLIENT, farm.address, client(number), b"x" * 3000) for number in range(1, 41)
        )
    # b hears what is for a, and keeps out of it.
    assert not [key for key in at_a if key[0] == mac(farm_lab, "b") and key[2] == farm.address]
    assert set(found) == {"a", "b"}
    clients = Clients(farm_lab, farm.address, tcp=40, udp=20)
    assert [one for one in clients.report() if one["broken"] or not one["client"]] == []


def test_the_router_itself_can_be_a_client(farm_lab: FarmLab) -> None:
    farm_lab.add_router()
    farm = Farm(farm_lab).up()
    assert ask_tcp(farm_lab, farm.address, "10.77.0.254", where=ROUTER).split()[1] == "10.77.0.254"
