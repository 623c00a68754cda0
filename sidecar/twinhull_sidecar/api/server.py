"""The gRPC server: a thin shell that hands orders to the control loop and streams its status."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import grpc
import grpc.aio

from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.sidecar_pb2_grpc import SidecarServicer, add_SidecarServicer_to_server

log = logging.getLogger(__name__)

MIN_INTERVAL = 0.2
MAX_INTERVAL = 5.0


class Controller(Protocol):
    """What the server needs of the control loop."""

    def status(self) -> pb.Status:
        """The status now."""

    async def wait_changed(self, seen: int) -> int:
        """Return the change counter as soon as it differs from ``seen``."""

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """Accept or refuse an order."""


class Service(SidecarServicer):
    """The Sidecar service over a controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller

    async def GetStatus(self, request: pb.StatusRequest, context: object) -> pb.Status:  # noqa: N802
        """See sidecar.proto."""
        return self._controller.status()

    async def WatchStatus(  # noqa: N802
        self, request: pb.StatusRequest, context: object
    ) -> AsyncIterator[pb.Status]:
        """See sidecar.proto."""
        seen = -1
        while True:
            try:
                async with asyncio.timeout(MAX_INTERVAL):
                    seen = await self._controller.wait_changed(seen)
            except TimeoutError:
                pass
            yield self._controller.status()
            await asyncio.sleep(MIN_INTERVAL)

    async def Order(self, request: pb.OrderRequest, context: object) -> pb.OrderReply:  # noqa: N802
        """See sidecar.proto."""
        return await self._controller.order(request)


def _certificates(identity: tls.Identity) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(identity.private_key, identity.certificate)], identity.ca
    )


class Server:
    """The control interface on this node's own addresses (mutual TLS) and on a Unix socket (mode 0600)."""

    _identity: tls.Identity

    def __init__(self, controller: Controller) -> None:
        # Ports must not be shared: with SO_REUSEPORT a second sidecar would silently take half of the calls.
        self._server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        add_SidecarServicer_to_server(Service(controller), self._server)

    def listen_socket(self, path: Path) -> None:
        """Serve on a Unix socket, replacing one of an earlier process. Raises OSError or RuntimeError."""
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if not self._server.add_insecure_port(f"unix:{path}"):
            raise OSError(f"cannot serve on {path}")
        path.chmod(0o600)

    def listen_node(self, address: str, port: int, identity: tls.Identity) -> int:
        """Serve over mutual TLS on one address; returns the port. Raises RuntimeError when it is in use."""
        self._identity = identity
        credentials = grpc.dynamic_ssl_server_credentials(
            _certificates(identity), self._renewed, require_client_authentication=True
        )
        target = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        return self._server.add_secure_port(target, credentials)

    def renew(self, identity: tls.Identity) -> None:
        """Prove ourselves with this one in every handshake from now on; connections that exist stay."""
        self._identity = identity

    def _renewed(self) -> grpc.ServerCertificateConfiguration:
        """Asked by gRPC, in a thread of its own, at each handshake."""
        return _certificates(self._identity)

    async def start(self) -> None:
        """Begin to answer."""
        await self._server.start()

    async def stop(self, grace: float) -> None:
        """Answer what is under way for at most ``grace`` seconds, then close."""
        await self._server.stop(grace)
