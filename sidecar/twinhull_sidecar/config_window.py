"""Reads a maintenance window of the configuration document."""

from __future__ import annotations

from typing import Any

from twinhull_sidecar.config import WEEKDAYS, ConfigError, MaintenanceWindow

_DAY = 24 * 60


def read_window(field: str, value: Any) -> MaintenanceWindow | None:
    """The window, None where none is given. Raises ConfigError, which names the part that is wrong."""
    if value is None:
        return None
    if not isinstance(value, dict) or set(value) != {"days", "start", "end"}:
        raise ConfigError(field, "is not an object of days, start and end", "give exactly these three")
    days = value["days"]
    if not isinstance(days, list) or not days or not set(days) <= set(WEEKDAYS):
        raise ConfigError(f"{field}.days", f"{days!r} are no days", f"choose from {', '.join(WEEKDAYS)}")
    start, end = (_minutes(f"{field}.{name}", value[name]) for name in ("start", "end"))
    if start == end:
        raise ConfigError(f"{field}.end", "is the same as start", "leave the window out if any time will do")
    return MaintenanceWindow(tuple(day for day in WEEKDAYS if day in days), start, end)


def _minutes(field: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _DAY:
        raise ConfigError(field, f"{value!r} is not a minute of the day", "give a number from 0 to 1439")
    return value
