"""What the administrator wants of a farm's node: orders taken in, remembered on disk, answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace

from twinhull_sidecar.control.farm_application import Restart, Supervision
from twinhull_sidecar.control.farm_orders import FarmAction, FarmDesk, FarmOrder
from twinhull_sidecar.control.farm_peer import Word
from twinhull_sidecar.control.farm_persisted import FarmStore, Wish
from twinhull_sidecar.control.status import Problem
from twinhull_sidecar.role.model import Answer

log = logging.getLogger(__name__)


class Wishes:
    """``wish`` is what counts now; it is on stable storage when its order is answered."""

    def __init__(self, wish: Wish, store: FarmStore, desk: FarmDesk, wake: Callable[[], None]) -> None:
        self.wish = wish
        #: Why the last one is not on stable storage.
        self.problem: Problem | None = None
        self._store = store
        self._desk = desk
        self._wake = wake
        self._saving = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        #: Drain orders that are not in force yet.
        self._draining: list[str] = []

    def take(
        self, supervision: Supervision, *, peer: str, peer_serves: bool, leaving: bool, epoch: int, at: float
    ) -> Supervision:
        """Take the new orders; the result is the supervision that goes on.

        ``epoch``: what runs now; ``at``: when a restart may begin, so that the peer takes what is new before.
        """
        for order in self._desk.drain():
            if leaving:
                self._fail(order, "this node leaves")
                continue
            match order.action:
                case FarmAction.DRAIN if not self.wish.draining and not peer_serves:
                    why = f"{peer} does not serve now: nobody would take the clients"
                    self._fail(order, f"{why}; order stop to take the module out of service")
                case FarmAction.DRAIN:
                    self._change(replace(self.wish, draining=True), order, None)
                    self._draining.append(order.id)
                case FarmAction.RESUME:
                    done = "this node takes its share as soon as its application is ready"
                    self._change(replace(self.wish, draining=False), order, done)
                case FarmAction.START:
                    supervision = supervision.forgiven()
                    self._change(self._both(stopped=False), order, "the module shall run on both nodes")
                case FarmAction.STOP:
                    self._change(self._both(stopped=True), order, "the module shall stop on both nodes")
                case FarmAction.RESTART if self.wish.stopped:
                    self._fail(order, "the module is stopped: order start")
                case FarmAction.RESTART:
                    known = max(epoch, supervision.epoch)
                    supervision = replace(supervision.forgiven(), restart=Restart(order.id, known, at))
                    self._desk.answer(Answer(order.id, "running", "restarting the application"))
        return supervision

    def heard(self, word: Word, supervision: Supervision) -> Supervision:
        """An order to the whole module that the peer has heard of."""
        if not word.newer_than(self.wish):
            return supervision
        started = self.wish.stopped and not word.stopped
        self._change(replace(self.wish, intent=word.intent, stopped=word.stopped), None, None)
        return supervision.forgiven() if started else supervision

    def in_force(self, connections: int) -> None:
        """This node takes nothing new any more."""
        for order in self._draining:
            still = f"{connections} connections are still open"
            self._desk.answer(Answer(order, "done", f"this node takes nothing new; {still}"))
        self._draining.clear()

    def restarted(self, order: str) -> None:
        """A restart is over."""
        self._desk.answer(Answer(order, "done", "the application was restarted"))

    def not_restarted(self, order: str) -> None:
        """A restart will not come to its end."""
        self._desk.answer(Answer(order, "failed", "the application is to stop"))

    async def settle(self, timeout: float) -> None:
        """Wait for what is being written."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout)

    def _both(self, *, stopped: bool) -> Wish:
        return replace(self.wish, stopped=stopped, intent=self.wish.intent + 1)

    def _fail(self, order: FarmOrder, why: str) -> None:
        self._desk.answer(Answer(order.id, "failed", why))

    def _change(self, wish: Wish, order: FarmOrder | None, done: str | None) -> None:
        self.wish = wish
        task = asyncio.create_task(self._save(wish, order, done))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _save(self, wish: Wish, order: FarmOrder | None, done: str | None) -> None:
        try:
            async with self._saving:
                await asyncio.to_thread(self._store.save, wish)
        except OSError as error:
            message = f"an order cannot be remembered ({error})"
            log.error(message)
            self.problem = Problem("storage", message, "see this node's disk; then give the order again")
            if order is not None:
                self._fail(order, f"{message}; it is in force until the sidecar ends")
        else:
            self.problem = None
            if order is not None and done is not None:
                self._desk.answer(Answer(order.id, "done", done))
        self._wake()
