"""When the steps of the last takeover happened, in Unix seconds: the same message as after a mirror's failover."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from twinhull_sidecar.control.timeline import Timeline


class TakeoverKeeper:
    """Follows one takeover after the other; ``current`` is the last one, None before the first."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._since = 0.0
        self._announces = False
        self.current: Timeline | None = None

    def begun(self, cause: str, lost_at: float | None, now: float, announces: bool) -> None:
        """This node takes over from ``now`` on. ``lost_at``: when a lost peer was heard last.

        ``announces``: it begins to announce for that.
        """
        self._since, self._announces = now, announces
        lost = 0.0 if lost_at is None else self._to_wall(lost_at)
        self.current = Timeline(cause=cause, peer_lost=lost, detected=self._to_wall(now), code=cause)

    def in_force(self, announced_at: float | None) -> None:
        """What was decided is in force."""
        current = self.current
        if current is None:
            return
        if not current.promoted:
            current = replace(current, promoted=self._wall())
        announced = announced_at is not None and announced_at >= self._since
        if self._announces and announced and announced_at is not None and not current.vip_announced:
            current = replace(current, vip_announced=self._to_wall(announced_at))
        self.current = current

    def _to_wall(self, moment: float) -> float:
        return self._wall() - (self._monotonic() - moment)
