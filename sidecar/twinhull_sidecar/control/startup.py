"""From the command line to a running loop; given something wrong, a sidecar stays up, waits and says so."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from twinhull_sidecar import location, tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.listeners import Listeners
from twinhull_sidecar.config import ConfigError, ModuleConfig, parse
from twinhull_sidecar.control import status
from twinhull_sidecar.control.assembly import assembled
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.identity_watch import IdentityWatch
from twinhull_sidecar.control.surroundings import ModuleLoop, Surroundings
from twinhull_sidecar.role.model import Role

log = logging.getLogger(__name__)

RETRY = 2.0
#: Seconds beyond the application's own grace for handing over: flush, unmount, answer.
HAND_OVER_TIME = 20.0


@dataclass(frozen=True)
class Options:
    """The command line of ``twinhull-sidecar run``."""

    config: Path
    node: str
    tls_dir: Path
    gate_dir: Path
    gate_binary: Path
    cri_socket: Path
    pod_ip: str | None = None
    pod_name: str = ""
    pod_namespace: str = ""
    pod_uid: str = ""


class Refusal:
    """The controller of a sidecar that cannot run its module: shows why, refuses orders."""

    def __init__(
        self, node: str, config: ModuleConfig | None, events: EventLog, problem: status.Problem
    ) -> None:
        self._status = status.refused(node, config, events, problem)
        self.problem = problem

    def status(self) -> pb.Status:
        """See ``api.server.Controller``."""
        return self._status

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See ``api.server.Controller``."""
        return pb.OrderReply(accepted=False, message=self._status.reason, id=request.id)


class Front:
    """The controller that the server knows: in front of whatever there is at the moment."""

    def __init__(self) -> None:
        self._inner: ModuleLoop | Refusal | None = None
        self._version = 0
        self._changed = asyncio.Event()

    def put(self, inner: ModuleLoop | Refusal) -> None:
        """Show this one from now on."""
        self._inner = inner
        self.bump()

    def bump(self) -> None:
        """Something changed: tell whoever waits."""
        self._version += 1
        self._changed.set()
        self._changed = asyncio.Event()

    def status(self) -> pb.Status:
        """See ``api.server.Controller``."""
        if self._inner is None:
            return pb.Status(role=Role.WAITING, reason="the sidecar starts", reason_code="Starting")
        return self._inner.status()

    async def wait_changed(self, seen: int) -> int:
        """See ``api.server.Controller``."""
        while seen == self._version:
            await self._changed.wait()
        return self._version

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See ``api.server.Controller``."""
        if self._inner is None:
            return pb.OrderReply(accepted=False, message="the sidecar starts; try again", id=request.id)
        return await self._inner.order(request)


class Startup:
    """Tries to run the module until it has run to its orderly end."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._events = EventLog()
        self._front = Front()
        self._listeners = Listeners(self._front)
        self._stop = asyncio.Event()
        self._problem: status.Problem | None = None
        self._config: ModuleConfig | None = None

    async def run(self) -> int:
        """Run until SIGTERM; the result is the exit code."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        try:
            while not self._stop.is_set():
                try:
                    return await self._attempt()
                except ConfigError as error:
                    self._refuse(status.Problem.of(error))
                except OSError as error:
                    where = str(error.filename or "system")
                    self._refuse(status.Problem(where, error.strerror or str(error), "see the sidecar's log"))
                except Exception as error:
                    if type(error).__name__ != "MirrorfsError":
                        log.exception("the sidecar cannot run its module")
                    mend = "mend it; the sidecar tries again by itself"
                    self._refuse(status.Problem("storage", str(error), mend))
                with suppress(TimeoutError):
                    async with asyncio.timeout(RETRY):
                        await self._stop.wait()
            return 0
        finally:
            await self._listeners.close()

    def _refuse(self, problem: status.Problem) -> None:
        if problem != self._problem:
            self._problem = problem
            self._events.warning("Refused", f"{problem.field}: {problem.message}; {problem.mend}")
            self._front.put(Refusal(self._options.node, self._config, self._events, problem))

    async def _attempt(self) -> int:
        options = self._options
        self._config = None
        await self._listeners.serve_socket(location.socket_of_config(options.config))
        try:
            document = options.config.read_bytes()
        except OSError as error:
            mend = "mount the module's ConfigMap there"
            raise ConfigError(str(options.config), f"cannot be read ({error.strerror})", mend) from None
        self._config = config = parse(document)
        config.peer_of(options.node)
        identity = tls.load(options.tls_dir, options.node, config.uid)
        addresses = [link.addresses[options.node] for link in config.links]
        await self._listeners.serve_nodes(addresses, config.ports.grpc, identity)
        certificates = IdentityWatch(options.tls_dir, identity, config.uid, options.node, self._events)
        around = Surroundings(
            node=options.node,
            identity=identity,
            identity_now=lambda: certificates.identity,
            gate_dir=options.gate_dir,
            gate_binary=options.gate_binary,
            cri_socket=options.cri_socket,
            pod_ip=options.pod_ip,
        )
        async with assembled(config, around, self._events, self._front.bump) as loop:
            self._problem = None
            self._front.put(loop)
            running = asyncio.create_task(loop.run())
            stopping = asyncio.create_task(self._stop.wait())
            renewing = asyncio.create_task(certificates.run(self._listeners.renew))
            try:
                await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not running.done():
                    loop.terminate()
                    longest = config.application.stop_grace + HAND_OVER_TIME
                    await asyncio.wait({running}, timeout=longest)
                    if not running.done():
                        log.error("the orderly leave took more than %.0f s; ending at once", longest)
                        return 1
                await running
            finally:
                renewing.cancel()
                stopping.cancel()
                running.cancel()
        return 0


def run(options: Options) -> int:
    """Run the sidecar; the result is the exit code."""
    return asyncio.run(_run(options))


async def _run(options: Options) -> int:
    return await Startup(options).run()
