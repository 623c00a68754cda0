"""The sidecar's end of ``lease.sock``: one connection a container, lines in and out."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from pathlib import Path

from twinhull_sidecar.workload.lease_protocol import MAX_LINE, Hello, ProtocolError, Report, parse

log = logging.getLogger(__name__)

OnHello = Callable[[Hello], bool]
OnReport = Callable[[str, Report], None]
OnGone = Callable[[str], None]


class GateServer:
    """Accepts gates and keeps the newest connection of each container.

    ``on_hello`` says whether the container belongs to the module; ``on_report`` and ``on_gone`` follow with
    its name. A gate that sends nonsense or reads nothing loses its connection and comes back by itself.
    """

    def __init__(self, path: Path, on_hello: OnHello, on_report: OnReport, on_gone: OnGone) -> None:
        self._path = path
        self._on_hello = on_hello
        self._on_report = on_report
        self._on_gone = on_gone
        self._server: asyncio.Server | None = None
        self._writers: dict[str, asyncio.StreamWriter] = {}
        self._accepted: set[asyncio.StreamWriter] = set()

    async def open(self) -> None:
        """Listen. A socket left by an earlier sidecar is replaced. Raises OSError."""
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=MAX_LINE)
        # Containers run as any user; only the module's own containers mount the directory.
        self._path.chmod(0o666)

    async def close(self) -> None:
        """Close every connection and remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for writer in list(self._accepted):
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None
        self._path.unlink(missing_ok=True)

    def connected(self, container: str) -> bool:
        """Whether this container's gate is there."""
        return container in self._writers

    def send(self, container: str, line: bytes) -> bool:
        """Queue a line for a container's gate, without waiting; False when it is not there."""
        writer = self._writers.get(container)
        if writer is None or writer.is_closing():
            return False
        if writer.transport.get_write_buffer_size() > MAX_LINE:
            log.warning("gate of container %s reads nothing; closing its connection", container)
            writer.transport.abort()
            return False
        writer.write(line)
        return True

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._accepted.add(writer)
        container: str | None = None
        try:
            while True:
                try:
                    line = await reader.readuntil(b"\n")
                except asyncio.IncompleteReadError:
                    break
                message = parse(line)
                if isinstance(message, Hello):
                    if not self._on_hello(message):
                        log.warning("a gate names the container %r, unknown here", message.container)
                        break
                    container = message.container
                    older = self._writers.get(container)
                    self._writers[container] = writer
                    if older is not None and older is not writer:
                        older.transport.abort()
                elif isinstance(message, Report):
                    if container is None:
                        raise ProtocolError("a state before hello")
                    if self._writers.get(container) is writer:
                        self._on_report(container, message)
        except (ProtocolError, asyncio.LimitOverrunError) as error:
            log.warning("bad line of the gate of container %s: %s", container, error)
        except OSError as error:
            log.info("connection of the gate of container %s: %s", container, os.strerror(error.errno or 0))
        finally:
            self._accepted.discard(writer)
            writer.transport.abort()
            if container is not None and self._writers.get(container) is writer:
                del self._writers[container]
                self._on_gone(container)
