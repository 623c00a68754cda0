"""A process that was frozen does not repeat what it said before: its leases have run out, its peer has taken over."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time

import pytest

from tests.unit.control.doubles import module
from twinhull_sidecar.config import Ports
from twinhull_sidecar.heartbeat import Heartbeat

TIMEOUT = 1.0


async def test_a_thawed_process_is_silent_until_it_has_decided_again() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.bind(("127.0.0.2", 0))
        config = module(detection_timeout=TIMEOUT, ports=Ports(peer.getsockname()[1], 17400, 17401))
        heartbeat = Heartbeat(config, "a", bytes(32), lambda message: None)
        heartbeat.start()
        try:
            heartbeat.publish({"announcing": True})
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(30):
                await loop.sock_recv(peer, 8192)
            with contextlib.suppress(BlockingIOError):
                while True:
                    peer.recv(8192)
            # Nothing in the event loop runs, as under SIGSTOP.
            time.sleep(TIMEOUT * 0.7)  # noqa: ASYNC251
            for _ in range(20):
                await asyncio.sleep(0.01)
            with pytest.raises(BlockingIOError):
                peer.recv(8192)
            heartbeat.publish({"announcing": True})
            async with asyncio.timeout(30):
                await loop.sock_recv(peer, 8192)
        finally:
            heartbeat.close()
