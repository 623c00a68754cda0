"""What a farm's node is for the module's users, in one word, one sentence and one code. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from twinhull_sidecar.checkers import CheckState
from twinhull_sidecar.control.farm_application import Look
from twinhull_sidecar.control.farm_leave import Leave, Step
from twinhull_sidecar.control.farm_persisted import Wish
from twinhull_sidecar.farm import Application, Decision, Own


class FarmRole(StrEnum):
    """DESIGN.md section 3."""

    STOPPED = "Stopped"
    WAITING = "Waiting"
    UP = "Up"
    DRAINING = "Draining"


@dataclass(frozen=True)
class Standing:
    """Role, reason and code, as the status shows them."""

    role: FarmRole
    reason: str
    code: str


@dataclass(frozen=True)
class RoleView:
    """What the role follows from. ``refused``: why no address can be held; ``trouble``: what the kernel said."""

    decision: Decision
    look: Look
    own: Own
    wish: Wish
    leave: Leave | None
    checks: Sequence[CheckState]
    connections: int
    looked: bool
    refused: str
    trouble: str


def stand(seen: RoleView) -> Standing:
    """The node's standing."""
    return _ordered(seen) or _hindered(seen) or _decided(seen)


def _ordered(seen: RoleView) -> Standing | None:
    """What an order or a SIGTERM has made of it."""
    open_ = f"{seen.connections} connections are still open"
    if seen.leave is not None:
        if seen.leave.step is Step.DRAIN and seen.own.application is not Application.STOPPED:
            return Standing(FarmRole.DRAINING, f"leaving: {open_}", "Leaving")
        return Standing(FarmRole.STOPPED, seen.decision.reason, "Leaving")
    if seen.wish.stopped:
        if seen.own.application is Application.STOPPED:
            why = "stopped by order; order start to run the module again"
            return Standing(FarmRole.STOPPED, why, "Stopped")
        return Standing(FarmRole.STOPPED, "stopping the module by order", "Stopping")
    return None


def _hindered(seen: RoleView) -> Standing | None:  # noqa: PLR0911 (a table: one return per row)
    """What keeps it from serving."""
    waiting, look = FarmRole.WAITING, seen.look
    if look.failed:
        return Standing(waiting, look.trouble, look.code)
    if not seen.looked:
        return Standing(waiting, "listening for the peer, then looking at the network", "Starting")
    if seen.refused:
        return Standing(waiting, f"no virtual address can be held here: {seen.refused}", "AddressesRefused")
    if seen.trouble:
        return Standing(waiting, f"the addresses cannot be held: {seen.trouble}", "AddressesNotHeld")
    if look.trouble:
        return Standing(waiting, look.trouble, look.code)
    failing = next((one for one in seen.checks if not one.passing), None)
    if failing is not None and failing.fresh:
        why = f"the application starts: checker {failing.name} does not pass yet ({failing.detail})"
        return Standing(waiting, why, "ApplicationStarting")
    if failing is not None:
        why = f"checker {failing.name} does not pass ({failing.detail}): keep what is served"
        return Standing(waiting, why, "ApplicationNotReady")
    return None


def _decided(seen: RoleView) -> Standing:
    decision = seen.decision
    if seen.wish.draining:
        # The decision's reason would be the same with and without connections.
        why = f"{decision.reason}; {seen.connections} connections are still open"
        return Standing(FarmRole.DRAINING, why, "Draining")
    if decision.state == "Up" and decision.way is not None:
        code = "BothServe" if decision.way.name == "both" else "ServesAlone"
        return Standing(FarmRole.UP, decision.reason, code)
    if not seen.own.lan:
        return Standing(FarmRole.WAITING, decision.reason, "NetworkDown")
    code = "Listening" if decision.reason.startswith("listening") else "PeerServesAlone"
    return Standing(FarmRole.WAITING, decision.reason, code)
