"""The orderly leave of a farm's node, step by step. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum

#: Seconds after which a count of connections knows those that were sent here before the draining began.
SETTLE = 0.3
#: Seconds that the application has to stop when its connections have used up the grace.
LEAST_STOP = 5.0
#: Seconds beyond two detection timeouts that a leaving announcer waits for the peer.
PATIENCE = 1.0


class Step(Enum):
    """Take nothing new; give the addresses to the peer; stop the application; end."""

    DRAIN = "drain"
    YIELD = "yield"
    STOP = "stop"
    EXIT = "exit"


@dataclass(frozen=True)
class Leave:
    """``since``: the SIGTERM; ``yielding_since``: when :attr:`Step.YIELD` began."""

    since: float
    step: Step = Step.DRAIN
    yielding_since: float = 0.0

    def stop_grace(self, grace: float, now: float) -> float:
        """What is left of ``grace`` seconds for the application to stop."""
        return max(self.since + grace - now, min(grace, LEAST_STOP))


@dataclass(frozen=True)
class LeaveView:
    """What a leave depends on. ``runs``: anything of the application; ``holds``: this node still treats traffic.

    ``connections``: open ones as of ``counted_at``, None: they have not been counted.
    """

    now: float
    runs: bool
    holds: bool
    connections: int | None
    counted_at: float


def advance(leave: Leave, seen: LeaveView, grace: float, timeout: float) -> Leave:
    """The leave's next step, or the same."""
    match leave.step:
        case Step.DRAIN:
            counted = seen.connections is not None and seen.counted_at >= leave.since + SETTLE
            idle = counted and seen.connections == 0
            if idle or not seen.runs or seen.now >= leave.since + grace:
                return replace(leave, step=Step.YIELD, yielding_since=seen.now)
        case Step.YIELD:
            over = seen.now >= leave.yielding_since + 2 * timeout + PATIENCE
            # Not at once: the decision has to see that this node leaves.
            if over or (not seen.holds and seen.now > leave.yielding_since):
                return replace(leave, step=Step.STOP)
        case Step.STOP:
            if not seen.runs:
                return replace(leave, step=Step.EXIT)
        case Step.EXIT:
            pass
    return leave
