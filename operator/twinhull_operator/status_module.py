"""The status of a module, from what its sidecars say. Pure.

Nothing in it changes by itself with time: while nothing happens, it is equal from one moment to the next and
is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twinhull_operator.constants import UP_TO_DATE
from twinhull_operator.kinds import KINDS
from twinhull_operator.module import Module, Object
from twinhull_operator.problem import Problem
from twinhull_operator.render_config import resource_field
from twinhull_operator.report import Drain, Facts, NodeReport, by_name
from twinhull_operator.status_conditions import render_conditions
from twinhull_operator.status_farm import read_drain
from twinhull_operator.times import rfc3339, rfc3339_micro, rfc3339_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb


@dataclass(frozen=True)
class Findings:
    """What the operator itself found: ``problems`` of the specification, and how far a rollout is.

    ``rollout`` is None when all pods are up to date, else what it does or waits for. ``pods`` are the names
    of the pods by node, ``pod_problems`` why one does not run, ``drained`` is the node that the rollout drained.
    """

    problems: tuple[Problem, ...] = ()
    rollout: str | None = None
    pods: Mapping[str, str] = field(default_factory=dict)
    pod_problems: Mapping[str, str] = field(default_factory=dict)
    drained: Drain | None = None


def render_status(
    module: Module, reports: Sequence[NodeReport], findings: Findings, previous: Object, now: float
) -> Object:
    """The whole status. ``previous`` is the one so far, ``now`` in Unix seconds."""
    kind = KINDS[module.kind]
    facts = Facts(module, reports, previous, now, findings.pod_problems, findings.drained)
    before = by_name(previous.get("nodes"))
    problems = (*findings.problems, *_reported_problems(reports))
    status: Object = {
        "observedGeneration": module.generation,
        "vip": ",".join(held_addresses(reports)) or None,
        "problems": [_problem(problem) for problem in problems],
        "nodes": [_node(report, findings, before.get(report.node, {}), facts) for report in reports],
        "lastFailover": _last_failover(reports, previous),
        **kind.fields(facts),
        "conditions": render_conditions(
            module=module,
            own=kind.conditions(facts),
            reports=reports,
            problems=problems,
            rollout=findings.rollout,
            pod_problems=findings.pod_problems,
            previous=previous.get("conditions") or [],
            now=rfc3339_seconds(now),
        ),
    }
    if module.base_port is not None:
        status["basePort"] = module.base_port
    return status


def read_findings(status: Object) -> Findings:
    """What another operator found, from the status that it wrote."""
    nodes = by_name(status.get("nodes"))
    outdated = next(
        (c for c in status.get("conditions") or () if c["type"] == UP_TO_DATE and c["status"] != "True"), None
    )
    return Findings(
        problems=tuple(
            Problem(str(entry["field"]), str(entry["message"]), str(entry["mend"]))
            for entry in status.get("problems") or ()
            if not entry.get("node")
        ),
        rollout=str(outdated["message"]) if outdated is not None else None,
        pods={name: str(entry["pod"]) for name, entry in nodes.items() if entry.get("pod")},
        pod_problems={
            name: str(entry["podProblem"]) for name, entry in nodes.items() if entry.get("podProblem")
        },
        drained=read_drain(status),
    )


def status_patch(before: Object, after: Object) -> Object:
    """The JSON merge patch (RFC 7386) that makes ``after`` of ``before``: what is gone must be said to be
    null.
    """
    patch: Object = {key: None for key in before if key not in after}
    for key, value in after.items():
        old = before.get(key)
        if old == value:
            continue
        both = isinstance(value, dict) and isinstance(old, dict)
        patch[key] = status_patch(dict(old or {}), value) if both else value
    return patch


def held_addresses(reports: Sequence[NodeReport]) -> list[str]:
    """The virtual IPs that some node says it holds now."""
    return sorted(
        {
            vip.address
            for report in reports
            if report.current
            for vip in report.current.virtual_ips
            if vip.held
        }
    )


def _reported_problems(reports: Sequence[NodeReport]) -> tuple[Problem, ...]:
    return tuple(
        Problem(resource_field(problem.field), problem.message, problem.mend, report.node)
        for report in reports
        if report.current is not None
        for problem in report.current.problems
    )


def _problem(problem: Problem) -> Object:
    entry = {"field": problem.field, "message": problem.message, "mend": problem.mend}
    return {**entry, "node": problem.node} if problem.node else entry


def _node(report: NodeReport, findings: Findings, previous: Object, facts: Facts) -> Object:
    entry: Object = {"name": report.node}
    if report.status is not None:
        entry |= _words(report.status)
        entry |= KINDS[facts.module.kind].words(report.status, previous, facts)
        if last_event := max((event.time for event in report.status.events), default=0.0):
            entry["lastEventTime"] = rfc3339_micro(last_event)
    else:
        # This operator has not heard it yet; an earlier one has.
        entry |= {key: value for key, value in previous.items() if key not in ("pod", "podProblem")}
    if "lastEventTime" in previous:
        entry["lastEventTime"] = max(previous["lastEventTime"], entry.get("lastEventTime", ""))
    entry["reachable"] = report.reachable
    entry.pop("unreachableSince", None)
    if not report.reachable and report.unreachable_since is not None:
        first = rfc3339_seconds(report.unreachable_since)
        entry["unreachableSince"] = previous.get("unreachableSince", first)
    if report.address:
        entry["address"] = report.address
    if report.node in findings.pods:
        entry["pod"] = findings.pods[report.node]
    if report.node in findings.pod_problems:
        entry["podProblem"] = findings.pod_problems[report.node]
    return entry


def _words(status: pb.Status) -> Object:
    """A sidecar's status as an entry of ``status.nodes``, without what changes all the time."""
    entry: Object = {
        "role": status.role,
        "reason": status.reason,
        "reasonCode": status.reason_code,
        "peerHeard": status.peer.heard,
        "incarnation": status.incarnation,
        "configHash": status.config_hash,
        "application": {
            "phase": status.application.phase,
            "restarts": status.application.restarts,
            "ready": status.application.ready,
            "detail": status.application.detail,
        },
        "virtualIPs": [
            {"address": vip.address, "interface": vip.interface, "held": vip.held, "problem": vip.problem}
            for vip in status.virtual_ips
        ],
        "links": [{"name": link.name, "up": link.up} for link in status.peer.links],
    }
    if status.witnesses:
        entry["witnesses"] = [
            {
                "name": witness.name,
                "type": witness.type,
                "answers": witness.answers,
                "holder": witness.holder,
                "generation": witness.generation,
                "detail": witness.detail,
            }
            for witness in status.witnesses
        ]
    if status.last_order.id:
        order = status.last_order
        entry["lastOrder"] = {
            "id": order.id,
            "action": order.action,
            "state": order.state,
            "message": order.message,
        }
    return entry


def _last_failover(reports: Sequence[NodeReport], previous: Object) -> Object | None:
    found = [
        _timeline(report.node, report.status.last_failover)
        for report in reports
        if report.status is not None and report.status.last_failover.promoted
    ]
    if previous.get("lastFailover"):
        found.append(previous["lastFailover"])
    # The same promotion may have got further since it was written, so of equal ones the first, the newest,
    # counts.
    return max(found, key=lambda timeline: timeline.get("promoted", ""), default=None)


def _timeline(node: str, timeline: pb.Timeline) -> Object:
    steps = {
        "peerLost": timeline.peer_lost,
        "leaseOver": timeline.lease_over,
        "vipProbed": timeline.vip_probed,
        "detected": timeline.detected,
        "recorded": timeline.recorded,
        "promoted": timeline.promoted,
        "vipAnnounced": timeline.vip_announced,
        "applicationStarted": timeline.application_started,
        "applicationReady": timeline.application_ready,
        "firstWrite": timeline.first_write,
    }
    return {
        "node": node,
        "cause": timeline.cause,
        **{name: rfc3339(seconds) for name, seconds in steps.items() if seconds},
    }
