"""This node serves and hears that the peer serves too, or is about to: who yields (DESIGN.md R6)."""

from __future__ import annotations

from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import PeerMessage, State


def settle(facts: Facts, message: PeerMessage) -> Course | None:  # noqa: PLR0911 (a table: one return per row)
    """The course of yielding; None: this node stays, the peer yields by the same rules."""
    state, record, settings = facts.state, facts.seen.record, facts.settings
    peer, me, relation = settings.peer, settings.node, facts.relation
    if message.overrides is not None and message.overrides == record.generation:
        return give_up(
            state,
            f"An administrator chose {peer}: this node's data goes to quarantine there where it differs",
            "Overruled",
        )
    if relation is Relation.DIVERGED:
        if state.persisted.overrides == message.generation or not message.serving or facts.favourite == me:
            return None
        state = wish(state, split_brain=message.generation)
        why = (
            f"Split brain: {me} and {peer} both ran alone. {peer} is preferred and goes on, this node has stopped; "
            f"its data is untouched. Order force-primary with discard-peer on the node whose data shall stay"
        )
        return give_up(state, why, "SplitBrain")
    if relation is Relation.AHEAD:
        return None
    if relation is Relation.BEHIND:
        return give_up(state, f"{peer} holds newer data and takes over", "PeerIsAhead")
    if message.alone != record.alone:
        loses = message.alone
    elif not message.serving:
        # A secondary that lost sight of this node promotes itself. It was in sync and cannot acknowledge for us any
        # more, and this node has acknowledged nothing alone: its promotion is as good as done.
        loses = message.in_sync and not record.alone
    else:
        loses = facts.favourite != me
    if not loses:
        return None
    return give_up(state, f"{peer} took over with the same data", "PeerTookOver")


def give_up(state: State, reason: str, code: str, *, aim: Aim = Aim.CLEAR) -> Course:
    """Stop serving at once: block writes, kill the application, withdraw the address, unmount."""
    stopped = state.having(
        serving=False,
        promotion=None,
        claim_since=None,
        hand_over=None,
        fenced_at=None,
        frozen_for=0.0,
        dropping=None,
        restart_order=None,
        closing=None,
        # Whatever this node's own record says of the peer, it is not the whole truth any more.
        outdated=True,
    )
    return Course(stopped, aim, reason, code)
