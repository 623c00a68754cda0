"""Listens to one sidecar's status stream for as long as the module exists.

A sidecar counts as unreachable only after two attempts in a row have failed, or when nothing came for longer
than it would be silent by itself; a broken connection alone says nothing about the node.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import count

import grpc.aio

from twinhull_operator.report import NodeReport
from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.client import Connection, connect_node

log = logging.getLogger(__name__)

LONGEST_SILENCE = 8.0
"""Seconds without a status after which the stream counts as dead; a sidecar sends one every 5 s."""
FIRST_DELAY = 0.5
LONGEST_DELAY = 10.0
FAILURES_TO_UNREACHABLE = 2
ORDER_DEADLINE = 10.0


def retry_delay(failures: int, fraction: float) -> float:
    """Seconds before the next attempt after so many failures; ``fraction`` (0 to 1) spreads the attempts."""
    longest = min(LONGEST_DELAY, FIRST_DELAY * 2.0 ** min(failures - 1, 10))
    return longest * (0.5 + fraction / 2)


class SidecarWatch:
    """A node's status stream. ``report`` is what is known; ``on_change`` is called when it changed."""

    def __init__(
        self,
        *,
        node: str,
        addresses: Sequence[str],
        port: int,
        identity: tls.Identity,
        uid: str,
        on_change: Callable[[], None],
    ) -> None:
        self.target = (tuple(addresses), port)
        self.report = NodeReport(node=node, address=addresses[0])
        self._identity = identity
        self._uid = uid
        self._on_change = on_change
        self._task = asyncio.create_task(self._run(), name=f"watch {node} {uid}")

    @property
    def asked(self) -> bool:
        """Whether the sidecar answered or is known not to."""
        return self.report.status is not None or self.report.unreachable_since is not None

    def renew(self, identity: tls.Identity) -> None:
        """Connect with this one from now on; the connection that exists stays."""
        self._identity = identity

    async def close(self) -> None:
        """Stop listening."""
        self._task.cancel()
        await asyncio.wait([self._task])

    async def order(
        self, action: str, user: str, identifier: str, *, discard_peer: bool = False
    ) -> pb.OrderReply:
        """Give the sidecar an order. Raises grpc.aio.AioRpcError when it cannot be asked."""
        async with self._connect(self.report.address) as connection:
            request = pb.OrderRequest(action=action, user=user, id=identifier, discard_peer=discard_peer)
            return await connection.sidecar.Order(request, timeout=ORDER_DEADLINE)

    def _connect(self, address: str) -> Connection:
        return connect_node(address, self.target[1], self._identity, self.report.node, self._uid)

    async def _run(self) -> None:
        addresses, port = self.target
        failures = 0
        for attempt in count():
            address = addresses[attempt % len(addresses)]
            heard = False
            try:
                async with self._connect(address) as connection:
                    stream = connection.sidecar.WatchStatus(pb.StatusRequest())
                    while True:
                        # Not wait_for: Python 3.11's loses a cancellation that meets a message.
                        async with asyncio.timeout(LONGEST_SILENCE):
                            status = await stream.read()
                        if not isinstance(status, pb.Status):
                            break
                        heard, failures = True, 0
                        self._set(NodeReport(self.report.node, address, True, None, status))
            except (grpc.aio.AioRpcError, TimeoutError, OSError) as error:
                if not heard:
                    why = error.details() if isinstance(error, grpc.aio.AioRpcError) else type(error).__name__
                    log.debug("%s:%s does not answer: %s", address, port, why)
            failures += 1
            if failures >= FAILURES_TO_UNREACHABLE:
                self._set_unreachable()
            await asyncio.sleep(retry_delay(failures, random.random()))

    def _set_unreachable(self) -> None:
        if self.report.reachable or self.report.unreachable_since is None:
            self._set(replace(self.report, reachable=False, unreachable_since=time.time()))

    def _set(self, report: NodeReport) -> None:
        if report != self.report:
            self.report = report
            self._on_change()
