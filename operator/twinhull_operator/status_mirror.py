"""What only a MirrorModule's status says: who is the primary, and whether both nodes hold the data. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from twinhull_operator.constants import AVAILABLE, CHECKERS_PASS, DEGRADED, IN_SYNC, WITNESSES_ANSWER
from twinhull_operator.module import Object
from twinhull_operator.report import (
    Facts,
    NodeReport,
    Serving,
    describe_difference,
    describe_sync,
    failover_is_held,
    find_secondary,
    find_serving,
    find_verification,
    synced_percent,
)
from twinhull_operator.status_conditions import (
    Condition,
    describe_reasons,
    describe_roles,
    describe_silence,
)
from twinhull_operator.times import rfc3339_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb


def mirror_fields(facts: Facts) -> Object:
    """The fields of the status that are a mirror's own."""
    reports = facts.reports
    serving = find_serving(facts.module, reports, facts.previous)
    return {
        "role": _role(reports, serving),
        "reason": _reason(reports, serving),
        "primary": serving.primary,
        "primaryLastKnown": serving.primary is not None and not serving.confirmed,
        "secondary": find_secondary(reports, serving),
        "sync": describe_sync(reports, serving),
        "failoverHeld": failover_is_held(facts),
        "verify": describe_verification(facts),
        "lastVerifyTime": last_verified(facts),
    }


def describe_verification(facts: Facts) -> str | None:
    """The primary's word on the comparison of both trees; while it has none, what was known last."""
    known = find_verification(facts.reports)
    if known is None:
        return facts.previous.get("verify")
    if known.running:
        return f"Running: {known.files} files, {known.found} differences"
    if known.resync:
        return f"Resynchronising: {known.found} differences"
    if known.found and known.found == known.repaired:
        return f"Repaired: {known.found} differences"
    if known.found:
        return f"Differences: {known.found}"
    return f"Incomplete: {known.stopped}" if known.stopped else f"Equal: {known.files} files"


def last_verified(facts: Facts) -> str | None:
    """When the newest comparison that came to its end ended; a sidecar that starts anew has forgotten it."""
    known = find_verification(facts.reports)
    if known is None or not known.ended or known.stopped:
        return facts.previous.get("lastVerifyTime")
    return rfc3339_seconds(known.ended)


def mirror_words(status: pb.Status, _: Object, __: Facts) -> Object:
    """What only a mirror's sidecar says, in its entry of ``status.nodes``."""
    words: Object = {"generation": status.generation, "inSync": status.in_sync}
    if status.checkers:
        words["checkers"] = [
            {"name": one.name, "passing": one.passing, "detail": one.detail} for one in status.checkers
        ]
    percent = synced_percent(status)
    return words if percent is None else {**words, "syncedPercent": percent}


def mirror_conditions(facts: Facts) -> list[Condition]:
    """Available, InSync and Degraded; those of witnesses and checkers where there are any."""
    serving = find_serving(facts.module, facts.reports, facts.previous)
    sync = describe_sync(facts.reports, serving)
    found = [
        _available(facts.reports, serving),
        _in_sync(sync),
        _degraded(facts, serving, sync),
    ]
    if facts.module.witnesses:
        found.append(_witnesses_answer(facts.reports))
    if facts.module.checkers:
        found.append(_checkers_pass(facts.reports))
    return found


def _checkers_pass(reports: Sequence[NodeReport]) -> Condition:
    failing = [
        f"{checker.name} fails on {report.node} ({checker.detail})"
        for report in reports
        if report.current is not None
        for checker in report.current.checkers
        if not checker.passing
    ]
    if failing:
        return CHECKERS_PASS, "False", "Failing", "; ".join(failing)
    if any(report.current is None for report in reports):
        return CHECKERS_PASS, "Unknown", "SidecarUnreachable", describe_silence(reports)
    return CHECKERS_PASS, "True", "Passing", "no checker of the sidecars fails"


def _witnesses_answer(reports: Sequence[NodeReport]) -> Condition:
    silent = [
        f"{witness.name} does not answer {report.node} ({witness.detail or 'no answer yet'})"
        for report in reports
        if report.current is not None
        for witness in report.current.witnesses
        if not witness.answers
    ]
    if silent:
        return WITNESSES_ANSWER, "False", "NoAnswer", "; ".join(silent)
    if any(report.current is None for report in reports):
        return WITNESSES_ANSWER, "Unknown", "SidecarUnreachable", describe_silence(reports)
    return WITNESSES_ANSWER, "True", "Answering", "every witness answers both nodes"


def _role(reports: Sequence[NodeReport], serving: Serving) -> str:
    if serving.primary is not None:
        return serving.role if serving.confirmed else "Unknown"
    roles = {report.current.role if report.current else "Unknown" for report in reports}
    return next((role for role in ("Waiting", "Syncing", "Secondary", "Stopped") if role in roles), "Unknown")


def _reason(reports: Sequence[NodeReport], serving: Serving) -> str:
    by_node = {report.node: report.current for report in reports}
    authority = by_node.get(serving.primary) if serving.primary else None
    if authority is not None:
        return authority.reason
    return describe_reasons(reports)


def _of(reports: Sequence[NodeReport], node: str | None) -> pb.Status | None:
    return next((report.current for report in reports if report.node == node), None)


def _available(reports: Sequence[NodeReport], serving: Serving) -> Condition:
    if serving.primary is None:
        if all(report.reachable for report in reports):
            return AVAILABLE, "False", "NoPrimary", describe_roles(reports)
        return AVAILABLE, "Unknown", "NoPrimary", f"no primary is known; {describe_silence(reports)}"
    primary = _of(reports, serving.primary)
    if primary is None:
        word = "its peer hears it" if serving.confirmed else "it was the last primary known"
        return (
            AVAILABLE,
            "Unknown",
            "PrimaryUnreachable",
            f"{serving.primary} does not answer the operator; {word}",
        )
    if missing := [vip.address for vip in primary.virtual_ips if not vip.held]:
        message = f"{serving.primary} does not hold {', '.join(missing)}"
        return AVAILABLE, "False", "VirtualIPNotHeld", message
    if not primary.application.ready:
        phase = primary.application.detail or primary.application.phase or "not started"
        return (
            AVAILABLE,
            "False",
            "ApplicationNotReady",
            f"the application on {serving.primary} is not ready: {phase}",
        )
    return AVAILABLE, "True", "ApplicationReady", f"the application is ready on {serving.primary}"


def _in_sync(sync: str) -> Condition:
    word, _, percent = sync.partition(" ")
    messages = {
        "InSync": "both nodes hold every acknowledged write",
        "Syncing": f"the secondary is catching up{f', {percent} done' if percent else ''}",
        "OutOfSync": "only one node holds the newest data",
        "Unknown": "nobody who knows can be asked",
    }
    status = {"InSync": "True", "Unknown": "Unknown"}.get(word, "False")
    return IN_SYNC, status, word, messages[word]


def _degraded(facts: Facts, serving: Serving, sync: str) -> Condition:
    for reason, message in _degradations(facts, serving, sync):
        return DEGRADED, "True", reason, message
    return DEGRADED, "False", "AsExpected", "either node may fail without loss"


def _degradations(facts: Facts, serving: Serving, sync: str) -> Iterator[tuple[str, str]]:
    """Reason and message of everything that takes redundancy away, the worst first."""
    reports = facts.reports
    if len(serving.rivals) > 1:
        yield "TwoPrimaries", f"{' and '.join(serving.rivals)} both serve: the nodes do not hear each other"
    for report in reports:
        if report.current is not None and report.current.reason_code == "SplitBrain":
            yield "SplitBrain", f"{report.node}: {report.current.reason}"
    if serving.primary is None and all(report.reachable for report in reports):
        yield "NoPrimary", describe_roles(reports)
    if any(not report.reachable for report in reports):
        yield "SidecarUnreachable", describe_silence(reports, facts.pod_problems)
    if serving.primary is None:
        yield "NoPrimary", describe_roles(reports)
    for report in reports:
        if report.current is not None and report.node != serving.primary and report.current.role == "Waiting":
            yield report.current.reason_code or "Waiting", f"{report.node}: {report.current.reason}"
    if serving.role == "Alone":
        yield "Alone", f"{serving.primary} serves without its peer"
    if sync.startswith("Syncing"):
        yield "Syncing", "the secondary is catching up and cannot take over yet"
    if sync != "InSync":
        yield sync, "the secondary cannot take over"
    yield from _tree_degradation(facts)
    if failover_is_held(facts):
        yield "FailoverHeld", "an administrator holds failover: no node takes over unasked, until resume"


def _tree_degradation(facts: Facts) -> Iterator[tuple[str, str]]:
    verification = find_verification(facts.reports)
    if verification is not None and verification.found > verification.repaired:
        first = verification.differences[0] if verification.differences else pb.Difference()
        yield (
            "TreesDiffer",
            f"a comparison found {verification.found} differences, the first {describe_difference(first)}: "
            "`kubectl twinhull verify` shows all",
        )
