"""What a checker's failing means to the role decision. Plain values and pure choices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

CheckAction = Literal["Restart", "Failover", "Stop"]
_GRAVITY: tuple[CheckAction, ...] = ("Restart", "Failover", "Stop")


@dataclass(frozen=True)
class Complaint:
    """A checker has failed as often as its threshold says.

    ``epoch``: the start of the application of which it failed; None: it checks the node, not the application.
    ``detail``: what the last check found.
    """

    checker: str
    action: CheckAction
    detail: str
    epoch: int | None = None


def of_application(complaints: Sequence[Complaint], epoch: int) -> Complaint | None:
    """The gravest complaint about this start of the application; the first one of equally grave ones."""
    return _gravest([one for one in complaints if one.epoch == epoch])


def of_node(complaints: Sequence[Complaint]) -> Complaint | None:
    """The gravest complaint about this node."""
    return _gravest([one for one in complaints if one.epoch is None])


def _gravest(complaints: Sequence[Complaint]) -> Complaint | None:
    return max(complaints, key=lambda one: _GRAVITY.index(one.action), default=None)
