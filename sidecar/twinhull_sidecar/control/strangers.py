"""Datagrams that count for nothing, as problems an administrator can act on."""

from __future__ import annotations

from collections.abc import Mapping

from twinhull_sidecar.control.status import Problem

#: A problem is shown for so long after the last datagram of its kind.
SHOWN_FOR = 15.0

_KINDS = {
    "foreign": (
        "heartbeats of another module arrive and are refused",
        "give each module its own port (spec.ports) and each node its own address",
    ),
    "forged": (
        "heartbeats that are not sealed with this module's key arrive and are refused",
        "give both nodes the same certificates Secret, then restart both sidecars",
    ),
    "version": (
        "heartbeats of another release arrive and are refused",
        "run the same release on both nodes",
    ),
    "misdirected": (
        "heartbeats arrive over another link than the configuration says, and are refused",
        "correct spec.links: each node's own address on each link",
    ),
    "malformed": (
        "datagrams that are no heartbeats arrive and are refused",
        "find out who sends them; give the module another port (spec.ports) otherwise",
    ),
}


class Strangers:
    """Follows the counters of refused datagrams."""

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._last: dict[str, float] = {}

    def problems(self, refused: Mapping[str, int], now: float) -> tuple[Problem, ...]:
        """The problems at ``now`` (seconds); ``refused`` counts by kind since the start."""
        for kind, count in refused.items():
            if count != self._seen.get(kind, 0):
                self._seen[kind] = count
                self._last[kind] = now
        found = []
        for kind, (message, mend) in _KINDS.items():
            last = self._last.get(kind)
            if last is not None and now - last < SHOWN_FOR:
                found.append(Problem("links", message, mend))
        return tuple(found)
