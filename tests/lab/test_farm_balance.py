"""Clients are divided by weight, keep their address, and are answered directly."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.lab.farm_harness import Farm, FarmLab, ask_many, client, farm_lab
from tests.lab.netns import CLIENT
from tests.lab.report import figure
from tests.lab.vip_harness import mac

__all__ = ["farm_lab"]

CLIENTS = 10_000
_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h


@contextlib.contextmanager
def frames(lab: FarmLab, where: str) -> Iterator[Counter[tuple[str, str, str]]]:
    """Count IPv4 frames that arrive at the LAN interface of ``where``: source MAC, source, destination."""
    with lab.inside(where):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    opened.bind(("lan0", _ETH_P_ALL))
    opened.settimeout(0.2)
    counts: Counter[tuple[str, str, str]] = Counter()
    end = threading.Event()

    def count() -> None:
        while not end.is_set():
            with contextlib.suppress(TimeoutError):
                frame, sender = opened.recvfrom(256)
                if sender[2] != socket.PACKET_OUTGOING and frame[12:14] == b"\x08\x00":
                    addresses = (socket.inet_ntoa(frame[26:30]), socket.inet_ntoa(frame[30:34]))
                    counts[frame[6:12].hex(":"), *addresses] += 1

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield counts
    finally:
        time.sleep(0.3)
        end.set()
        thread.join()
        opened.close()


@pytest.mark.parametrize(
    ("weights", "version"), [({"a": 1, "b": 1}, 4), ({"a": 3, "b": 1}, 4), ({"a": 1, "b": 1}, 6)]
)
def test_ten_thousand_clients_are_divided_by_weight(
    farm_lab: FarmLab, weights: dict[str, int], version: int
) -> None:
    farm = Farm(farm_lab, weights=weights).up()
    sources = [client(number, version) for number in range(1, CLIENTS + 1)]
    began = time.monotonic()
    counts = ask_many(farm_lab, farm.addresses[0 if version == 4 else 1], sources)
    took = time.monotonic() - began
    assert set(counts) == {"a", "b"}, counts
    share, wanted = counts["a"] / CLIENTS, weights["a"] / sum(weights.values())
    figure(
        f"farm balance, {CLIENTS} IPv{version} client addresses, weights {weights['a']}:{weights['b']}: "
        f"{counts['a']} and {counts['b']} ({abs(share - wanted) * 100:.2f} % off), {CLIENTS / took:.0f} connections/s"
    )
    assert abs(share - wanted) < 0.02


def test_a_client_always_finds_the_same_node(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    sources = [client(number) for number in range(1, 101)]
    seen = [ask_many(farm_lab, farm.address, [source]) for source in sources]
    for _ in range(3):
        assert [ask_many(farm_lab, farm.address, [source]) for source in sources] == seen


def test_by_address_and_port_one_client_finds_both_nodes(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab, affinity="ClientIPPort").up()
    for address, version in zip(farm.addresses, (4, 6), strict=True):
        counts = ask_many(farm_lab, address, [client(1, version)] * 2000)
        assert set(counts) == {"a", "b"}
        assert abs(counts["a"] / 2000 - 0.5) < 0.05


def test_a_weight_of_zero_takes_nothing_while_the_other_serves(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab, weights={"a": 0, "b": 1}).up()
    sources = [client(number) for number in range(1, 201)]
    assert ask_many(farm_lab, farm.address, sources) == {"b": 200}
    farm.kill("b")
    farm.nodes["a"].way("solo", announce=True)
    assert ask_many(farm_lab, farm.address, sources) == {"a": 200}


def test_replies_go_to_the_client_directly_and_nothing_goes_round(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    own = {node: mac(farm_lab, node) for node in "ab"}
    requests, answers = 0, 0
    with (
        frames(farm_lab, CLIENT) as at_client,
        frames(farm_lab, "a") as at_announcer,
        frames(farm_lab, "b") as at_other,
    ):
        # The client's address is asserted in each answer.
        counts = ask_many(farm_lab, farm.address, [client(number) for number in range(1, 501)])
    assert set(counts) == {"a", "b"}
    to_client = Counter[str]()
    for (source, address, _), number in at_client.items():
        if address == farm.address:
            to_client[source] += number
    assert set(to_client) == set(own.values())
    # Not one reply of b passes a.
    assert [key for key in at_announcer if key[1] == farm.address] == []
    for (source, _, target), number in at_other.items():
        if target == farm.address:
            requests += number
            assert source == own["a"]
    answers = to_client[own["b"]]
    assert [key for key in at_announcer if key[0] == own["b"] and key[2] == farm.address] == []
    from_clients = sum(number for key, number in at_announcer.items() if key[2] == farm.address)
    figure(
        f"farm, direct return: {from_clients} frames of clients came to the announcer, {requests} of them went on "
        f"to the other node, its {answers} replies went to the clients directly, 0 passed the announcer"
    )
    assert 0 < requests < from_clients


def test_the_other_node_never_says_that_it_has_the_address(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    with farm_lab.inside(CLIENT):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    with opened:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 26)
        opened.bind(("lan0", _ETH_P_ALL))
        opened.setblocking(False)
        # The nodes must look for the client anew, from the virtual address.
        for _ in range(3):
            for node in "ab":
                for version in (4, 6):
                    farm_lab.run(node, "ip", f"-{version}", "neigh", "flush", "dev", "lan0")
            for address, version in zip(farm.addresses, (4, 6), strict=True):
                farm_lab.run(CLIENT, "ip", "neigh", "flush", "to", address)
                assert set(ask_many(farm_lab, address, [client(n, version) for n in range(1, 41)])) == {
                    "a",
                    "b",
                }
        other = bytes.fromhex(mac(farm_lab, "b").replace(":", ""))
        raw4 = socket.inet_pton(socket.AF_INET, farm.addresses[0])
        raw6 = socket.inet_pton(socket.AF_INET6, farm.addresses[1])
        seen = set()
        while True:
            try:
                frame = opened.recv(2048)
            except BlockingIOError:
                break
            kind = struct.unpack_from("!H", frame, 12)[0]
            if frame[6:12] != other:
                continue
            if kind == 0x0806:
                seen.add("arp")
                assert frame[28:32] != raw4
            elif kind == 0x86DD and frame[20] == 58 and frame[54] in {135, 136}:
                seen.add("neighbour discovery")
                assert frame[22:38] != raw6
                assert frame[54] == 135 or frame[62:78] != raw6
        assert seen == {"arp", "neighbour discovery"}
