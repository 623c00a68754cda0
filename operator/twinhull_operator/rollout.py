"""Which pod of a module is replaced next when its specification changed. Pure.

The DaemonSet replaces nothing by itself (OnDelete). Of a mirror (a farm's part is in :mod:`rollout_farm`) the
pod that does not serve goes first; the one that serves goes last, after a switchover. Nothing is done that would
leave the application without an up-to-date peer, except where no node serves at all: then a changed
specification may be just what they wait for; and except where an administrator said so of exactly this specification
(the annotation ``twinhull.dev/roll-unprotected``): then the pods are replaced one after the other, the data stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from twinhull_operator.constants import ANNOTATION_TEMPLATE, SIDECAR_CONTAINER
from twinhull_operator.module import Object
from twinhull_operator.report import (
    Drain,
    Facts,
    NodeReport,
    Serving,
    describe_sync,
    failover_is_held,
    find_serving,
)


@dataclass(frozen=True)
class Pod:
    """A module's pod: the hash of the template it was made from, and whether its sidecar runs."""

    name: str
    uid: str
    node: str
    template_hash: str
    deleting: bool
    sidecar_running: bool
    problem: str | None = None


@dataclass(frozen=True)
class Step:
    """What to do now: nothing, wait, delete ``pod``, or give its sidecar the order that the action names.

    ``drained`` holds from this step on, and is recorded before it is done.
    """

    action: Literal["none", "wait", "delete", "switchover", "drain", "resume"]
    reason: str
    pod: Pod | None = None
    drained: Drain | None = None


def read_pod(pod: Mapping[str, Object]) -> Pod:
    """A pod as the API server shows it."""
    metadata, spec, status = pod["metadata"], pod["spec"], pod.get("status", {})
    statuses = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    running = {entry["name"] for entry in statuses if "running" in (entry.get("state") or {})}
    return Pod(
        name=metadata["name"],
        uid=metadata["uid"],
        node=spec.get("nodeName", ""),
        template_hash=(metadata.get("annotations") or {}).get(ANNOTATION_TEMPLATE, ""),
        deleting="deletionTimestamp" in metadata,
        sidecar_running=SIDECAR_CONTAINER in running,
        problem=_problem(status, statuses),
    )


def _problem(status: Object, statuses: Sequence[Object]) -> str | None:
    """Why a pod does not get on, in Kubernetes' own words."""
    for entry in statuses:
        waiting = (entry.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in (None, "PodInitializing", "ContainerCreating"):
            return f"container {entry['name']}: {waiting['reason']}"
    for condition in status.get("conditions") or ():
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            return f"{condition.get('reason', 'Unschedulable')}: {condition.get('message', '')}"
    return None


def next_mirror_step(template_hash: str, pods: Sequence[Pod], facts: Facts) -> Step:
    """The next step for a MirrorModule."""
    serving = find_serving(facts.module, facts.reports, facts.previous)
    return next_step(
        template_hash,
        pods,
        facts.reports,
        serving,
        in_sync=describe_sync(facts.reports, serving) == "InSync",
        held=failover_is_held(facts),
        unprotected=facts.module.roll_unprotected,
    )


def next_step(
    template_hash: str,
    pods: Sequence[Pod],
    reports: Sequence[NodeReport],
    serving: Serving,
    *,
    in_sync: bool,
    held: bool = False,
    unprotected: bool = False,
) -> Step:
    """The next step of the rollout of this template, given the pods and what their sidecars say."""
    outdated = [pod for pod in pods if pod.template_hash != template_hash]
    names = ", ".join(sorted(pod.node for pod in outdated))
    if not outdated:
        return Step("none", "all pods are up to date")
    if any(pod.deleting for pod in pods):
        return Step("wait", f"a pod is being replaced; still to do: {names}")
    if harmless := _harmless(outdated, reports):
        return harmless
    if missing := _missing(reports, in_sync=in_sync, held=held):
        if unprotected:
            return _next_unprotected(outdated, reports, serving, names)
        return Step("wait", f"waits until {missing}; still to do: {names}")
    return _next_of_pair(outdated, serving)


def _missing(reports: Sequence[NodeReport], *, in_sync: bool, held: bool) -> str:
    """What a pod cannot be replaced without, because no node would take over; empty when all is there."""
    if any(not report.reachable for report in reports):
        return "both sidecars answer"
    if not in_sync:
        return "both nodes are in sync"
    return "failover is resumed, an administrator holds it" if held else ""


def _next_unprotected(
    outdated: Sequence[Pod], reports: Sequence[NodeReport], serving: Serving, names: str
) -> Step:
    """By order, without a peer that could take over; what serves goes last, and in place."""
    answering = {report.node for report in reports if report.reachable}
    for pod in sorted(outdated, key=lambda pod: pod.node == serving.primary):
        if pod.node in answering:
            return Step("delete", f"{pod.node}: replaced unprotected, by order", pod)
    return Step("wait", f"no sidecar that is out of date answers; still to do: {names}")


def _harmless(outdated: Sequence[Pod], reports: Sequence[NodeReport]) -> Step | None:
    """A pod whose end takes nothing from anyone.

    That nobody serves is not enough: so it is for a moment in the middle of a switchover, too.
    """
    # A node that waits only because failover is held could take over; a new process of it could not.
    roles = {
        report.node: report.current.role
        for report in reports
        if report.current is not None and report.current.reason_code != "FailoverHeld"
    }
    for pod in outdated:
        if not pod.sidecar_running:
            return Step("delete", f"the pod on {pod.node} does not run", pod)
        if roles.get(pod.node) in ("Waiting", "Stopped"):
            return Step("delete", f"{pod.node} neither serves nor follows", pod)
    return None


def _next_of_pair(outdated: Sequence[Pod], serving: Serving) -> Step:
    for pod in outdated:
        if pod.node != serving.primary:
            return Step("delete", f"{pod.node} is the secondary", pod)
    return Step("switchover", f"{serving.primary} serves and is out of date", outdated[0])
