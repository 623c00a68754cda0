"""The module's events on this node: the last 50, shown in status and turned into Kubernetes events."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

log = logging.getLogger(__name__)

LIMIT = 50


@dataclass(frozen=True)
class Event:
    """``time`` in Unix seconds; ``code`` is stable CamelCase."""

    time: float
    type: Literal["Normal", "Warning"]
    code: str
    message: str


class EventLog:
    """Keeps the newest events, oldest first. The same code and message as the newest is not repeated."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._events: deque[Event] = deque(maxlen=LIMIT)

    def __iter__(self) -> Iterator[Event]:
        return iter(self._events)

    @property
    def newest(self) -> Event | None:
        """The last one, if any."""
        return self._events[-1] if self._events else None

    def __len__(self) -> int:
        return len(self._events)

    def add(self, kind: Literal["Normal", "Warning"], code: str, message: str) -> None:
        """Record an event and log it."""
        if self._events and (self._events[-1].code, self._events[-1].message) == (code, message):
            return
        self._events.append(Event(self._wall(), kind, code, message))
        level = logging.WARNING if kind == "Warning" else logging.INFO
        log.log(level, message, extra={"fields": {"event": code}})

    def normal(self, code: str, message: str) -> None:
        """Record what went as it should."""
        self.add("Normal", code, message)

    def warning(self, code: str, message: str) -> None:
        """Record what an administrator should know."""
        self.add("Warning", code, message)
