"""Tells every open page what changed. Nothing runs while no page is open, and no page asks the API server."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final

from twinhull_operator.console.board import Board
from twinhull_operator.kube import ApiError

log = logging.getLogger(__name__)

INTERVAL: Final = 0.3
"""Seconds between two looks at what the operator's watches already know."""
API_INTERVAL: Final = 10.0


@dataclass(eq=False)
class Subscription:
    """What a page has not been told yet. It takes ``changed`` and clears ``news``."""

    changed: set[str] = field(default_factory=set)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> set[str]:
        """The keys that changed since the last time."""
        self.news.clear()
        taken, self.changed = self.changed, set()
        return taken


class Hub:
    """``ask_api`` asks the API server anything; it raises ApiError when there is no answer."""

    def __init__(self, board: Board, ask_api: Callable[[], Awaitable[Any]]) -> None:
        self._board = board
        self._ask_api = ask_api
        self._subscriptions: set[Subscription] = set()
        self._tasks: list[asyncio.Task[None]] = []
        self._wanted = asyncio.Event()
        self.closing = False
        self.api: dict[str, Any] = {"reachable": True, "since": None, "message": ""}

    def start(self) -> None:
        """Begin to look, as soon as somebody does."""
        self._tasks = [
            asyncio.create_task(self._look(), name="console: look"),
            asyncio.create_task(self._ask(), name="console: ask the API server"),
        ]

    async def close(self) -> None:
        """Send all pages home."""
        self.closing = True
        for subscription in self._subscriptions:
            subscription.news.set()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def subscribe(self) -> Subscription:
        """A page opens. Everything is as it is now."""
        self._tell(self._board.refresh(time.time()))
        subscription = Subscription()
        self._subscriptions.add(subscription)
        self._wanted.set()
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """A page closed."""
        self._subscriptions.discard(subscription)
        if not self._subscriptions:
            self._wanted.clear()

    @property
    def pages(self) -> int:
        """How many pages are open."""
        return len(self._subscriptions)

    def _tell(self, changed: set[str]) -> None:
        if not changed:
            return
        for subscription in self._subscriptions:
            subscription.changed |= changed
            subscription.news.set()

    async def _look(self) -> None:
        while True:
            await self._wanted.wait()
            self._tell(self._board.refresh(time.time()))
            await asyncio.sleep(INTERVAL)

    async def _ask(self) -> None:
        while True:
            await self._wanted.wait()
            try:
                await self._ask_api()
                api: dict[str, Any] = {"reachable": True, "since": None, "message": ""}
            except ApiError as error:
                since = self.api["since"] or time.time()
                api = {"reachable": False, "since": since, "message": error.message}
            except Exception:
                log.exception("unexpected error")
                api = self.api
            if api != self.api:
                self.api = api
                for subscription in self._subscriptions:
                    subscription.news.set()
            await asyncio.sleep(API_INTERVAL)
