"""A schedule as cron(5) writes it: minute, hour, day of the month, month, weekday. Pure; the clock is the caller's."""

from __future__ import annotations

import datetime
from dataclasses import dataclass

_FIELDS = (("minute", 0, 59), ("hour", 0, 23), ("day", 1, 31), ("month", 1, 12), ("weekday", 0, 7))


@dataclass(frozen=True)
class Schedule:
    """The minutes at which something is due."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    #: 0 is Sunday.
    weekdays: frozenset[int]
    #: Day of the month and weekday are both restricted: either will do, as cron(5) has it.
    either_day: bool

    def is_due(self, now: datetime.datetime) -> bool:
        """Whether the minute of ``now`` (in UTC) is one of them."""
        day = now.day in self.days
        weekday = now.isoweekday() % 7 in self.weekdays
        today = (day or weekday) if self.either_day else (day and weekday)
        return now.minute in self.minutes and now.hour in self.hours and now.month in self.months and today


def read_schedule(text: str) -> Schedule:
    """Raises ValueError, which says which field is wrong."""
    words = text.split()
    if len(words) != len(_FIELDS):
        raise ValueError(f"{text!r} has {len(words)} fields instead of 5")
    sets = [_read_field(word, *field) for word, field in zip(words, _FIELDS, strict=True)]
    minutes, hours, days, months, weekdays = sets
    weekdays = frozenset(weekday % 7 for weekday in weekdays)
    either = not words[2].startswith("*") and not words[4].startswith("*")
    return Schedule(minutes, hours, days, months, weekdays, either)


def _read_field(word: str, name: str, low: int, high: int) -> frozenset[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step = part.partition("/")
        first, dash, last = span.partition("-")
        try:
            start, end = (low, high) if span == "*" else (int(first), int(last) if dash else int(first))
            if slash and not dash and span != "*":
                end = high
            every = int(step) if slash else 1
        except ValueError:
            raise ValueError(f"{name} {word!r} is not a list of numbers, ranges and steps") from None
        if not low <= start <= end <= high or every < 1:
            raise ValueError(f"{name} {word!r} is not within {low} to {high}")
        found.update(range(start, end + 1, every))
    return frozenset(found)
