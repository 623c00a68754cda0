"""How long a resynchronisation still takes, from how far it was a moment ago. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

_WINDOW: Final = 30.0
_SHORTEST: Final = 2.0


@dataclass
class SyncRate:
    """The last half minute of one module's progress: pairs of time and bytes done."""

    samples: deque[tuple[float, int]] = field(default_factory=deque)

    def see(self, now: float, done: int) -> None:
        """Progress at this moment. Less than before is another resynchronisation."""
        if self.samples and done < self.samples[-1][1]:
            self.samples.clear()
        self.samples.append((now, done))
        while now - self.samples[0][0] > _WINDOW and len(self.samples) > 2:
            self.samples.popleft()

    def clear(self) -> None:
        """None runs."""
        self.samples.clear()

    @property
    def bytes_per_second(self) -> float | None:
        """None while too little is known."""
        if len(self.samples) < 2:
            return None
        (first, before), (last, after) = self.samples[0], self.samples[-1]
        return (after - before) / (last - first) if last - first >= _SHORTEST else None

    def seconds_left(self, total: int) -> float | None:
        """None while it cannot be told."""
        rate = self.bytes_per_second
        if not rate or not self.samples or not total:
            # Without a total everything would seem done.
            return None
        return max(0.0, total - self.samples[-1][1]) / rate
