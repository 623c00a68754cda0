"""Which pod of a farm is replaced next when its specification changed. Pure.

One node at a time, drained first and only while the other one takes the clients. A node that takes none goes
first, the announcer last. A specification that does not get its first node up goes no further; where no node is
up, it is tried on one of them. A farm that was stopped by order is replaced at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from twinhull_operator.report import UP, Drain, Facts
from twinhull_operator.rollout import Pod, Step
from twinhull_sidecar.api import sidecar_pb2 as pb

_ORDER_SECONDS = 10.0
"""Within this time after a drain was ordered, a status without it may be older than the order."""


def next_farm_step(template_hash: str, pods: Sequence[Pod], facts: Facts) -> Step:
    """The next step towards this template (empty: none is valid, so no pod is out of date)."""
    drained, now = facts.drained, facts.now
    outdated = [pod for pod in pods if template_hash and pod.template_hash != template_hash]
    ready = {pod.node: pod for pod in pods if pod not in outdated and not pod.deleting}
    current = {report.node: report.current for report in facts.reports}
    if drained is not None and drained.node in ready:
        status = current.get(drained.node)
        if status is None:
            reason = f"waits for the sidecar on {drained.node}, to let clients come to it again"
            return Step("wait", reason, drained=drained)
        if status.farm.draining:
            reason = f"{drained.node} is up to date and takes clients again"
            return Step("resume", reason, ready[drained.node], drained)
        if now - drained.since > _ORDER_SECONDS:
            drained = None
    step = _replace(outdated, pods, replace(facts, drained=drained))
    if step.action == "drain" and step.pod is not None and (not drained or drained.node != step.pod.node):
        drained = Drain(step.pod.node, now)
    return replace(step, drained=drained)


def _replace(outdated: Sequence[Pod], pods: Sequence[Pod], facts: Facts) -> Step:
    names = ", ".join(sorted(pod.node for pod in outdated))
    if not outdated:
        return Step("none", "all pods are up to date")
    if any(pod.deleting for pod in pods):
        return Step("wait", f"a pod is being replaced; still to do: {names}")
    for pod in outdated:
        if not pod.sidecar_running:
            return Step("delete", f"the pod on {pod.node} does not run", pod)
    statuses = {report.node: report.current for report in facts.reports if report.current is not None}
    if len(statuses) < len(facts.reports):
        return Step("wait", f"waits until both sidecars answer; still to do: {names}")
    drained = facts.drained.node if facts.drained else None
    up = {node for node, status in statuses.items() if status.role == UP}

    def turn(pod: Pod) -> tuple[bool, bool, bool]:
        return pod.node in up, pod.node != drained, statuses[pod.node].farm.announcing

    pod = min(outdated, key=turn)
    peer = next(node for node in facts.module.node_names if node != pod.node)
    is_stopped = all(status.role == "Stopped" for status in statuses.values())
    if peer not in up and (up or len(outdated) < len(pods)) and not is_stopped:
        return Step("wait", f"waits until {peer} is up; still to do: {names}")
    return _take_out(pod, statuses[pod.node], facts)


def _take_out(pod: Pod, status: pb.Status, facts: Facts) -> Step:
    left, grace, drained = status.farm.connections, facts.module.stop_grace, facts.drained
    # A node whose check fails is Waiting, too, and keeps the connections that it serves.
    serves = left > 0 or status.farm.share > 0
    if status.role == "Stopped" or (status.role == "Waiting" and not serves):
        return Step("delete", f"{pod.node} takes no clients: {status.reason}", pod)
    if status.role != UP and not serves:
        return Step("delete", f"{pod.node} has no connections any more", pod)
    since = drained.since if drained is not None and drained.node == pod.node else None
    if since is not None and facts.now - since >= grace:
        # Also where the order does not show: a sidecar that is told to end drains by itself.
        return Step("delete", f"{left} connections to {pod.node} did not end within {grace:g} s", pod)
    if not status.farm.draining:
        return Step("drain", f"{pod.node} is out of date; its new clients go to the other node", pod)
    if since is None:
        return Step("wait", f"{pod.node} was drained by an administrator and has {left} connections left")
    return Step("wait", f"{pod.node} is drained: {left} connections left")
