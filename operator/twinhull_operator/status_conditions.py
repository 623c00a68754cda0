"""The conditions of a module: those that both kinds have, and how all are written. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from twinhull_operator.constants import CONFIGURATION_VALID, SIDECARS_REACHABLE, UP_TO_DATE
from twinhull_operator.module import Module, Object
from twinhull_operator.problem import Problem
from twinhull_operator.report import NodeReport

Condition = tuple[str, str, str, str]
"""Type, status, reason, message."""
_LONGEST_MESSAGE = 4096


def render_conditions(
    *,
    module: Module,
    own: Sequence[Condition],
    reports: Sequence[NodeReport],
    problems: Sequence[Problem],
    rollout: str | None,
    pod_problems: Mapping[str, str],
    previous: Sequence[Object],
    now: str,
) -> list[Object]:
    """All conditions, ``own`` being the kind's. ``lastTransitionTime`` stays while a condition's status stays."""
    found = [
        *own,
        _configuration_valid(problems),
        _sidecars_reachable(reports, pod_problems),
        (UP_TO_DATE, "True", "UpToDate", "all pods run this specification")
        if rollout is None
        else (UP_TO_DATE, "False", "RolloutInProgress", rollout),
    ]
    before = {condition["type"]: condition for condition in previous}
    return [_render(condition, before.get(condition[0]), module.generation, now) for condition in found]


def describe_silence(reports: Sequence[NodeReport], pod_problems: Mapping[str, str] | None = None) -> str:
    """Which sidecars do not answer, and why where it is known."""
    whys = pod_problems or {}
    return "; ".join(
        f"the sidecar on {report.node} does not answer the operator"
        + (f" ({whys[report.node]})" if report.node in whys else "")
        for report in reports
        if not report.reachable
    )


def describe_roles(reports: Sequence[NodeReport]) -> str:
    """What each node that answers is, and why."""
    return "; ".join(
        f"{r.node} is {r.current.role}: {r.current.reason}" for r in reports if r.current is not None
    )


def describe_reasons(reports: Sequence[NodeReport]) -> str:
    """The reason of each node that answers."""
    return "; ".join(f"{report.node}: {report.current.reason}" for report in reports if report.current) or (
        "no sidecar of this module answers the operator"
    )


def _render(condition: Condition, before: Object | None, generation: int, now: str) -> Object:
    kind, status, reason, message = condition
    same = before is not None and before.get("status") == status
    return {
        "type": kind,
        "status": status,
        "observedGeneration": generation,
        "lastTransitionTime": before["lastTransitionTime"] if same and before is not None else now,
        "reason": reason,
        "message": message[:_LONGEST_MESSAGE],
    }


def _configuration_valid(problems: Sequence[Problem]) -> Condition:
    if not problems:
        return CONFIGURATION_VALID, "True", "Valid", "the specification can be carried out"
    own = [problem for problem in problems if not problem.node]
    reason = "InvalidSpecification" if own else "ReportedByNode"
    return CONFIGURATION_VALID, "False", reason, "; ".join(map(str, problems))


def _sidecars_reachable(reports: Sequence[NodeReport], pod_problems: Mapping[str, str]) -> Condition:
    if all(report.reachable for report in reports):
        return SIDECARS_REACHABLE, "True", "Connected", "both sidecars answer the operator"
    return SIDECARS_REACHABLE, "False", "SidecarUnreachable", describe_silence(reports, pod_problems)
