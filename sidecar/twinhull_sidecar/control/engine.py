"""The replication engine as the control loop uses it: blocking calls in a thread, status as a value.

The engine itself is Rust (``_mirrorfs``). Lease calls never block and go straight through.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from twinhull_sidecar.config import ModuleConfig

log = logging.getLogger(__name__)

T = TypeVar("T")

STATE = "state"
VOLUMES = "volumes"
MOUNTS = "mnt"
QUARANTINE = "quarantine"
#: How long a stream may be silent with the shortest detection timeouts.
LEAST_PEER_TIMEOUT_MS = 500


class Engine(Protocol):
    """What the loop needs of ``twinhull_sidecar._mirrorfs.Engine``; see the stub file for the meaning."""

    def record(self) -> str: ...
    def initialise(self) -> None: ...
    def start_primary(self, alone: bool) -> None: ...
    def go_alone(self) -> None: ...
    def stop_primary(self, timeout: float) -> str: ...
    def abort_primary(self) -> None: ...
    def start_secondary(self) -> None: ...
    def stop_secondary(self) -> str: ...
    def renew_lease(self, until_ns: int) -> None: ...
    def fence(self) -> None: ...
    def resync(self) -> None: ...
    def verify(self, repair: bool) -> None: ...
    def allow_discard(self, peer_generation: str) -> None: ...
    def status(self) -> str: ...
    def event_fd(self) -> int: ...
    def close(self) -> None: ...


def engine_config(config: ModuleConfig, node: str, key: bytes) -> str:
    """The ``EngineConfig`` document (``sidecar/mirrorfs/src/engine.rs``) of this module on ``node``."""
    peer = config.peer_of(node)
    base = config.base_dir
    timeout_ms = int(config.detection_timeout * 1000)
    return json.dumps(
        {
            "module": config.module,
            "uid": config.uid,
            "adopt": config.adopt_uid,
            "node": node,
            "peer": peer,
            "state_dir": f"{base}/{STATE}",
            "volumes": [
                {
                    "name": volume.name,
                    "backing": f"{base}/{VOLUMES}/{volume.name}",
                    "mountpoint": f"{base}/{MOUNTS}/{volume.name}",
                }
                for volume in config.volumes
            ],
            "quarantine_dir": f"{base}/{QUARANTINE}",
            "listen": [_endpoint(link.addresses[node], config.ports.replication) for link in config.links],
            "connect": [_endpoint(link.addresses[peer], config.ports.replication) for link in config.links],
            "key_hex": key.hex(),
            "durability": config.durability,
            "window_bytes": config.window_bytes,
            "resync_rate": config.resync_rate,
            "quarantine": True,
            # Half and a quarter of the detection timeout: a stream that hangs on a dead link is dialled again
            # over the next link before the peer counts as lost. The second is the same for all longer timeouts: a
            # sign of life goes out each quarter of it, which must be enough for a peer with a shorter one.
            "connect_timeout_ms": max(timeout_ms // 4, LEAST_PEER_TIMEOUT_MS // 2),
            "peer_timeout_ms": min(max(timeout_ms // 2, LEAST_PEER_TIMEOUT_MS), 3 * LEAST_PEER_TIMEOUT_MS),
        }
    )


def _endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


class EngineRunner:
    """Calls of one engine from the event loop. Use :meth:`open`, which also reads the record."""

    def __init__(self, engine: Engine, record: dict[str, Any], on_change: Callable[[], None]) -> None:
        self.engine = engine
        #: The generation record as last read by :meth:`refresh_record`.
        self.record = record
        self._on_change = on_change
        # Two threads: an order that hangs on a dead disk must not keep abort_primary from being called.
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="engine")
        self._refresh: asyncio.Task[None] | None = None
        self._event_fd = engine.event_fd()
        asyncio.get_running_loop().add_reader(self._event_fd, self._changed)

    @classmethod
    async def open(cls, make: Callable[[], Engine], on_change: Callable[[], None]) -> EngineRunner:
        """Make the engine (which may block on a disk) and read its record. Raises MirrorfsError."""

        def opened() -> tuple[Engine, dict[str, Any]]:
            engine = make()
            try:
                return engine, json.loads(engine.record())
            except BaseException:
                engine.close()
                raise

        engine, record = await asyncio.to_thread(opened)
        return cls(engine, record, on_change)

    def _changed(self) -> None:
        try:
            os.read(self._event_fd, 8)
        except BlockingIOError:
            return
        self._on_change()

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a blocking engine call in a thread. Raises what it raises (MirrorfsError)."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)

    def status(self) -> dict[str, Any]:
        """The engine's status now; does not block."""
        value: dict[str, Any] = json.loads(self.engine.status())
        return value

    async def refresh_record(self, patience: float) -> None:
        """Read the generation record anew, in a thread: it asks the disk whether there are files.

        After ``patience`` seconds, or on an error, the one before stays until the next call.
        """
        if self._refresh is None or self._refresh.done():
            self._refresh = asyncio.create_task(self._read_record())
        await asyncio.wait({self._refresh}, timeout=patience)

    async def _read_record(self) -> None:
        try:
            self.record = json.loads(await self.call(self.engine.record))
        except Exception as error:
            log.warning("the generation record cannot be read: %s", error)

    async def close(self) -> None:
        """Abort what runs, unmount, release everything."""
        asyncio.get_running_loop().remove_reader(self._event_fd)
        await self.call(self.engine.close)
        self._threads.shutdown(wait=False)
