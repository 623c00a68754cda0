"""Answers ``GET /metrics``. What goes wrong here is logged and never keeps the operator from its work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from twinhull_operator.metrics.collect import ModulesCollector
from twinhull_operator.metrics.own import REGISTRY
from twinhull_operator.metrics.view import ModuleView

log = logging.getLogger(__name__)


class _Fixed:
    """One scrape's registry: the modules as they are at this moment, then the operator's own metrics."""

    def __init__(self, views: Sequence[ModuleView], own: CollectorRegistry) -> None:
        self._collectors: tuple[Collector | CollectorRegistry, ...] = (ModulesCollector(lambda: views), own)

    def collect(self) -> object:
        """See CollectorRegistry."""
        return (family for collector in self._collectors for family in collector.collect())


class MetricsServer:
    """Serves what ``views`` returns at each scrape."""

    def __init__(self, views: Callable[[], Sequence[ModuleView]], own: CollectorRegistry = REGISTRY) -> None:
        self._views = views
        self._own = own
        self._runner: web.AppRunner | None = None

    async def start(self, port: int, host: str | None = None) -> int:
        """Serve on this port of every address (0: a free one); returns the port, 0 when it cannot be had."""
        application = web.Application()
        application.router.add_get("/metrics", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            log.error("metrics cannot be served on port %d: %s", port, error)
            await self.close()
            return 0
        return int(self._runner.addresses[0][1])

    async def close(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        # Taken here, written elsewhere: a page of many modules must not hold up the watches.
        fixed = _Fixed(self._views(), self._own)
        body = await asyncio.to_thread(encode, fixed)  # type: ignore[arg-type]
        return web.Response(body=body, headers={"Content-Type": content_type})
