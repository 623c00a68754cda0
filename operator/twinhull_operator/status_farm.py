"""What only a FarmModule's status says: which nodes take clients, and how many. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from twinhull_operator.constants import AVAILABLE, DEGRADED
from twinhull_operator.module import Object
from twinhull_operator.report import UP, Drain, Facts, NodeReport, by_name
from twinhull_operator.status_conditions import (
    Condition,
    describe_reasons,
    describe_roles,
    describe_silence,
)
from twinhull_operator.times import rfc3339, rfc3339_seconds, unix_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb

COUNT_PERIOD: Final = 15.0
"""Connections come and go all the time: in the status, their number changes no more often than this."""
_UNKNOWN: Final = "Unknown"


def farm_fields(facts: Facts) -> Object:
    """The fields of the status that are a farm's own."""
    roles = find_roles(facts.reports)
    announcers = _announcers(facts.reports)
    count = sum(role == UP for role in roles.values())
    known = any(report.current for report in facts.reports)
    return {
        "role": _role(roles),
        "reason": describe_reasons(facts.reports),
        "up": f"{count if known else '?'}/{len(facts.reports)}",
        "announcer": ",".join(announcers) or None,
        "shares": " ".join(
            f"{report.node}={describe_share(report.current.farm.share)}"
            for report in facts.reports
            if report.current is not None
        )
        or None,
        "connectionsCounted": _counted(facts),
        "rolloutDrain": render_drain(facts.drained),
    }


def farm_words(status: pb.Status, before: Object, facts: Facts) -> Object:
    """What only a farm's sidecar says, in its entry of ``status.nodes``."""
    farm = status.farm
    return {
        "share": describe_share(farm.share),
        "announcing": farm.announcing,
        "draining": farm.draining,
        "connections": farm.connections if _counting(facts) else before.get("connections", farm.connections),
        "checkers": [
            {"name": checker.name, "passing": checker.passing, "detail": checker.detail}
            for checker in farm.checkers
        ],
    }


def farm_conditions(facts: Facts) -> list[Condition]:
    """Available and Degraded."""
    roles = find_roles(facts.reports)
    found = next(_degradations(facts.reports, roles, facts.pod_problems), None)
    expected = (DEGRADED, "False", "AsExpected", "either node may fail, the other serves all clients")
    return [
        _available(facts.reports, roles),
        expected if found is None else (DEGRADED, "True", *found),
    ]


def find_roles(reports: Sequence[NodeReport]) -> dict[str, str]:
    """Each node's role by its own word, else by its peer's, else Unknown."""
    roles = {report.node: report.current.role for report in reports if report.current is not None}
    heard = {
        report.current.peer.node: report.current.peer.role
        for report in reports
        if report.current is not None and report.current.peer.heard
    }
    return {report.node: roles.get(report.node) or heard.get(report.node) or _UNKNOWN for report in reports}


def describe_share(share: float) -> str:
    """A part of one as a percentage with at most one decimal."""
    return f"{100 * share:.1f}".removesuffix(".0") + "%"


def render_drain(drained: Drain | None) -> Object | None:
    """As the status records it."""
    return None if drained is None else {"node": drained.node, "since": rfc3339(drained.since)}


def read_drain(status: Object) -> Drain | None:
    """What a status records, or None."""
    try:
        entry = status["rolloutDrain"]
        return Drain(entry["node"], unix_seconds(entry["since"]))
    except (KeyError, TypeError, ValueError):
        return None


def _role(roles: Mapping[str, str]) -> str:
    found = set(roles.values())
    return next((role for role in (UP, "Draining", "Waiting", "Stopped") if role in found), _UNKNOWN)


def _announcers(reports: Sequence[NodeReport]) -> list[str]:
    return [
        report.node for report in reports if report.current is not None and report.current.farm.announcing
    ]


def _counting(facts: Facts) -> bool:
    counted = facts.previous.get("connectionsCounted")
    return not counted or facts.now - unix_seconds(counted) >= COUNT_PERIOD


def _counted(facts: Facts) -> str | None:
    """When the connections in the status were counted; unchanged while their number is."""
    before = by_name(facts.previous.get("nodes"))
    changed = any(
        report.status is not None
        and before.get(report.node, {}).get("connections") != report.status.farm.connections
        for report in facts.reports
    )
    if changed and _counting(facts):
        return rfc3339_seconds(facts.now)
    return facts.previous.get("connectionsCounted")


def _available(reports: Sequence[NodeReport], roles: Mapping[str, str]) -> Condition:
    up = [node for node, role in roles.items() if role == UP]
    if not up:
        if all(report.reachable for report in reports):
            return AVAILABLE, "False", "NoNodeUp", describe_roles(reports)
        return AVAILABLE, "Unknown", "NoNodeUp", f"no node is known to be up; {describe_silence(reports)}"
    own = [report.current for report in reports if report.node in up and report.current is not None]
    if not own:
        return (
            AVAILABLE,
            "Unknown",
            "NodeUnreachable",
            f"{' and '.join(up)} does not answer the operator; its peer hears it",
        )
    addresses = [vip.address for vip in own[0].virtual_ips]
    held = {vip.address for status in own for vip in status.virtual_ips if vip.held}
    if missing := [address for address in addresses if address not in held]:
        return (
            AVAILABLE,
            "False",
            "VirtualIPNotHeld",
            f"{' and '.join(up)} does not hold {', '.join(missing)}",
        )
    if not _announcers(reports) and all(report.reachable for report in reports):
        return AVAILABLE, "False", "NoAnnouncer", "no node answers for the virtual IPs on the network"
    return AVAILABLE, "True", "NodeUp", f"{' and '.join(up)} {'takes' if len(up) == 1 else 'take'} clients"


def _degradations(
    reports: Sequence[NodeReport], roles: Mapping[str, str], pod_problems: Mapping[str, str]
) -> Iterator[tuple[str, str]]:
    """Reason and message of everything that takes redundancy away, the worst first."""
    announcers = _announcers(reports)
    if len(announcers) > 1:
        both = " and ".join(announcers)
        yield "TwoAnnouncers", f"{both} both answer for the virtual IPs: the nodes do not hear each other"
    if UP not in roles.values() and all(report.reachable for report in reports):
        yield "NoNodeUp", describe_roles(reports)
    if any(not report.reachable for report in reports):
        yield "SidecarUnreachable", describe_silence(reports, pod_problems)
    for report in reports:
        status = report.current
        if status is None:
            continue
        if status.role != UP:
            yield status.reason_code or status.role, f"{report.node}: {status.reason}"
        if missing := [vip.address for vip in status.virtual_ips if not vip.held]:
            yield "VirtualIPNotHeld", f"{report.node} does not hold {', '.join(missing)}"
        if not status.peer.heard:
            yield "PeerNotHeard", f"{report.node} does not hear its peer"
