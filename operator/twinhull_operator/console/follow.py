"""An order after it was given: how far it is, by what the sidecars say. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from twinhull_operator.console.follow_comparison import COMPARISONS, follow_comparison
from twinhull_operator.console.given import Given
from twinhull_operator.constants import FARM
from twinhull_operator.report import SERVING, UP, NodeReport
from twinhull_sidecar.api import sidecar_pb2 as pb

LATE: Final = 300.0
"""Seconds after which an order's end is no longer waited for."""
_SETTLE: Final = 2.0
"""Seconds that a resynchronisation may take to show that it has begun."""


def advance(order: Given, reports: Sequence[NodeReport], now: float) -> Given:
    """The order with what is known now."""
    if order.state != "running":
        return order
    asked = next((report.current for report in reports if report.node == order.asked), None)
    own = asked.last_order if asked is not None and asked.last_order.id == order.id else None
    if own is not None and own.state == "failed":
        return replace(order, state="failed", message=own.message or "the order failed", ended=now)
    answered = order.answered or (own is not None and own.state == "done")
    order = replace(order, answered=answered)
    if order.action in COMPARISONS and (compared := follow_comparison(order, reports, now)) is not None:
        return compared
    waits = (
        "the comparison begins"
        if order.action in COMPARISONS
        else _waits_for(order, [r.current for r in reports if r.current is not None], now)
    )
    if answered and not waits:
        return replace(order, state="done", message=own.message if own and own.message else "done", ended=now)
    if now - order.given > LATE:
        message = f"not at its end after {LATE / 60:.0f} minutes; the module's events say more"
        return replace(order, state="late", message=message, ended=now)
    message = own.message if own and own.message else "is being carried out"
    if answered:
        message = f"waits until {waits}"
    elif asked is None:
        message = f"{order.asked} does not answer the operator; its outcome is not known yet"
    return replace(order, message=message)


def render_given(order: Given) -> dict[str, Any]:
    """As the page gets it."""
    return {
        "id": order.id,
        "action": order.action,
        "node": order.node,
        "user": order.user,
        "state": order.state,
        "message": order.message,
        "given": order.given,
        "ended": order.ended or None,
    }


def _waits_for(order: Given, said: list[pb.Status], now: float) -> str:
    """What clients still wait for, or empty."""
    if order.kind == FARM:
        return _farm_waits_for(order, said)
    serving = [s for s in said if s.role in SERVING and s.application.ready]
    match order.action:
        case "hold" | "resume":
            return _ignorant(said, held=order.action == "hold")
        case "stop":
            return "" if said and all(s.role == "Stopped" for s in said) else "the application has stopped"
        case "switchover" | "force-primary":
            return _missing(order, serving)
        case "resync":
            synced = any(s.in_sync for s in serving) and not any(s.HasField("sync") for s in said)
            return "" if synced and now - order.given > _SETTLE else "both nodes hold the same data"
        case _:
            return "" if serving else "the application is up"


def _missing(order: Given, serving: list[pb.Status]) -> str:
    """Where the application is still to come up: here by force, on the other node by a switchover."""
    here = order.action == "force-primary"
    place = order.node if here else "the other node"
    return "" if any((s.node == order.node) == here for s in serving) else f"the application is up on {place}"


def _ignorant(said: list[pb.Status], *, held: bool) -> str:
    """A node that does not answer learns it from the other."""
    late = [s.node for s in said if s.failover_held != held]
    return f"{' and '.join(late)} knows of it" if late else ""


def _farm_waits_for(order: Given, said: list[pb.Status]) -> str:
    own = next((s for s in said if s.node == order.node), None)
    match order.action:
        case "stop":
            return "" if said and all(s.role == "Stopped" for s in said) else "the application has stopped"
        case "start":
            return "" if any(s.role == UP for s in said) else "a node takes clients"
        case "drain":
            return "" if own is not None and own.farm.draining else f"{order.node} takes no new clients"
        case _:
            return "" if own is not None and own.role == UP else f"{order.node} takes clients"
