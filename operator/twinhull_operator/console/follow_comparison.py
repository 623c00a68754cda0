"""A comparison of both nodes' files after it was ordered: how far it is, and what it found. Pure.

The sidecar answers *done* as soon as it has taken the order; the comparison itself shows in the status of the node that
makes it, told apart from the one before by when it began.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Literal

from twinhull_operator.console.given import Given
from twinhull_operator.report import SERVING, NodeReport, describe_difference, find_verification
from twinhull_sidecar.api import sidecar_pb2 as pb

COMPARISONS: Final = ("verify", "repair")


def follow_comparison(order: Given, reports: Sequence[NodeReport], now: float) -> Given | None:
    """The order with what is known of its comparison, however long that takes; None: nothing yet."""
    known = find_verification(reports)
    begun = known.begun if known is not None else 0.0
    if known is not None and begun != order.compared_before and order.comparison in (0.0, begun):
        order = replace(order, answered=True, comparison=begun)
        if known.running:
            return replace(order, message=_progress(known))
        if known.resync:
            return replace(
                order, message="names differ: waits until the full resynchronisation has repaired them"
            )
        state, message = outcome(known)
        return replace(order, state=state, message=message, ended=now)
    if not order.comparison:
        return None
    if any(report.current is not None and report.current.role in SERVING for report in reports):
        why = (
            "its end was not seen: the node that compared started anew, gave its role away or compares again"
        )
        return replace(order, state="failed", message=why, ended=now)
    return replace(order, message="no node that serves answers the operator; the outcome is not known yet")


def outcome(known: pb.Verification) -> tuple[Literal["done", "failed"], str]:
    """Of one that has ended. Differences that remain are a failure, as they are to ``kubectl twinhull verify``."""
    found = f"{known.found} {'difference' if known.found == 1 else 'differences'}"
    if known.found > known.repaired:
        first = f", the first: {describe_difference(known.differences[0])}" if known.differences else ""
        mended = f", {known.repaired} repaired" if known.repair else ""
        return "failed", f"{found}{mended}{first}"
    if known.stopped:
        return "failed", f"it did not come to its end: {known.stopped}"
    if known.found:
        return "done", f"{found}, all repaired"
    return "done", f"{known.files} files compared, no difference"


def _progress(known: pb.Verification) -> str:
    found = f", {known.found} differences so far" if known.found else ""
    return f"{known.files} files compared{found}"
