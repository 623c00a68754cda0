"""Administrator's orders to a farm's node."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from twinhull_sidecar.control.orders import Desk


class FarmAction(StrEnum):
    """*drain*, *resume* and *restart* concern the node that is asked; *stop* and *start* the whole module."""

    DRAIN = "drain"
    RESUME = "resume"
    START = "start"
    STOP = "stop"
    RESTART = "restart"


@dataclass(frozen=True)
class FarmOrder:
    """An administrator's order; the same id twice is the same order."""

    id: str
    action: FarmAction
    user: str = ""


class FarmDesk(Desk[FarmOrder]):
    """The desk of a FarmModule."""

    def read(self, identity: str, action: str, user: str, discard_peer: bool) -> FarmOrder:
        """See Desk."""
        if action not in list(FarmAction):
            raise ValueError(
                f"action {action!r} is not an order of a FarmModule; choose one of {', '.join(FarmAction)}"
            )
        if discard_peer:
            raise ValueError("discard_peer goes with a MirrorModule's force-primary only; leave it out")
        return FarmOrder(identity, FarmAction(action), user)
