"""What the page shows of a module, from what the operator knows of it. Pure.

``now`` is used only where the operator's own status needs it: a page is equal from one moment to the next while
nothing happens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twinhull_operator.console.follow import render_given
from twinhull_operator.console.given import Given
from twinhull_operator.console.page_failover import render_failover
from twinhull_operator.console.page_node import render_node
from twinhull_operator.console.page_verification import render_verification
from twinhull_operator.console.plan import Situation, render_plan
from twinhull_operator.console.plans import list_plans, running_order
from twinhull_operator.console.sync_rate import SyncRate
from twinhull_operator.constants import AVAILABLE, CONFIGURATION_VALID, DEGRADED, FARM
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.module import Object
from twinhull_operator.report import SERVING, NodeReport
from twinhull_operator.status_module import render_status

EVENTS_SHOWN: Final = 24
_MOVING: Final = ("Starting", "Stopping")

GREEN, ORANGE, RED = "green", "orange", "red"


def module_key(view: ModuleView) -> str:
    """Names a module on the page."""
    return f"{view.module.kind}/{view.module.key}"


def situation_of(view: ModuleView, now: float) -> Situation:
    """The module as the sidecars tell it at this moment, written to the resource or not."""
    status = render_status(view.module, view.reports, view.findings, view.status, now)
    return Situation(view.module, view.reports, status)


def render_page(view: ModuleView, rate: SyncRate, given: Sequence[Given], now: float) -> dict[str, Any]:
    """Everything that the page shows of one module."""
    module, (first, second) = view.module, view.reports
    situation = situation_of(view, now)
    status = situation.status
    colour, state, why = judge(situation)
    return {
        "key": module_key(view),
        "kind": module.kind,
        "namespace": module.namespace,
        "name": module.name,
        "uid": module.uid,
        "colour": colour,
        "state": state,
        "why": why,
        "role": status.get("role", ""),
        "vips": _vips(situation),
        "sync": _sync(situation, rate) if module.kind != FARM else None,
        "verification": render_verification(view.reports, status),
        "nodes": [
            render_node(module, first, second, view.findings),
            render_node(module, second, first, view.findings),
        ],
        "failover": render_failover(module.kind, status.get("lastFailover")),
        "events": _events(view.reports),
        "problems": status["problems"],
        "rollout": view.findings.rollout or "",
        "conditions": [
            {key: c[key] for key in ("type", "status", "reason", "message")} for c in status["conditions"]
        ],
        "plans": [
            {key: value for key, value in render_plan(plan).items() if key not in ("effects", "stamp")}
            for plan in list_plans(situation)
        ],
        "orders": [render_given(order) for order in given],
    }


def judge(situation: Situation) -> tuple[str, str, str]:
    """Colour, state in a few words, and why it is so (empty when all is well)."""
    conditions = {c["type"]: c for c in situation.status["conditions"]}
    available, degraded = conditions[AVAILABLE], conditions[DEGRADED]
    valid = conditions[CONFIGURATION_VALID]
    if available["status"] == "True":
        if degraded["status"] == "False":
            return GREEN, "Protected", ""
        return ORANGE, "Serving, not protected", degraded["message"]
    if available["status"] == "Unknown":
        return _judge_unknown(situation, available, valid)
    if situation.status.get("role") == "Stopped":
        return RED, "Stopped", "Stopped by an administrator's order; Start ends that."
    if _moving(situation):
        return ORANGE, "In transition", available["message"]
    return RED, "Not serving", _with(valid, available["message"])


def _judge_unknown(situation: Situation, available: Object, valid: Object) -> tuple[str, str, str]:
    reports = situation.reports
    if all(report.status is None and report.unreachable_since is None for report in reports):
        if valid["status"] == "False":
            return RED, "Invalid specification", valid["message"]
        return ORANGE, "Starting", "The operator has not heard a sidecar of this module yet."
    return ORANGE, "Unknown", _with(valid, available["message"])


def _with(valid: Object, message: str) -> str:
    return f"{message}; {valid['message']}" if valid["status"] == "False" else message


def _moving(situation: Situation) -> bool:
    if running_order(situation.reports):
        return True
    said = [report.current for report in situation.reports if report.current is not None]
    return any(status.application.phase in _MOVING for status in said)


def _vips(situation: Situation) -> list[dict[str, Any]]:
    """Each virtual IP with the node that answers for it, and what is wrong with it."""
    found = []
    for vip in situation.module.virtual_ips:
        answers, problems = [], []
        for report in situation.reports:
            status = report.current
            for held in status.virtual_ips if status is not None else ():
                if held.address != vip.address:
                    continue
                announces = situation.module.kind != FARM or (status is not None and status.farm.announcing)
                if held.held and announces:
                    answers.append(report.node)
                if held.problem:
                    problems.append(f"{report.node}: {held.problem}")
        ports = ", ".join(f"{port.port}/{port.protocol}" for port in vip.ports)
        found.append(
            {"address": vip.address, "ports": ports, "answers": answers, "problem": "; ".join(problems)}
        )
    return found


def _sync(situation: Situation, rate: SyncRate) -> dict[str, Any]:
    word, _, _ = str(situation.status.get("sync", "Unknown")).partition(" ")
    messages = {
        "InSync": "Both nodes hold every acknowledged write.",
        "Syncing": "The secondary catches up; it cannot take over yet.",
        "OutOfSync": "Only one node holds the newest data.",
        "Split": "Each node has writes that the other has not; nothing is discarded until you choose.",
        "Unknown": "Nobody who knows can be asked.",
    }
    if any(r.current is not None and r.current.reason_code == "SplitBrain" for r in situation.reports):
        word = "Split"
    entry: dict[str, Any] = {"word": word, "text": messages.get(word, ""), "progress": None}
    progress = sync_progress(situation.reports)
    if progress is not None:
        done, total, files_done, files_total = progress
        # More than all: what the plan did not know of has come since. Better no estimate than a wrong one.
        known = 0 < total >= done
        left, speed = rate.seconds_left(total) if known else None, rate.bytes_per_second
        entry["progress"] = {
            "percent": min(99, 100 * done // total) if known else None,
            "done": done,
            "total": total,
            "filesDone": files_done,
            "filesTotal": files_total,
            "rate": None if speed is None else round(speed),
            "secondsLeft": None if left is None else round(left),
        }
    return entry


def sync_progress(reports: Sequence[NodeReport]) -> tuple[int, int, int, int] | None:
    """Bytes done and in all, files done and in all: by the node that serves if it says so."""
    said = [r.current for r in reports if r.current is not None and r.current.HasField("sync")]
    if not said:
        return None
    sync = max(said, key=lambda status: status.role in SERVING).sync
    return sync.bytes_done, sync.bytes_total, sync.files_done, sync.files_total


def _events(reports: Sequence[NodeReport]) -> list[dict[str, Any]]:
    """The newest events of both nodes, newest first."""
    events: list[dict[str, Any]] = [
        {"time": e.time, "type": e.type, "code": e.code, "message": e.message, "node": report.node}
        for report in reports
        if report.status is not None
        for e in report.status.events
    ]
    return sorted(events, key=lambda event: float(event["time"]), reverse=True)[:EVENTS_SHOWN]
