"""What the page shows of the comparison of both nodes' files. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twinhull_operator.module import Object
from twinhull_operator.report import NodeReport, describe_difference, find_verification
from twinhull_operator.times import unix_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb


def render_verification(reports: Sequence[NodeReport], status: Object) -> dict[str, Any] | None:
    """The comparison that runs or the last one; of one that no sidecar knows any more, what ``status`` has kept."""
    known = find_verification(reports)
    if known is None:
        return _kept(status)
    return {
        "state": _state(known),
        "text": _text(known),
        "repair": known.repair,
        "begun": known.begun,
        "ended": known.ended or None,
        "files": known.files,
        "bytes": known.bytes,
        "differences": [
            {"place": describe_difference(one), "detail": one.detail, "repaired": one.repaired}
            for one in known.differences
        ],
        "unlisted": max(0, known.found - len(known.differences)),
    }


def _kept(status: Object) -> dict[str, Any] | None:
    if not status.get("verify"):
        return None
    when = status.get("lastVerifyTime")
    return {
        "state": "kept",
        "text": status["verify"],
        "repair": False,
        "begun": None,
        "ended": unix_seconds(when) if when else None,
        "files": None,
        "bytes": None,
        "differences": [],
        "unlisted": 0,
    }


def _state(known: pb.Verification) -> str:
    if known.running:
        return "running"
    if known.resync:
        return "resyncing"
    if known.found > known.repaired:
        return "differs"
    if known.stopped:
        return "incomplete"
    return "repaired" if known.found else "equal"


def _text(known: pb.Verification) -> str:
    found = f"{known.found} {'difference' if known.found == 1 else 'differences'}"
    match _state(known):
        case "running":
            return f"{found} so far" if known.found else "no difference so far"
        case "resyncing":
            return f"{found}, of names too: a full resynchronisation repairs them"
        case "differs":
            more = f"; not compared to the end: {known.stopped}" if known.stopped else ""
            mended = f", {known.repaired} of them repaired" if known.repair else ""
            return f"{found}{mended}{more}"
        case "incomplete":
            return known.stopped
        case "repaired":
            return f"{found}, all repaired"
        case _:
            return "both nodes hold the same"
