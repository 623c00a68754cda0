"""Fencing of the peer beside the control loop: one attempt at a time, and a look now and then whether it would work."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from twinhull_sidecar.config import Bmc
from twinhull_sidecar.fencing.redfish import FenceError, Redfish
from twinhull_sidecar.role.witness import FenceView

log = logging.getLogger(__name__)

#: Seconds that powering off may take.
OFF_TIMEOUT = 25.0
#: Seconds between two looks at the controller.
CHECK_EVERY = 60.0


class PeerFence:
    """``view`` is the newest attempt; ``problem`` why it would not work now, empty when the controller answers."""

    def __init__(self, bmc: Bmc, now: Callable[[], float], on_change: Callable[[], None]) -> None:
        self._bmc, self._redfish = bmc, Redfish(bmc)
        self._now, self._on_change = now, on_change
        self._tasks: set[asyncio.Task[None]] = set()
        self.view: FenceView | None = None
        self.problem = ""

    def start(self) -> None:
        """Begin to look."""
        self._spawn(self._look())

    async def close(self) -> None:
        """End. A controller that was told to power off goes on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begin(self) -> None:
        """Power the peer off; see ``role.effects.FencePeer``."""
        if self.view is not None and self.view.finished_at is None:
            return
        self.view = FenceView(self._now())
        self._spawn(self._fence(self.view.started_at))

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _fence(self, started_at: float) -> None:
        node = self._bmc.node
        log.warning("powering %s off", node)
        try:
            await self._redfish.power_off(OFF_TIMEOUT)
        except FenceError as error:
            self._end(FenceView(started_at, self._now(), ok=False, detail=str(error)))
            log.warning("%s could not be powered off: %s", node, error)
        except Exception as error:
            # Whatever went wrong, the peer is not surely off.
            log.exception("powering %s off failed", node)
            self._end(FenceView(started_at, self._now(), ok=False, detail=str(error) or type(error).__name__))
        else:
            self._end(FenceView(started_at, self._now(), ok=True, detail=f"{node} is off"))
            log.warning("%s is powered off", node)

    def _end(self, view: FenceView) -> None:
        self.view = view
        self._on_change()

    async def _look(self) -> None:
        while True:
            try:
                await self._redfish.check()
                problem = ""
            except FenceError as error:
                problem = str(error)
            except Exception as error:
                problem = str(error) or type(error).__name__
            if problem != self.problem:
                self.problem = problem
                self._on_change()
            await asyncio.sleep(CHECK_EVERY)
