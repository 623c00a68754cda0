"""Orders that are the other node's business go there over gRPC, so that one may ask either."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

import grpc
import grpc.aio

from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api import sidecar_pb2_grpc as pb_grpc
from twinhull_sidecar.api.client import connect_node
from twinhull_sidecar.config import ModuleConfig
from twinhull_sidecar.role.model import Answer, Order

log = logging.getLogger(__name__)

CALL_TIMEOUT = 2.0
OUTCOME_TIMEOUT = 120.0


class PeerOrders:
    """Passes an order to the peer, over the first link that works, and reports its outcome there."""

    def __init__(
        self,
        config: ModuleConfig,
        node: str,
        identity: Callable[[], tls.Identity],
        answer: Callable[[Answer], None],
    ) -> None:
        self._config = config
        self._peer = config.peer_of(node)
        self._identity = identity
        self._answer = answer
        self._tasks: set[asyncio.Task[None]] = set()

    async def forward(self, order: Order) -> None:
        """Begin to pass ``order`` on; its outcome comes by ``answer``."""
        task = asyncio.create_task(self._forward(order))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Forget what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _forward(self, order: Order) -> None:
        trouble = "it has no link"
        for link in self._config.links:
            address = link.addresses[self._peer]
            port = self._config.ports.grpc
            try:
                async with connect_node(
                    address, port, self._identity(), self._peer, self._config.uid
                ) as connection:
                    self._answer(await self._ask(connection.sidecar, order))
                    return
            except grpc.aio.AioRpcError as error:
                trouble = error.details() or str(error.code())
                log.warning("%s cannot be reached over link %s: %s", self._peer, link.name, trouble)
            except TimeoutError:
                trouble = f"no outcome after {OUTCOME_TIMEOUT:g} s"
        self._answer(Answer(order.id, "failed", f"{self._peer} did not take the order: {trouble}"))

    async def _ask(self, sidecar: pb_grpc.SidecarStub, order: Order) -> Answer:
        reply = await sidecar.Order(
            pb.OrderRequest(
                action=order.action, user=order.user, discard_peer=order.discard_peer, id=order.id
            ),
            timeout=CALL_TIMEOUT,
        )
        if not reply.accepted:
            return Answer(order.id, "failed", f"{self._peer}: {reply.message}")
        async with asyncio.timeout(OUTCOME_TIMEOUT):
            async for status in sidecar.WatchStatus(pb.StatusRequest()):
                last = status.last_order
                if last.id == order.id and last.state in ("done", "failed"):
                    return Answer(order.id, "done" if last.state == "done" else "failed", last.message)
        return Answer(order.id, "failed", f"{self._peer} ended before the order was done")
