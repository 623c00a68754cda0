"""What the page shows of one node of a module. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twinhull_operator.constants import FARM
from twinhull_operator.module import Module
from twinhull_operator.report import NodeReport
from twinhull_operator.status_farm import describe_share
from twinhull_operator.status_module import Findings
from twinhull_sidecar.api import sidecar_pb2 as pb


def render_node(module: Module, report: NodeReport, peer: NodeReport, findings: Findings) -> dict[str, Any]:
    """One panel. What a silent sidecar said last is shown as such (``stale``)."""
    entry: dict[str, Any] = {
        "name": report.node,
        "contact": _contact(report),
        "silentSince": None if report.reachable else report.unreachable_since,
        "stale": report.status is not None and not report.reachable,
        "podProblem": findings.pod_problems.get(report.node, ""),
        "pod": findings.pods.get(report.node, ""),
        "address": report.address,
    }
    if report.status is None:
        return entry | {"role": "", "reason": _silence(report)}
    return entry | _words(report.status) | _by_peer(report, peer) | _of_kind(module, report.status)


def _contact(report: NodeReport) -> str:
    if report.reachable:
        return "answers"
    return "silent" if report.unreachable_since is not None else "asking"


def _silence(report: NodeReport) -> str:
    if report.unreachable_since is None:
        return "The operator is just asking this node's sidecar."
    return (
        "The operator cannot reach the sidecar on this node. That alone says nothing of the application: "
        "the peer's view and the pod tell more."
    )


def _words(status: pb.Status) -> dict[str, Any]:
    application = status.application
    return {
        "role": status.role,
        "reason": status.reason,
        "reasonCode": status.reason_code,
        "application": {
            "phase": application.phase,
            "ready": application.ready,
            "restarts": application.restarts,
            "detail": application.detail,
        },
        "holds": [vip.address for vip in status.virtual_ips if vip.held],
        "hearsPeer": status.peer.heard,
        "links": [{"name": link.name, "up": link.up} for link in status.peer.links],
    }


def _by_peer(report: NodeReport, peer: NodeReport) -> dict[str, Any]:
    """What the peer says of a node that does not answer."""
    if report.reachable or peer.current is None:
        return {}
    heard = peer.current.peer
    word = f"{peer.node} hears it: {heard.role}" if heard.heard else f"{peer.node} does not hear it either"
    return {"byPeer": word}


def _of_kind(module: Module, status: pb.Status) -> dict[str, Any]:
    if module.kind != FARM:
        return {"inSync": status.in_sync}
    farm: Mapping[str, Any] = {
        "share": describe_share(status.farm.share),
        "shareRatio": round(status.farm.share, 4),
        "announcing": status.farm.announcing,
        "draining": status.farm.draining,
        "connections": status.farm.connections,
        "checkers": [
            {"name": c.name, "passing": c.passing, "detail": c.detail} for c in status.farm.checkers
        ],
    }
    return dict(farm)
