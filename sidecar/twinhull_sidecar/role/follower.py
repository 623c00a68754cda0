"""A node that does not hold the right to serve: waiting, syncing, secondary, or about to be promoted."""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role import ending, permission, promotion, startup
from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import PeerMessage, State


def follow(facts: Facts) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """What a node that does not serve does now."""
    state, message = facts.state, facts.message
    if state.promotion is not None:
        return promotion.proceed(facts)
    if state.leaving_since is not None:
        return ending.leave(facts)
    if state.persisted.stopped:
        return ending.stopped(facts)
    if message is None:
        if facts.basis is not None and state.forced is None:
            return promotion.watch(_withdrawn(facts))
        return startup.unheard(facts)
    course = _under(facts, message) if message.serving else startup.neither(facts, message)
    if course.state.promotion is not None or course.asks:
        return course
    # With the peer there is a better way to agree than by votes, and it may need one.
    return replace(course, asks=permission.give_back(facts))


def _withdrawn(facts: Facts) -> Facts:
    return Facts(facts.state.having(claim_since=None), facts.seen)


def _under(facts: Facts, message: PeerMessage) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """The peer serves: follow it, unless this node's data must not be overwritten."""
    state, seen, settings = facts.state, facts.seen, facts.settings
    record, peer, relation = seen.record, settings.peer, facts.relation
    if record.fresh and record.has_data and settings.adopt_from != peer:
        why = (
            f"Waiting: this node holds files but no generation record while {peer} serves; "
            f"set spec.adoptFrom to {peer} to replace them"
        )
        return startup.hold(state, Aim.CLEAR, why, "FilesWithoutRecord")
    if relation is Relation.DIVERGED:
        return _diverged(facts, message)
    if relation is Relation.AHEAD and facts.usable and not seen.engine.connected:
        return startup.claim(facts, f"{peer} serves older data than this node holds", "NewerData", alone=True)
    if facts.basis is not None and promotion.looming(facts):
        return promotion.watch(facts)
    if facts.basis is not None:
        return startup.hold(
            _settled(state), Aim.FOLLOW, f"Secondary: in sync with {peer}", "InSync", waiting=False
        )
    if seen.engine.error is not None:
        return startup.hold(
            state, Aim.FOLLOW, f"Cannot follow {peer}: {seen.engine.error}", "CannotFollow", waiting=False
        )
    if seen.engine.connected:
        return startup.hold(
            state, Aim.FOLLOW, f"Resynchronising from {peer}", "Resynchronising", waiting=False
        )
    return startup.hold(
        state, Aim.FOLLOW, f"Waiting for the replication stream of {peer}", "Connecting", waiting=False
    )


def _diverged(facts: Facts, message: PeerMessage) -> Course:
    state, settings, record = facts.state, facts.settings, facts.seen.record
    peer = settings.peer
    if message.overrides is not None and message.overrides == record.generation:
        state = wish(state, split_brain=None, overrides=None)
        why = f"An administrator chose {peer}: this node's data goes to quarantine where it differs"
        return startup.hold(state, Aim.FOLLOW, why, "Overruled", waiting=False)
    if state.persisted.overrides == message.generation:
        return startup.claim(
            facts, f"An administrator chose {settings.node} over {peer}", "SplitBrainDecided", alone=True
        )
    state = wish(state, split_brain=message.generation)
    why = (
        f"Split brain: this node and {peer} both ran alone. {peer} serves, this node's data is untouched. "
        "Order force-primary with discard-peer on the node whose data shall stay"
    )
    return startup.hold(state, Aim.CLEAR, why, "SplitBrain")


def _settled(state: State) -> State:
    known = state.wished
    if known.split_brain is not None or known.overrides is not None:
        return wish(state, split_brain=None, overrides=None)
    return state
