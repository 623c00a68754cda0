"""How often heartbeats are sent when the nodes have different detection timeouts."""

from __future__ import annotations

import asyncio
import socket

from tests.unit.control.doubles import module
from twinhull_sidecar.config import Ports
from twinhull_sidecar.heartbeat import Heartbeat


async def test_a_peer_with_a_short_timeout_is_told_often_enough() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        peer.bind(("127.0.0.2", 0))
        port = peer.getsockname()[1]
        config = module(detection_timeout=60.0, ports=Ports(port, 17400, 17401))
        heartbeat = Heartbeat(config, "a", bytes(32), lambda message: None)
        heartbeat.start()
        try:
            heartbeat.publish({"node": "a"})
            heartbeat.pace(0.5)
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(3):
                for _ in range(5):
                    await loop.sock_recv(peer, 8192)
        finally:
            heartbeat.close()
