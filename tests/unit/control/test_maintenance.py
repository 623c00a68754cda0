"""When a maintenance window is open."""

from __future__ import annotations

import datetime

import pytest

from twinhull_sidecar.config import WEEKDAYS, MaintenanceWindow
from twinhull_sidecar.control.maintenance import is_open

NIGHT = MaintenanceWindow(("Sat",), 22 * 60, 2 * 60 + 30)
NOON = MaintenanceWindow(WEEKDAYS, 12 * 60, 12 * 60 + 1)


@pytest.mark.parametrize(
    ("window", "moment", "is_it"),
    [
        (None, "2024-01-01 00:00", True),
        (NOON, "2024-01-03 12:00", True),
        (NOON, "2024-01-03 12:01", False),
        (NOON, "2024-01-03 11:59", False),
        # 2024-01-06 was a Saturday.
        (NIGHT, "2024-01-06 21:59", False),
        (NIGHT, "2024-01-06 22:00", True),
        (NIGHT, "2024-01-07 00:00", True),
        (NIGHT, "2024-01-07 02:29", True),
        (NIGHT, "2024-01-07 02:30", False),
        (NIGHT, "2024-01-06 01:00", False),
        (NIGHT, "2024-01-07 23:00", False),
        # Over the end of the week.
        (MaintenanceWindow(("Sun",), 23 * 60, 60), "2024-01-08 00:30", True),
    ],
)
def test_window(window: MaintenanceWindow | None, moment: str, is_it: bool) -> None:
    now = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)
    assert is_open(window, now) is is_it
