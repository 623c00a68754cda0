"""Neighbours learn where an address is, and a probe finds who has it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Iterator

import pytest

from tests.lab.netns import Lab
from tests.lab.vip_harness import (
    VERSIONS,
    ask,
    holder,
    holder_process,
    mac,
    neighbour,
    renewed,
    serve,
    until,
)
from twinhull_sidecar.vip.holder import ANNOUNCE_GAP, ANNOUNCE_TIMES, REFRESH_GAP

ETH_P_ALL = 3
ARP, IPV6 = 0x0806, 0x86DD


@contextlib.contextmanager
def listening(lab: Lab, where: str) -> Iterator[socket.socket]:
    """Every frame that arrives on the LAN interface of ``where``."""
    with lab.inside(where):
        opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
    with opened:
        opened.bind(("lan0", ETH_P_ALL))
        opened.setblocking(False)
        yield opened


def announcements(opened: socket.socket, address4: str, address6: str) -> dict[str, int]:
    """How many announcements of each kind have arrived."""
    counts = {"request": 0, "reply": 0, "advertisement": 0}
    raw4, raw6 = socket.inet_pton(socket.AF_INET, address4), socket.inet_pton(socket.AF_INET6, address6)
    while True:
        try:
            frame = opened.recv(2048)
        except BlockingIOError:
            return counts
        kind = struct.unpack_from("!H", frame, 12)[0]
        if kind == ARP and frame[28:32] == raw4 == frame[38:42]:
            counts["request" if frame[21] == 1 else "reply"] += 1
        elif kind == IPV6 and frame[20] == 58 and frame[54] == 136 and frame[62:78] == raw6:
            counts["advertisement"] += frame[58] & 0x20 != 0


async def test_an_announcement_moves_a_neighbours_entry(lab: Lab) -> None:
    for node in ("a", "b"):
        serve(lab, node)
    process = holder_process(lab, "a")
    addresses = [lab.virtual_ip(version=version) for version in VERSIONS]
    for address in addresses:
        assert ask(lab, "client", address).startswith("a ")
        assert neighbour(lab, "client", address) == mac(lab, "a")
    # The kernel ignores a second change of an ARP entry within a second, so the entry must have some age.
    await asyncio.sleep(1.1)
    process.kill()
    lab.cut("lan", "a")
    async with holder(lab, "b") as held:
        await held.hold()
        await until(lambda: {neighbour(lab, "client", one) for one in addresses} == {mac(lab, "b")}, 0.3)
        for address in addresses:
            assert ask(lab, "client", address).startswith("b ")


async def test_a_change_within_the_neighbours_lock_time_is_repaired_by_the_next_one(lab: Lab) -> None:
    async with holder(lab, "a") as first, holder(lab, "b") as second:
        await first.hold()
        ask(lab, "client", lab.virtual_ip())
        assert neighbour(lab, "client", lab.virtual_ip()) == mac(lab, "a")
        await first.withdraw()
        await second.hold()
        async with renewed(second):
            await until(lambda: neighbour(lab, "client", lab.virtual_ip()) == mac(lab, "b"), 1.5)


async def test_announcements_are_repeated_for_five_seconds_and_end_with_the_hold(lab: Lab) -> None:
    addresses = (lab.virtual_ip(), lab.virtual_ip(version=6))
    with listening(lab, "client") as opened:
        async with holder(lab, "a") as held:
            await held.hold()
            async with renewed(held):
                await asyncio.sleep(6)
                once = {"request": 5, "reply": 5, "advertisement": 5}
                assert announcements(opened, *addresses) == once
            await held.hold()
            await asyncio.sleep(0.2)
            await held.withdraw()
            announcements(opened, *addresses)
            await asyncio.sleep(1.5)
            assert sum(announcements(opened, *addresses).values()) == 0


async def test_an_address_that_vanished_is_not_announced_again(lab: Lab) -> None:
    addresses = (lab.virtual_ip(), lab.virtual_ip(version=6))
    with listening(lab, "client") as opened:
        async with holder(lab, "a") as held:
            await held.hold()
            await asyncio.sleep(0.2)
            lab.run("a", "ip", "addr", "del", f"{addresses[0]}/32", "dev", "lan0")
            announcements(opened, *addresses)
            await asyncio.sleep(1.2)
            assert announcements(opened, *addresses) == {"request": 0, "reply": 0, "advertisement": 1}


async def test_a_probe_finds_the_holder_at_once_and_nobody_afterwards(lab: Lab) -> None:
    async with holder(lab, "a") as held, holder(lab, "b") as peer:
        began = time.monotonic()
        assert await peer.probe(0.3) == []
        assert time.monotonic() - began >= 0.3
        await held.hold()
        began = time.monotonic()
        addresses = [lab.virtual_ip(version=version) for version in VERSIONS]
        assert sorted(await peer.probe(5.0)) == sorted(addresses)
        assert time.monotonic() - began < 2.0
        await held.withdraw()
        assert await peer.probe(0.3) == []


async def test_a_probe_does_not_mind_the_own_hold(lab: Lab) -> None:
    async with holder(lab, "a") as held:
        await held.hold()
        assert await held.probe(0.3) == []


async def test_a_probe_leaves_no_trace_in_the_neighbours(lab: Lab) -> None:
    async with holder(lab, "b") as peer:
        await peer.probe(0.2)
    for version in VERSIONS:
        assert neighbour(lab, "client", lab.virtual_ip(version=version)) is None


async def test_two_nodes_that_probe_at_once_see_each_other(lab: Lab) -> None:
    async with holder(lab, "a") as first, holder(lab, "b") as second:
        found = await asyncio.gather(first.probe(0.6), second.probe(0.6))
        assert any(found)


async def test_a_probe_finds_a_stranger(lab: Lab) -> None:
    lab.run("client", "ip", "addr", "add", f"{lab.virtual_ip()}/24", "dev", "lan0")
    async with holder(lab, "b") as peer:
        assert await peer.probe(0.4) == [lab.virtual_ip()]


async def test_without_a_carrier_a_probe_is_an_error_not_an_all_clear(lab: Lab) -> None:
    lab.unplug("lan", "b")
    async with holder(lab, "b") as peer:
        with pytest.raises(OSError, match="lan0 is down or has no carrier"):
            await peer.probe(0.2)


async def test_after_a_healed_partition_the_neighbours_of_the_one_that_yielded_find_the_other(
    lab: Lab,
) -> None:
    lab.cut("lan", "a")
    serve(lab, "a")
    serve(lab, "b")
    async with holder(lab, "a") as first, holder(lab, "b") as second:
        await first.hold()
        async with renewed(first), renewed(second):
            await asyncio.sleep(ANNOUNCE_GAP * ANNOUNCE_TIMES)
            # Now the client's side of the partition has the other holder, which announces nothing new.
            lab.heal("lan", "a")
            lab.cut("lan", "b")
            await second.hold()
            await asyncio.sleep(ANNOUNCE_GAP * ANNOUNCE_TIMES)
            assert (await asyncio.to_thread(ask, lab, "client", lab.virtual_ip())).startswith("a ")
            lab.heal("lan", "b")
            await first.withdraw()
            await until(
                lambda: neighbour(lab, "client", lab.virtual_ip()) == mac(lab, "b"), REFRESH_GAP + 0.5
            )
            assert (await asyncio.to_thread(ask, lab, "client", lab.virtual_ip())).startswith("b ")
