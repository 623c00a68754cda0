"""The last failover's steps as the page shows them. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from twinhull_operator.constants import FARM, Kind
from twinhull_operator.module import Object
from twinhull_operator.times import unix_seconds

_STEPS: Final = (
    ("peerLost", "Last sign of life"),
    ("leaseOver", "Lost node's lease over"),
    ("vipProbed", "Virtual IP probed"),
    ("detected", "Detected"),
    ("recorded", "Recorded durably"),
    ("promoted", "Promoted"),
    ("vipAnnounced", "Virtual IP announced"),
    ("applicationStarted", "Application started"),
    ("applicationReady", "Application ready"),
    ("firstWrite", "First write acknowledged"),
)
_FARM_WORDS: Final[Mapping[str, str]] = {"promoted": "Took the clients over"}


def render_failover(kind: Kind, timeline: Object | None) -> dict[str, Any] | None:
    """From ``status.lastFailover``. ``after``: seconds since the first step; ``took``: of all of them."""
    if not timeline:
        return None
    words = _FARM_WORDS if kind == FARM else {}
    found = [
        (name, words.get(name, label), at)
        for name, label in _STEPS
        if (at := _read(timeline.get(name))) is not None
    ]
    if not found:
        return None
    # Clocks are set now and then: the steps are shown in the order in which they happen.
    first = found[0][2]
    steps = [
        {"name": name, "label": label, "at": at, "after": round(max(0.0, at - first), 3)}
        for name, label, at in found
    ]
    return {
        "node": str(timeline.get("node", "")),
        "cause": str(timeline.get("cause", "")),
        "at": first,
        "took": round(max(max(0.0, at - first) for _, _, at in found), 3),
        "steps": steps,
    }


def _read(text: Any) -> float | None:
    try:
        return unix_seconds(text)
    except (AttributeError, TypeError, ValueError):
        return None
