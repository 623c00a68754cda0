"""The unasked return to the preferred node (``spec.failback: Automatic``): one orderly switchover, nothing at risk.

It never leaves a node that could not be left by order: the same test as for an administrator's switchover has to hold,
without a break, for ``failback_after`` seconds.
"""

from __future__ import annotations

from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import HandOver, Phase, State


def note(facts: Facts) -> State:
    """Remember since when the preferred node could take over; a hand-over that failed begins the wait anew."""
    state, settings = facts.state, facts.settings
    away = settings.failback == "Automatic" and settings.preferred_node == settings.peer
    if not away or state.hand_over is not None or facts.can_hand_over or facts.peer_is_unfit:
        return state.having(fit_since=None)
    return state if state.fit_since is not None else state.having(fit_since=facts.now)


def go_home(facts: Facts) -> Course | None:
    """The course of returning to the preferred node; None: not now, or not at all."""
    state, settings, seen = facts.state, facts.settings, facts.seen
    fit_for = 0.0 if state.fit_since is None else facts.now - state.fit_since
    if state.fit_since is None or fit_for < settings.failback_after:
        return None
    # A held failover means: nothing moves unless somebody asks for it.
    if state.persisted.held or not seen.failback_window or seen.busy is not None:
        return None
    if settings.has_application and seen.workload.phase is not Phase.RUNNING:
        return None
    state = state.having(hand_over=HandOver(facts.now, "Failback"))
    why = f"Returning to {settings.peer}, the preferred node: it has been in sync for {fit_for:.0f} s"
    return Course(state, Aim.CLOSE, why, "FailingBack")
