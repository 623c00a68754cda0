"""The role decision of one node: a pure function, called at every event and at least each tenth of a second.

``decide(state, observation)`` compares what is wanted with what is and emits the next effects; the caller carries them
out, passes the new state and the effects' outcomes to the next call, and publishes the message as heartbeat. Contract
of the caller:

- ``observation.now`` is taken before anything else is gathered;
- fast effects run at once and in order, before the message is published; at most one slow effect runs at a time;
- an effect is not begun when more than half a lease has passed since ``observation.now`` (the process stood still: the
  next call will notice): its outcome is then a failure;
- a restarted process begins with a new state; only ``Persisted`` and the engine's record survive.
"""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role import doubt, orders, undo
from twinhull_sidecar.role.course import Aim, Course, steps
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.follower import follow
from twinhull_sidecar.role.memory import absorb
from twinhull_sidecar.role.model import (
    FAST,
    Decision,
    Effect,
    Observation,
    Persist,
    Persisted,
    Role,
    Settings,
    State,
    StopSecondary,
)
from twinhull_sidecar.role.primary import serve
from twinhull_sidecar.role.speech import compose


def begin(settings: Settings, now: float, persisted: Persisted) -> State:
    """The state of a process that starts now."""
    return State(settings=settings, started_at=now, persisted=persisted)


def decide(state: State, seen: Observation) -> Decision:
    """What to do now, and why."""
    before = state
    state, answers = orders.take(doubt.note(absorb(state, seen), seen), seen)
    state = _mounted(state, seen)
    facts = Facts(state, seen)
    course = serve(facts) if state.serving else follow(facts)
    state, more = orders.settle(before, course.state, seen)
    role = _role(course, Facts(state, seen))
    state = undo.follow_up(state, course, seen)
    stuck = undo.stuck(state, seen)
    reason = course.reason if not state.trouble else f"{course.reason} ({state.trouble})"
    reason = f"{stuck}. {reason}" if stuck else reason
    state = state.having(role=role)
    effects = _effects(replace(course, state=state), seen)
    if _renews(course, state, seen):
        state, renewal = doubt.renewal(Facts(state, seen))
        effects = (renewal, *effects)
    if effects and isinstance(effects[-1], StopSecondary):
        state = state.having(kept=Facts(state, seen).ground)
    message = compose(Facts(state, seen), role, reason)
    return Decision(state, role, effects, message, reason, course.code, (*answers, *more), stuck)


def _mounted(state: State, seen: Observation) -> State:
    """The promotion is complete when the engine says so."""
    if state.promotion is None or seen.engine.mode != "primary":
        return state
    return state.having(
        serving=True, serving_since=seen.now, promotion=None, claim_since=None, ask=None, gave_token=None
    )


def _renews(course: Course, state: State, seen: Observation) -> bool:
    return state.serving and course.aim in (Aim.SERVE, Aim.CLOSE) and seen.engine.mode == "primary"


def _effects(course: Course, seen: Observation) -> tuple[Effect, ...]:
    state = course.state
    effects = steps(course, seen)
    slow_is_free = seen.busy is None and all(isinstance(effect, FAST) for effect in effects)
    if state.to_persist is not None and slow_is_free and seen.now >= state.retry_at:
        effects = (*effects, Persist(state.to_persist))
    return effects


def _role(course: Course, facts: Facts) -> Role:
    state, seen = course.state, facts.seen
    if state.serving:
        return (
            Role.ALONE
            if seen.record.alone and not (seen.engine.connected and seen.engine.syncing)
            else Role.PRIMARY
        )
    if state.persisted.stopped and seen.engine.mode == "idle":
        return Role.STOPPED
    if course.waiting or course.aim not in (Aim.FOLLOW, Aim.SERVE):
        return Role.WAITING
    return Role.SECONDARY if facts.basis is not None else Role.SYNCING
