"""From single results of a mirror's checker to a complaint. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Tally:
    """``failures``: in a row, up to now. ``passed``: it has passed since what it checks was started."""

    failures: int = 0
    passed: bool = False


def count(before: Tally, *, ok: bool, age: float, startup: float) -> Tally:
    """After one more result, ``age`` seconds after the start of what is checked.

    An application has ``startup`` seconds to pass for the first time: a database that replays its log is not hung.
    """
    if ok:
        return Tally(0, passed=True)
    if not before.passed and age < startup:
        return before
    return Tally(before.failures + 1, before.passed)
