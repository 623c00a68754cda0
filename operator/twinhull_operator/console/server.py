"""Serves the console over HTTPS. What goes wrong here is logged and never keeps the operator from its work."""

from __future__ import annotations

import asyncio
import datetime
import logging
import ssl
from collections.abc import Sequence
from typing import Final, Protocol

from aiohttp import web

from twinhull_operator.console.access import Access
from twinhull_operator.console.board import Board
from twinhull_operator.console.certificate import GivenCertificate, own_context
from twinhull_operator.console.desk import Desk, GiveOrder
from twinhull_operator.console.files import Files
from twinhull_operator.console.handlers import Gate, Handlers
from twinhull_operator.console.hub import Hub
from twinhull_operator.console.protect import add_headers, answer_refusals, headers_of
from twinhull_operator.console.sessions import Sessions
from twinhull_operator.console.settings import ConsoleSettings
from twinhull_operator.console.stream import Streams
from twinhull_operator.console.throttle import Throttle
from twinhull_operator.kube import Kube
from twinhull_operator.metrics.view import ModuleView

log = logging.getLogger(__name__)

_LARGEST_BODY: Final = 32 * 1024
_CERTIFICATE_PERIOD: Final = 30.0


class Keeper(Protocol):
    """Knows the modules and reaches their sidecars; see Modules."""

    @property
    def order(self) -> GiveOrder:
        """Gives an order to a sidecar."""

    def views(self) -> Sequence[ModuleView]:
        """What is known of each module."""


class Console:
    """One per operator. ``kube`` is its own connection, which it closes."""

    def __init__(self, modules: Keeper, kube: Kube, settings: ConsoleSettings) -> None:
        self._settings = settings
        self._kube = kube
        self._given: GivenCertificate | None = None
        self._runner: web.AppRunner | None = None
        self._reload: asyncio.Task[None] | None = None
        self._modules = modules
        self._board = Board(modules.views)
        self._hub = Hub(self._board, kube.version)

    async def start(self, host: str | None = None) -> int:
        """Serve; returns the port, 0 when that cannot be."""
        port = self._settings.port
        try:
            context = self._context()
            self._runner = web.AppRunner(self._application(), access_log=None, shutdown_timeout=2)
            await self._runner.setup()
            await web.TCPSite(self._runner, host, port, ssl_context=context).start()
        except (OSError, ValueError) as error:
            log.error("the console cannot be served on port %d: %s", port, error)
            await self.close()
            return 0
        self._hub.start()
        if self._given is not None:
            self._reload = asyncio.create_task(
                self._keep_certificate(self._given), name="console: certificate"
            )
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop serving."""
        if self._reload is not None:
            self._reload.cancel()
        await self._hub.close()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._kube.close()

    def _application(self) -> web.Application:
        access = Access(self._kube)
        gate = Gate(Sessions(), access, each=Throttle(10, 6.0), all=Throttle(60, 1.0))
        return build(
            Handlers(gate, Desk(self._board, access, self._kube, self._modules.order)),
            Streams(gate, self._board, self._hub),
            known_certificate=self._settings.certificate is not None,
        )

    def _context(self) -> ssl.SSLContext:
        if self._settings.certificate is None:
            return own_context(self._settings.names, datetime.datetime.now(datetime.UTC))
        self._given = GivenCertificate(self._settings.certificate)
        return self._given.context

    @staticmethod
    async def _keep_certificate(given: GivenCertificate) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_PERIOD)
            try:
                if given.load():
                    log.info("the console uses the Secret's new certificate")
            except (OSError, ValueError) as error:
                log.error("the console keeps its certificate; the Secret's cannot be used: %s", error)


def build(handlers: Handlers, streams: Streams, *, known_certificate: bool) -> web.Application:
    """The application: which path is answered by what."""
    files = Files()
    application = web.Application(middlewares=[answer_refusals], client_max_size=_LARGEST_BODY)
    application.on_response_prepare.append(add_headers(headers_of(known_certificate=known_certificate)))
    application.router.add_get("/", files.page)
    application.router.add_get("/static/{name}", files.file)
    application.router.add_post("/api/login", handlers.login)
    application.router.add_post("/api/logout", handlers.logout)
    application.router.add_get("/api/session", handlers.session)
    application.router.add_get("/api/stream", streams.serve)
    application.router.add_get("/api/plan", handlers.plan)
    application.router.add_post("/api/orders", handlers.order)
    return application
