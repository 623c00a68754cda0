"""The orders of a FarmModule, and what each does to its clients. Pure."""

from __future__ import annotations

from twinhull_operator.console.plan import Plan, Situation
from twinhull_operator.report import UP


def farm_plans(situation: Situation) -> list[Plan]:
    """In the order in which they are shown."""
    plans = []
    for node in situation.module.node_names:
        status = situation.current(node)
        draining = status is not None and status.farm.draining
        plans.append(_resume(situation, node) if draining else _drain(situation, node))
        plans.append(_restart(situation, node))
    plans.append(_start(situation) if _stopped(situation) else _stop(situation))
    return plans


def _stopped(situation: Situation) -> bool:
    return any(situation.role(node) == "Stopped" for node in situation.module.node_names)


def _silent(situation: Situation, node: str) -> str:
    """Why a node cannot be given an order that is its own."""
    if situation.current(node) is None:
        return f"The sidecar on {node} does not answer the operator."
    return f"The application on {node} is stopped." if situation.role(node) == "Stopped" else ""


def _rest(situation: Situation, node: str) -> str:
    """What happens to new clients while this node takes none."""
    other = situation.other(node)
    role = situation.role(other)
    if role == UP:
        return f"New clients go to {other}."
    return f"NOBODY takes new clients meanwhile: {other} is {role or 'silent'}."


def _drain(situation: Situation, node: str) -> Plan:
    alone = situation.role(situation.other(node)) != UP
    return Plan(
        "drain",
        f"Drain {node}",
        node=node,
        asked=node,
        refusal=_silent(situation, node),
        danger="interrupts" if alone else "calm",
        effects=(
            f"{node} takes no new clients until somebody resumes it. Its connections go on until they end.",
            _rest(situation, node),
        ),
    )


def _resume(situation: Situation, node: str) -> Plan:
    return Plan(
        "resume",
        f"Resume {node}",
        node=node,
        asked=node,
        refusal=_silent(situation, node),
        effects=(
            f"{node} takes its share of new clients again as soon as its application is ready.",
            "Connections that the other node has stay there.",
        ),
    )


def _restart(situation: Situation, node: str) -> Plan:
    return Plan(
        "restart",
        f"Restart {node}",
        node=node,
        asked=node,
        refusal=_silent(situation, node),
        danger="interrupts",
        effects=(
            f"The application on {node} stops and starts again. Clients connected to {node} are cut off; "
            "drain it first to let them end.",
            _rest(situation, node),
        ),
    )


def _stop(situation: Situation) -> Plan:
    return Plan(
        "stop",
        "Stop",
        asked=next(iter(situation.answering), ""),
        danger="interrupts",
        effects=(
            "The application stops on both nodes and stays stopped until somebody starts it.",
            "All clients are cut off and get no answer until then.",
        ),
    )


def _start(situation: Situation) -> Plan:
    return Plan(
        "start",
        "Start",
        asked=next(iter(situation.answering), ""),
        effects=(
            "The application starts on both nodes. Clients are served as soon as one of them is ready.",
        ),
    )
