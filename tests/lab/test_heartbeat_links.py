"""Heartbeats between two namespaces: one link of two may fail, and nobody else can speak for the peer."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.lab.netns import Lab
from tests.lab.vip_harness import ENVIRONMENT, ROOT, boottime, module
from twinhull_sidecar.config import ConfigError, Link, ModuleConfig, render
from twinhull_sidecar.heartbeat import Heartbeat, ReceivedMessage

KEY = bytes(range(32))
TIMEOUT = 1.0
INTERVAL = TIMEOUT / 10
PORT = 7400
_ETH_P_IP = 0x0800

# A sidecar's heartbeat in a process of its own, so that it can be killed and frozen.
_PEER = """
import asyncio, sys
from twinhull_sidecar.config import parse
from twinhull_sidecar.heartbeat import Heartbeat

async def main():
    heartbeat = Heartbeat(parse(sys.stdin.read()), "b", bytes(range(32)), lambda message: None)
    heartbeat.start()
    heartbeat.publish({"role": "Primary"})
    await asyncio.sleep(3600)

asyncio.run(main())
"""


def configuration() -> ModuleConfig:
    links = (
        Link("lan", {node: Lab.address(node) for node in ("a", "b")}),
        Link("direct", {node: Lab.address(node, "direct", 6) for node in ("a", "b")}),
    )
    return replace(module(timeout=TIMEOUT), links=links)


class Heard:
    """Collects what a heartbeat hands out."""

    def __init__(self) -> None:
        self.messages: list[ReceivedMessage] = []

    def __call__(self, message: ReceivedMessage) -> None:
        self.messages.append(message)

    def count(self, link: str) -> int:
        return sum(message.link == link for message in self.messages)


@contextlib.asynccontextmanager
async def heartbeat(
    lab: Lab, node: str, key: bytes = KEY, config: ModuleConfig | None = None
) -> AsyncIterator[tuple[Heartbeat, Heard]]:
    heard = Heard()
    made = Heartbeat(config or configuration(), node, key, heard)
    with lab.inside(node):
        made.start()
    made.publish({"role": "Secondary", "node": node})
    try:
        yield made, heard
    finally:
        made.close()


async def within(condition: Callable[[], bool], timeout: float) -> float:
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < timeout, f"not within {timeout} s"
        await asyncio.sleep(0.005)
    return time.monotonic() - began


def hears(heartbeat: Heartbeat, *links: str) -> bool:
    """Whether exactly these links have had a sign of life within three intervals."""
    alive = {
        name
        for name, link in heartbeat.links().items()
        if link.heard_at is not None and boottime() - link.heard_at < 3 * INTERVAL
    }
    return alive == set(links)


def peer_process(lab: Lab) -> Any:
    process: Any = lab.spawn(
        "b", [sys.executable, "-c", _PEER], stdin=subprocess.PIPE, text=True, env=ENVIRONMENT, cwd=ROOT
    )
    process.stdin.write(render(configuration()))
    process.stdin.close()
    return process


async def test_both_hear_each_other_on_every_link_and_changes_are_sent_at_once(lab: Lab) -> None:
    async with heartbeat(lab, "a") as (first, at_first), heartbeat(lab, "b") as (second, at_second):
        await within(lambda: hears(first, "lan", "direct") and hears(second, "lan", "direct"), 1.0)
        second.publish({"role": "Primary"})
        took = await within(lambda: at_first.messages[-1].payload["role"] == "Primary", 1.0)
        assert took < INTERVAL / 2
        await asyncio.sleep(10 * INTERVAL)
        newest = [message for message in at_second.messages if message.newest][-1]
        assert newest.payload["hears_ms"] < 2000 * INTERVAL
        assert boottime() - newest.acknowledged_at < 3 * INTERVAL
        assert newest.incarnation == first.incarnation
        assert not first.refused
        assert not second.refused


async def test_one_link_of_two_may_fail_and_both_directions_are_told_apart(lab: Lab) -> None:
    async with heartbeat(lab, "a") as (first, at_first), heartbeat(lab, "b") as (second, _):
        await within(lambda: hears(first, "lan", "direct") and hears(second, "lan", "direct"), 1.0)
        lab.cut("lan")
        await within(lambda: hears(first, "direct") and hears(second, "direct"), 1.0)
        assert at_first.messages[-1].payload["hears_ms"] < 3000 * INTERVAL
        lab.heal("lan")
        await within(lambda: hears(first, "lan", "direct"), 1.0)
        for link in ("lan", "direct"):
            lab.cut_one_way(link, "b", "a")
        await within(lambda: hears(first) and hears(second, "lan", "direct"), 1.0)
        # b goes on hearing a, and is told that a does not hear it any more.
        for link in ("lan", "direct"):
            lab.heal(link)
        await within(lambda: hears(first, "lan", "direct"), 1.0)


async def test_a_peer_that_does_not_hear_says_so(lab: Lab) -> None:
    async with heartbeat(lab, "a") as (first, _), heartbeat(lab, "b") as (second, at_second):
        await within(lambda: hears(first, "lan", "direct") and hears(second, "lan", "direct"), 1.0)
        for link in ("lan", "direct"):
            lab.cut_one_way(link, "b", "a")
        await asyncio.sleep(TIMEOUT)
        assert at_second.messages[-1].payload["hears_ms"] > 800 * TIMEOUT


async def test_a_link_without_carrier_or_address_comes_back_by_itself(lab: Lab) -> None:
    lab.run("a", "ip", "addr", "del", f"{lab.address('a', 'direct', 6)}/64", "dev", "direct0")
    async with heartbeat(lab, "a") as (first, _), heartbeat(lab, "b") as (second, _at_second):
        await within(lambda: hears(first, "lan") and hears(second, "lan"), 1.0)
        lab.run("a", "ip", "addr", "add", f"{lab.address('a', 'direct', 6)}/64", "dev", "direct0", "nodad")
        await within(lambda: hears(first, "lan", "direct"), 1.0)
        lab.run("a", "ip", "link", "set", "lan0", "down")
        await within(lambda: hears(first, "direct") and first.links()["lan"].error is not None, 1.0)
        assert first.links()["direct"].error is None


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGSTOP], ids=lambda value: value.name)
async def test_a_dead_or_frozen_peer_falls_silent(lab: Lab, stop: signal.Signals) -> None:
    process = peer_process(lab)
    async with heartbeat(lab, "a") as (first, _):
        await within(lambda: hears(first, "lan", "direct"), 5.0)
        process.send_signal(stop)
        await within(lambda: hears(first), 1.0)


async def test_what_lay_in_the_buffer_of_a_frozen_process_is_not_new(lab: Lab) -> None:
    """A process that was stopped must not take the datagrams of before for a living peer."""
    process = peer_process(lab)
    async with heartbeat(lab, "a") as (first, at_first):
        await within(lambda: hears(first, "lan", "direct"), 5.0)
        # Nobody reads the sockets meanwhile, as if this process were stopped; then the peer dies.
        time.sleep(0.3)  # noqa: ASYNC251
        process.kill()
        process.wait()
        died_at = boottime()
        time.sleep(1.0)  # noqa: ASYNC251
        seen = len(at_first.messages)
        await asyncio.sleep(0.2)
        assert len(at_first.messages) > seen
        for link in first.links().values():
            assert link.heard_at is not None
            assert link.heard_at <= died_at + 0.05


async def test_a_restarted_peer_is_heard_again_with_a_new_incarnation(lab: Lab) -> None:
    async with heartbeat(lab, "a") as (first, at_first):
        async with heartbeat(lab, "b") as (second, _):
            await within(lambda: hears(first, "lan", "direct"), 1.0)
            before = second.incarnation
        async with heartbeat(lab, "b") as (second, at_second):
            await within(lambda: bool(at_second.messages), 1.0)
            await within(lambda: at_first.messages[-1].incarnation == second.incarnation, 1.0)
            assert second.incarnation != before


async def test_forged_foreign_and_malformed_datagrams_keep_nobody_alive(
    lab: Lab, caplog: pytest.LogCaptureFixture
) -> None:
    other_module = replace(configuration(), uid="another uid")
    async with heartbeat(lab, "a") as (first, at_first):
        for key, config, kind in ((KEY[::-1], None, "forged"), (KEY, other_module, "foreign")):
            async with heartbeat(lab, "b", key, config):
                await within(lambda kind=kind: first.refused[kind] >= 4, 2.0)  # type: ignore[misc]
        with lab.inside("client"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
            for noise in (b"", b"x", b"THHB\x01" + bytes(60), os.urandom(1400)):
                stranger.sendto(noise, (lab.address("a"), PORT))
        await within(lambda: first.refused["malformed"] >= 3, 1.0)
        assert at_first.messages == []
        assert "that are no heartbeat" in (first.refusal() or "")
        assert all(link.heard_at is None for link in first.links().values())
    # Each kind is told once, not at every datagram.
    lines = [
        record.getMessage() for record in caplog.records if "refused from 10.77.0.2" in record.getMessage()
    ]
    assert sum("not sealed with this module's key" in line for line in lines) == 1
    assert sum("of another module" in line for line in lines) == 1


async def test_recorded_datagrams_keep_nobody_alive(lab: Lab) -> None:
    with lab.inside("a"):
        tap = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(_ETH_P_IP))
    with tap:
        tap.bind(("lan0", _ETH_P_IP))
        tap.setblocking(False)
        async with heartbeat(lab, "a") as (first, at_first):
            async with heartbeat(lab, "b"):
                await within(lambda: hears(first, "lan", "direct"), 1.0)
                await asyncio.sleep(5 * INTERVAL)
            recorded = _datagrams_from(tap, lab.address("b"))
            assert len(recorded) >= 5
            await within(lambda: hears(first), 1.0)
            counted = len(at_first.messages)
            with lab.inside("client"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for datagram in recorded:
                    stranger.sendto(datagram, (lab.address("a"), PORT))
            await within(lambda: first.refused["replayed"] >= len(recorded) - 1, 1.0)
            assert len(at_first.messages) == counted
            assert hears(first)
        # A later life of the receiver does not take them either.
        async with heartbeat(lab, "a") as (again, at_again):
            with lab.inside("client"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
                for datagram in recorded:
                    stranger.sendto(datagram, (lab.address("a"), PORT))
            await asyncio.sleep(0.3)
            assert at_again.messages == []
            assert hears(again)


async def test_a_port_in_use_names_the_field_and_the_mend(lab: Lab) -> None:
    async with heartbeat(lab, "a"):
        with pytest.raises(ConfigError) as caught:
            async with heartbeat(lab, "a"):
                pass
    assert caught.value.field == "ports.heartbeat"
    assert "UDP port 7400" in caught.value.message
    assert "ss -ulpn" in caught.value.mend


async def test_a_message_too_long_for_a_datagram_is_refused_and_the_old_one_stays(lab: Lab) -> None:
    async with heartbeat(lab, "a") as (first, _), heartbeat(lab, "b") as (_second, at_second):
        await within(lambda: bool(at_second.messages), 1.0)
        with pytest.raises(ValueError, match="longer than"):
            first.publish({"role": "x" * 9000})
        await asyncio.sleep(2 * INTERVAL)
        assert at_second.messages[-1].payload["role"] == "Secondary"


def _datagrams_from(tap: socket.socket, source: str) -> list[bytes]:
    """The payloads of the UDP datagrams from an address that a packet socket has seen."""
    found: list[bytes] = []
    while True:
        try:
            packet = tap.recv(4096)
        except BlockingIOError:
            return found
        header = (packet[0] & 0xF) * 4
        if packet[9] == socket.IPPROTO_UDP and socket.inet_ntoa(packet[12:16]) == source:
            found.append(packet[header + 8 :])
