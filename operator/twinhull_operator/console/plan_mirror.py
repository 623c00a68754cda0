"""The orders of a MirrorModule, and what each does to its clients. Pure."""

from __future__ import annotations

from dataclasses import replace

from twinhull_operator.console.plan import Plan, Situation
from twinhull_operator.report import SERVING, find_verification

_CUT = (
    "Clients are cut off: their connections break, and new ones are not answered until the application is up."
)


def mirror_plans(situation: Situation) -> list[Plan]:
    """In the order in which they are shown."""
    status = situation.status
    primary = status.get("primary") if not status.get("primaryLastKnown") else None
    return [
        _switchover(situation, primary),
        _restart(situation, primary),
        _resync(situation, primary),
        _compare(situation, primary, repair=False),
        _compare(situation, primary, repair=True),
        *_stop_or_start(situation, primary),
        _hold_or_resume(situation),
        *(_force(situation, node, discard) for node in _forcible(situation) for discard in (False, True)),
    ]


def _asked(situation: Situation, node: str | None) -> str:
    """The node itself, or the other, which passes the order on."""
    answering = situation.answering
    return node if node in answering else next(iter(answering), "")


def _nobody(situation: Situation) -> str:
    stopped = situation.status.get("role") == "Stopped"
    return "The application is stopped." if stopped else "No node serves this module now."


def _switchover(situation: Situation, primary: str | None) -> Plan:
    if primary is None:
        return Plan("switchover", "Switch over", refusal=_nobody(situation))
    new = situation.other(primary)
    grace = situation.module.stop_grace
    plan = Plan(
        "switchover",
        f"Switch over to {new}",
        node=primary,
        asked=_asked(situation, primary),
        danger="interrupts",
        effects=(
            f"The application stops on {primary} and starts on {new}. It gets up to {grace} s to stop.",
            _CUT,
            *([f"{situation.addresses} moves to {new}."] if situation.addresses else []),
            "No acknowledged write is lost: both nodes hold every one.",
        ),
    )
    if situation.status.get("sync") != "InSync":
        return _refused(plan, f"{new} does not hold every acknowledged write, so it cannot take over.")
    if situation.role(new) != "Secondary":
        return _refused(
            plan, f"{new} is {situation.role(new) or 'silent'}, not Secondary: it cannot take over."
        )
    return plan


def _restart(situation: Situation, primary: str | None) -> Plan:
    if primary is None:
        return Plan("restart", "Restart", refusal=_nobody(situation))
    return Plan(
        "restart",
        "Restart",
        node=primary,
        asked=_asked(situation, primary),
        danger="interrupts",
        effects=(
            f"The application stops on {primary} and starts there again; the other node does not take over.",
            _CUT,
            f"It gets up to {situation.module.stop_grace} s to stop.",
        ),
    )


def _resync(situation: Situation, primary: str | None) -> Plan:
    if primary is None:
        return Plan("resync", "Resynchronise", refusal=_nobody(situation))
    other = situation.other(primary)
    plan = Plan(
        "resync",
        "Resynchronise",
        asked=_asked(situation, primary),
        effects=(
            f"Everything on {other} is compared with {primary}, and what differs is copied from {primary}.",
            "Clients go on being served; both disks and the link between the nodes are busy meanwhile.",
            f"Until it has ended {other} cannot take over: the module is not protected.",
        ),
    )
    status = situation.current(primary)
    if status is not None and not status.peer.heard:
        return _refused(plan, f"{primary} does not hear {other}.")
    return plan


def _compare(situation: Situation, primary: str | None, *, repair: bool) -> Plan:
    action, label = ("repair", "Verify and repair") if repair else ("verify", "Verify")
    if primary is None:
        return Plan(action, label, refusal=_nobody(situation))
    other = situation.other(primary)
    outcome = (
        (
            f"Where they differ, {other} gets what {primary} has. A checksum does not tell which of the two is right: "
            f"if it is {other}, switch over first.",
            "Where names differ a full resynchronisation follows, and until it has ended "
            f"{other} cannot take over.",
        )
        if repair
        else ("Nothing is changed. What differs is shown here, with its path and block.",)
    )
    plan = Plan(
        action,
        label,
        asked=_asked(situation, primary),
        effects=(
            f"Every file on {primary} is compared with {other}: names, attributes, and contents by checksum.",
            *outcome,
            "Clients go on being served; both disks and the link between the nodes are busy meanwhile.",
        ),
    )
    known = find_verification(situation.reports)
    if known is not None and known.running:
        return _refused(plan, "Both nodes' files are being compared already; see how far it is.")
    if situation.status.get("sync") != "InSync":
        return _refused(plan, f"{other} is not in sync: there is nothing to compare with yet.")
    return plan


def _stop_or_start(situation: Situation, primary: str | None) -> list[Plan]:
    stopped = any(situation.role(node) == "Stopped" for node in situation.module.node_names)
    if stopped and primary is None:
        return [
            Plan(
                "start",
                "Start",
                asked=_asked(situation, None),
                effects=(
                    "The stop ends: the nodes agree who holds the newest data, and the application starts there.",
                    "Clients are served again as soon as it is up.",
                ),
            )
        ]
    where = f" on {primary}" if primary else ""
    return [
        Plan(
            "stop",
            "Stop",
            asked=_asked(situation, primary),
            danger="interrupts",
            effects=(
                f"The application stops{where}, in order, and stays stopped until somebody starts it: "
                "neither node takes over.",
                "Clients get no answer until then.",
                "The data stays on both nodes.",
            ),
        )
    ]


def _hold_or_resume(situation: Situation) -> Plan:
    # A node that waits for just this is there, whatever the operator has not noticed of the other one yet.
    waiting = next(
        (
            r.node
            for r in situation.reports
            if r.current is not None and r.current.reason_code == "FailoverHeld"
        ),
        situation.status.get("primary"),
    )
    asked = _asked(situation, waiting)
    if situation.status.get("failoverHeld"):
        return Plan(
            "resume",
            "Resume failover",
            asked=asked,
            effects=(
                "Failover is automatic again: when the serving node dies, the other takes over by itself.",
                "Clients notice nothing. A node that has been waiting for the silent other one for longer than the "
                "detection timeout goes on waiting, because that one may have served alone meanwhile: force it.",
            ),
        )
    return Plan(
        "hold",
        "Hold failover",
        asked=asked,
        effects=(
            "Neither node takes over unasked until somebody resumes it: not when the serving node dies, nor when its "
            "application fails. The module is not protected meanwhile.",
            "Clients notice nothing now. Orders (switch over, force) go on to work; the data stays replicated.",
        ),
    )


def _forcible(situation: Situation) -> list[str]:
    """Nodes that could be made to serve although they do not know that their data is the newest."""
    return [
        report.node
        for report in situation.reports
        if report.current is not None
        and report.current.role in ("Waiting", "Syncing")
        and (situation.role(situation.other(report.node)) not in SERVING or _split(situation))
    ]


def _split(situation: Situation) -> bool:
    return any(r.current is not None and r.current.reason_code == "SplitBrain" for r in situation.reports)


def _force(situation: Situation, node: str, discard: bool) -> Plan:
    other, own = situation.other(node), situation.current(node)
    effects = [f"{node} serves with the data that it has, although it cannot know that it is the newest."]
    if own is not None and own.role == "Syncing":
        effects.append(
            f"{node} is in the MIDDLE OF A RESYNCHRONISATION: its files are a mixture of old and new."
        )
    role = situation.role(other)
    effects.append(f"{other} is {role} now." if role else f"{other} does not answer and is not heard.")
    lost = f"Acknowledged writes that only {other} has will not be there"
    if discard:
        effects.append(
            f"{lost}. They go to a quarantine folder on {other}: its data is replaced by {node}'s."
        )
    else:
        effects.append(f"{lost}. If {other} returns with such writes, the module is split until you choose.")
    return Plan(
        "force-primary",
        f"Force {node} to serve" + (f", discard {other}'s writes" if discard else ""),
        node=node,
        asked=node,
        discard_peer=discard,
        danger="loses",
        effects=tuple(effects),
        confirm=node,
    )


def _refused(plan: Plan, why: str) -> Plan:
    return replace(plan, refusal=why)
