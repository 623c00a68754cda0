"""Acknowledging ends when the peer may have taken over unheard, and begins again on its word only (DESIGN.md R1).

A peer that has not heard this node for the detection timeout may serve. Its acknowledgements from before can still be
on their way: they shall complete nothing here while it acknowledges there. So the write lease of a primary that is not
alone never runs past the last sign of life and the detection timeout. Once it has ended, what comes on the stream may
be old and proves nothing: the peer must say that it does not serve, in a heartbeat that answers one which this node
sent after that.
"""

from __future__ import annotations

from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import Observation, RenewLease, State


def note(state: State, seen: Observation) -> State:
    """The state after noticing that the write lease has ended, or that the peer's word has come."""
    if not state.serving or seen.engine.alone:
        return state.having(writes_until=None, doubted_since=None)
    if state.doubted_since is None:
        ended = state.writes_until is not None and state.writes_until <= seen.now
        return state.having(doubted_since=seen.now) if ended else state
    return state.having(writes_until=None, doubted_since=None) if _denied(Facts(state, seen)) else state


def _denied(facts: Facts) -> bool:
    """The peer has said, after the doubt arose, that it neither serves nor is about to."""
    message, peer, since = facts.message, facts.seen.peer, facts.state.doubted_since
    if message is None or peer is None or since is None:
        return False
    return peer.acknowledged_at >= since and not (message.serving or message.claiming)


def renewal(facts: Facts) -> tuple[State, RenewLease]:
    """The lease of a node that serves now."""
    state, seen = facts.state, facts.seen
    until = seen.now + state.settings.lease
    if seen.engine.alone:
        return state.having(writes_until=None), RenewLease(until)
    if state.doubted_since is not None:
        return state, RenewLease(until, writes_until=state.writes_until)
    known = facts.known_to_hear + state.settings.detection_timeout
    # Never back: the engine's lease does not move back either.
    ends = max(min(until, known), state.writes_until or 0.0)
    return state.having(writes_until=ends), RenewLease(until, writes_until=None if ends == until else ends)
