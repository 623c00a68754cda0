"""Where the control interface is served: the Unix socket, and each of the node's own addresses.

Each address has a server of its own, so that a link that is down when the sidecar starts costs only itself: its
address is tried again until it is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import socket
from collections.abc import Sequence
from pathlib import Path

from twinhull_sidecar import tls
from twinhull_sidecar.api.server import Controller, Server
from twinhull_sidecar.config import ConfigError

log = logging.getLogger(__name__)

RETRY = 5.0
STOP_GRACE = 0.2


class Listeners:
    """Serves ``controller``; made with nothing to listen on, see :meth:`serve`."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._socket: tuple[Path, Server] | None = None
        self._nodes: dict[str, Server] = {}
        self._wanted: tuple[Sequence[str], int, tls.Identity] | None = None
        self._retrying: asyncio.Task[None] | None = None

    async def serve_socket(self, path: Path) -> None:
        """Serve on this Unix socket instead of the one before. Raises OSError or RuntimeError."""
        if self._socket is not None:
            if self._socket[0] == path:
                return
            await self._socket[1].stop(STOP_GRACE)
            self._socket = None
        server = Server(self._controller)
        server.listen_socket(path)
        await server.start()
        self._socket = (path, server)

    async def serve_nodes(self, addresses: Sequence[str], port: int, identity: tls.Identity) -> None:
        """Serve over mutual TLS on these addresses instead of those before.

        An address that the node does not have now is served as soon as it has. Raises ConfigError when the port is
        in use.
        """
        wanted = (tuple(addresses), port, identity)
        if self._wanted is not None and wanted[:2] == self._wanted[:2]:
            self.renew(identity)
            return
        await self._stop_nodes()
        await self._serve_missing(addresses, port, identity)
        self._wanted = wanted
        if len(self._nodes) < len(addresses):
            self._retrying = asyncio.create_task(self._retry(addresses, port))

    def renew(self, identity: tls.Identity) -> None:
        """Prove ourselves with this one from now on; connections that exist stay."""
        if self._wanted is not None:
            self._wanted = (*self._wanted[:2], identity)
        for server in self._nodes.values():
            server.renew(identity)

    async def close(self) -> None:
        """Stop serving."""
        await self._stop_nodes()
        if self._socket is not None:
            await self._socket[1].stop(STOP_GRACE)
            self._socket = None

    async def _stop_nodes(self) -> None:
        self._wanted = None
        if self._retrying is not None:
            self._retrying.cancel()
            await asyncio.gather(self._retrying, return_exceptions=True)
            self._retrying = None
        servers = list(self._nodes.values())
        self._nodes.clear()
        await asyncio.gather(*(server.stop(STOP_GRACE) for server in servers))

    async def _retry(self, addresses: Sequence[str], port: int) -> None:
        while len(self._nodes) < len(addresses):
            await asyncio.sleep(RETRY)
            if self._wanted is not None:
                with contextlib.suppress(ConfigError):
                    await self._serve_missing(addresses, port, self._wanted[2])

    async def _serve_missing(self, addresses: Sequence[str], port: int, identity: tls.Identity) -> None:
        for address in addresses:
            if address in self._nodes:
                continue
            if not _available(address, port):
                log.warning(
                    "%s is not an address of this node now; the control interface waits for it", address
                )
                continue
            server = Server(self._controller)
            try:
                server.listen_node(address, port, identity)
            except RuntimeError as error:
                mend = "stop what uses it (ss -tlpn) or give the module another port"
                raise ConfigError(
                    "ports.grpc", f"cannot listen on {address} port {port} ({error})", mend
                ) from None
            await server.start()
            self._nodes[address] = server


def _available(address: str, port: int) -> bool:
    """Whether the node has the address. Raises ConfigError when the port is taken."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                return False
            mend = "stop what uses it (ss -tlpn) or give the module another port"
            message = f"cannot listen on {address} port {port} ({error.strerror})"
            raise ConfigError("ports.grpc", message, mend) from None
    return True
