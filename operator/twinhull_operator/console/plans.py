"""The orders of a module of either kind. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinhull_operator.console.plan import Plan, Situation
from twinhull_operator.console.plan_farm import farm_plans
from twinhull_operator.console.plan_mirror import mirror_plans
from twinhull_operator.constants import FARM
from twinhull_operator.report import NodeReport


def running_order(reports: Sequence[NodeReport]) -> str:
    """The order that some node is just carrying out, or empty. A resynchronisation holds nothing up."""
    for report in reports:
        if report.current is not None and report.current.last_order.state == "running":
            action = report.current.last_order.action
            return "" if action == "resync" else f"{action} on {report.node}"
    return ""


def list_plans(situation: Situation) -> list[Plan]:
    """Every order that the module's kind has, possible now or not."""
    plans = farm_plans(situation) if situation.module.kind == FARM else mirror_plans(situation)
    running = running_order(situation.reports)
    return [_guard(plan, situation, running) for plan in plans]


def find_plan(situation: Situation, key: str) -> Plan | None:
    """The plan of this key."""
    return next((plan for plan in list_plans(situation) if plan.key == key), None)


def _guard(plan: Plan, situation: Situation, running: str) -> Plan:
    refusal = plan.refusal
    if not situation.answering:
        refusal = (
            "No sidecar of this module answers the operator, so nobody can be asked. "
            "On a node itself, twinhullctl still can."
        )
    elif running and plan.action not in ("stop", "force-primary"):
        refusal = f"An order is just being carried out: {running}. Wait for its end."
    return replace(plan, refusal=refusal)
