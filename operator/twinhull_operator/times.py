"""Points in time as the API server writes them."""

from __future__ import annotations

import datetime


def rfc3339(seconds: float) -> str:
    """Unix seconds as RFC 3339 in UTC with milliseconds; equal length, so texts compare as times do."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_micro(seconds: float) -> str:
    """The same with microseconds, as the API's MicroTime."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="microseconds").replace("+00:00", "Z")


def rfc3339_seconds(seconds: float) -> str:
    """The same in whole seconds, as the API's Time."""
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def unix_seconds(text: str) -> float:
    """Unix seconds of an RFC 3339 time. Raises ValueError."""
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
