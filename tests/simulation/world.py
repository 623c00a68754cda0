"""Simulated time: a heap of events, run in order; equal times run in the order of their scheduling."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

#: The detection timeout of every simulated module, in seconds; all else scales with it.
T = 2.0


class World:
    """The clock and the source of randomness of one history."""

    def __init__(self, seed: int) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, action: Callable[[], None]) -> None:
        """Run ``action`` at ``when`` (or now, if that is past)."""
        self._count += 1
        heapq.heappush(self._heap, (max(when, self.now), self._count, action))

    def after(self, delay: float, action: Callable[[], None]) -> None:
        """Run ``action`` in ``delay`` seconds."""
        self.at(self.now + delay, action)

    def run(self, until: float, *, each: Callable[[], bool]) -> None:
        """Run events until then; ``each`` is called after every one, and True ends the run early."""
        heap = self._heap
        while heap and heap[0][0] <= until:
            self.now, _, action = heapq.heappop(heap)
            action()
            if each():
                return
        self.now = until
