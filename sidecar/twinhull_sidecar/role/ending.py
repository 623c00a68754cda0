"""Orderly ends: hand-over to the peer, the module's stop, this node's leave (DESIGN.md R7, section 7)."""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import HandOver, Observation, State

#: Seconds a leaving node waits for the peer to take note.
LAST_WORD = 1.0


def of_primary(facts: Facts) -> Course | None:
    """A serving node that hands over, stops or leaves; None: it does none of these."""
    state, peer = facts.state, facts.settings.peer
    if state.hand_over is not None:
        return _hand_over(facts, state.hand_over)
    if state.leaving_since is not None:
        blocked = facts.can_hand_over
        if not blocked and not state.persisted.stopped:
            state = state.having(hand_over=HandOver(facts.now, "Leaving"))
            return Course(state, Aim.CLOSE, f"This node leaves: handing over to {peer}", "HandingOver")
        return _closing(
            state,
            facts.seen,
            f"This node leaves and cannot hand over: {blocked or 'the module is stopped'}",
            "Leaving",
        )
    if state.persisted.stopped:
        why = (
            f"Stopping the module: {state.stop_cause}" if state.stop_cause else "Stopping the module by order"
        )
        return _closing(state, facts.seen, why, "Stopping")
    return None


def _closing(state: State, seen: Observation, reason: str, code: str) -> Course:
    if seen.engine.mode == "idle" and not seen.vip_held and seen.busy is None:
        # Promoted but not yet mounted, or the engine fell back by itself: there is nothing to drain.
        state = state.having(serving=False, promotion=None)
    return Course(state, Aim.CLOSE, reason, code)


def _hand_over(facts: Facts, hand_over: HandOver) -> Course:
    state, seen, peer = facts.state, facts.seen, facts.settings.peer
    if hand_over.failed:
        state = state.having(hand_over=None)
        why = f"The hand-over to {peer} failed ({hand_over.failed}): serving on"
        return Course(state, Aim.SERVE, why, "HandOverFailed", alone=seen.record.alone)
    still_whole = seen.engine.mode == "primary" and seen.busy is None
    lost = facts.silent or not (seen.engine.connected and seen.engine.in_sync)
    if still_whole and lost and state.leaving_since is None:
        return _hand_over(facts, replace(hand_over, failed=f"{peer} was lost on the way"))
    return Course(state, Aim.CLOSE, f"Handing over to {peer} ({hand_over.cause})", "HandingOver")


def leave(facts: Facts) -> Course:
    """A node that does not serve (any more) and ends: the peer shall know before the process is gone."""
    state, seen, settings, message = facts.state, facts.seen, facts.settings, facts.message
    since = state.leaving_since if state.leaving_since is not None else facts.now
    if seen.engine.mode != "idle" or seen.vip_held or seen.busy is not None:
        return Course(state, Aim.CLOSE, "This node leaves", "Leaving")
    if state.ask is None or not state.ask.startswith("leave"):
        state = state.having(
            ask=f"leave-{facts.now:.6f}", claim_since=None, promotion=None, leaving_since=facts.now
        )
        return Course(state, Aim.CLOSE, "This node leaves: telling the peer", "Leaving")
    took_over = message is None or message.serving or state.persisted.stopped or state.gave_token is None
    waited = facts.now - since
    known = facts.peer_took_note and took_over
    patience = LAST_WORD if took_over else 2 * settings.detection_timeout
    if known or waited >= patience:
        return Course(state, Aim.EXIT, "This node left in order", "Left")
    return Course(state, Aim.CLOSE, f"This node leaves: waiting for {settings.peer} to take note", "Leaving")


def stopped(facts: Facts) -> Course:
    """The module shall not run: follow the primary until it has stopped, then be idle."""
    state, peer = facts.state.having(claim_since=None, promotion=None), facts.settings.peer
    if facts.message is not None and facts.message.serving:
        return Course(
            state, Aim.FOLLOW, f"Stopping the module by order: waiting for {peer} to stop first", "Stopping"
        )
    if state.stop_cause:
        why = f"Stopped: {state.stop_cause}; order start to run the module again"
        return Course(state, Aim.CLOSE, why, "CheckerStops")
    return Course(state, Aim.CLOSE, "Stopped by order; order start to run the module again", "Stopped")
