"""One page's stream of Server-Sent Events: all modules that its user may see, then each change.

Events: ``modules`` (all of them), ``module`` (one that came or changed), ``gone`` (its key), ``console`` (whether
the API server answers, the time; at least every 15 s), ``ended`` (why no more will come).
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

from aiohttp import web

from twinhull_operator.console.access import FRESH
from twinhull_operator.console.board import Board
from twinhull_operator.console.handlers import Gate
from twinhull_operator.console.hub import Hub, Subscription
from twinhull_operator.console.refuse import RefusalError
from twinhull_operator.console.sessions import Session
from twinhull_operator.kube import ApiError

BEAT: Final = 15.0
_SLOWEST: Final = 20.0
"""Seconds that a page may take to take what is sent before it is left."""
MOST_OF_ONE: Final = 6
MOST: Final = 200


class Streams:
    """Serves ``GET /api/stream``."""

    def __init__(self, gate: Gate, board: Board, hub: Hub) -> None:
        self._gate = gate
        self._board = board
        self._hub = hub

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """Until the page or the session ends."""
        session = await self._gate.admit(request)
        if session.streams >= MOST_OF_ONE or self._hub.pages >= MOST:
            raise RefusalError(
                429, "TooManyPages", "Too many pages of the console are open. Close one of them."
            )
        response = web.StreamResponse(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        response.content_type = "text/event-stream"
        await response.prepare(request)
        session.streams += 1
        subscription = self._hub.subscribe()
        try:
            page = _Page(
                gate=self._gate,
                board=self._board,
                hub=self._hub,
                session=session,
                subscription=subscription,
                response=response,
            )
            await page.run()
        except (ConnectionError, TimeoutError):
            pass
        finally:
            self._hub.unsubscribe(subscription)
            session.streams -= 1
            session.seen = max(session.seen, time.monotonic())
        return response


class _Page:
    def __init__(
        self,
        *,
        gate: Gate,
        board: Board,
        hub: Hub,
        session: Session,
        subscription: Subscription,
        response: web.StreamResponse,
    ) -> None:
        self._gate = gate
        self._board = board
        self._hub = hub
        self._session = session
        self._subscription = subscription
        self._response = response
        self._shown: set[str] = set()

    async def run(self) -> None:
        """Everything, then what changes."""
        await self._send("console", json.dumps(self._console()))
        self._shown = {key for key in list(self._board.cards) if await self._visible(key)}
        cards = [self._board.cards[key].json for key in sorted(self._shown) if key in self._board.cards]
        await self._send("modules", f"[{','.join(cards)}]")
        looked, api = time.monotonic(), self._hub.api
        while not self._hub.closing:
            beat = False
            try:
                async with asyncio.timeout(BEAT):
                    await self._subscription.news.wait()
            except TimeoutError:
                beat = True
            keys = self._subscription.take()
            if not await self._still_open():
                return
            if time.monotonic() - looked > FRESH:
                # Rights may have come or gone.
                looked, keys = time.monotonic(), keys | self._shown | set(self._board.cards)
            for key in sorted(keys):
                await self._show(key)
            if beat or self._hub.api != api:
                api = self._hub.api
                await self._send("console", json.dumps(self._console()))
        await self._end("OperatorStops", "The operator stops. This page comes back with it.")

    async def _still_open(self) -> bool:
        try:
            await self._gate.review(self._session)
        except RefusalError as refusal:
            await self._end(refusal.code, refusal.message)
            return False
        return True

    async def _show(self, key: str) -> None:
        card = self._board.cards.get(key)
        if card is not None and await self._visible(key):
            self._shown.add(key)
            await self._send("module", card.json)
        elif key in self._shown:
            self._shown.discard(key)
            await self._send("gone", json.dumps(key))

    async def _visible(self, key: str) -> bool:
        card = self._board.cards.get(key)
        try:
            return card is not None and await self._gate.access.may_view(self._session.user, card.target)
        except ApiError:
            return False

    def _console(self) -> dict[str, Any]:
        return {"api": self._hub.api, "now": time.time(), "endsAt": self._session.ends_at}

    async def _end(self, code: str, message: str) -> None:
        await self._send("ended", json.dumps({"code": code, "message": message}))

    async def _send(self, event: str, data: str) -> None:
        # JSON has no line breaks outside of texts, and json.dumps escapes those within.
        async with asyncio.timeout(_SLOWEST):
            await self._response.write(f"event: {event}\ndata: {data}\n\n".encode())
