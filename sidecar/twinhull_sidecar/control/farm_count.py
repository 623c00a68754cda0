"""Counts this node's connections again and again, in a thread: a node with many takes its time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from twinhull_sidecar.control.farm_flows import Flows
from twinhull_sidecar.control.status import Problem

#: Seconds between two counts; in a hurry (this node leaves), the second.
PAUSE, HURRY = 1.0, 0.2
#: At most this part of the time is spent on counting.
PART = 0.05


class FlowCounter:
    """``count`` blocks: this node's flows, but for those that the addresses of ``elsewhere`` answer."""

    def __init__(
        self,
        count: Callable[[tuple[str, ...]], Flows],
        elsewhere: Callable[[], tuple[str, ...]],
        now: Callable[[], float],
        on_count: Callable[[], None],
    ) -> None:
        self._count = count
        self._elsewhere = elsewhere
        self._now = now
        self._on_count = on_count
        self.flows = Flows()
        #: When the last count began; None: there was none.
        self.counted_at: float | None = None
        self.problem: Problem | None = None
        self.hurry = False

    async def run(self) -> None:
        """Count until cancelled."""
        while True:
            began = self._now()
            try:
                self.flows = await asyncio.to_thread(self._count, self._elsewhere())
            except (OSError, ValueError) as error:
                mend = "load the kernel's nf_conntrack_netlink; until then 0 is shown"
                self.problem = Problem("connections", f"connections cannot be counted ({error})", mend)
            else:
                self.counted_at, self.problem = began, None
            self._on_count()
            pause = HURRY if self.hurry else PAUSE
            await asyncio.sleep(max(pause, (self._now() - began) / PART))
