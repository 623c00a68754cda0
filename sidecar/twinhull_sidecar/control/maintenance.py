"""Whether the maintenance window is open. Pure; the clock is the caller's."""

from __future__ import annotations

import datetime

from twinhull_sidecar.config import WEEKDAYS, MaintenanceWindow

_DAY = 24 * 60


def is_open(window: MaintenanceWindow | None, now: datetime.datetime) -> bool:
    """``now`` in UTC. Without a window it is always open; one that ends before it starts goes on into the next day."""
    if window is None:
        return True
    minute = now.hour * 60 + now.minute
    for days_ago in (0, 1):
        since_start = minute + days_ago * _DAY - window.start
        today = WEEKDAYS[(now.weekday() - days_ago) % 7] in window.days
        if today and 0 <= since_start < (window.end - window.start) % _DAY:
            return True
    return False
