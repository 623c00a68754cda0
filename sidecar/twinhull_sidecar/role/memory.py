"""What a node takes note of before it decides: freezes, results of effects, promises, the module's desired state."""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role.complaint import of_application
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.model import (
    AllowDiscard,
    GoAlone,
    Observation,
    Outcome,
    PeerMessage,
    Persist,
    Persisted,
    Phase,
    Resync,
    StartApplication,
    State,
    StopPrimary,
    Verify,
)

_KEPT_DISTRUST = 16


def absorb(state: State, seen: Observation) -> State:
    """The state after taking note of ``seen``."""
    state = _notice_freeze(state, seen)
    for outcome in seen.outcomes:
        state = _outcome(state, seen, outcome)
    if seen.engine.mode == "primary" or (seen.engine.stream is not None and seen.engine.stream != state.kept):
        state = state.having(kept=None)
    state = _application(state, seen)
    facts = Facts(state, seen)
    if facts.message is not None:
        state = _hear(state, facts, facts.message)
    if seen.terminating and state.leaving_since is None:
        state = state.having(leaving_since=seen.now)
    return state


def wish(state: State, **changes: object) -> State:
    """Ask for a change of what is persisted, on top of changes that are not yet on disk."""
    base = state.wished
    changed = replace(base, **changes)  # type: ignore[arg-type]
    return state.having(to_persist=None if changed == state.persisted else changed)


def _notice_freeze(state: State, seen: Observation) -> State:
    """A late call means that the process, or the machine, stood still: leases may have run out, the peer may serve."""
    last, gap = state.last_tick, 0.0
    if last is not None:
        gap = seen.now - last
    state = state.having(last_tick=seen.now)
    if gap <= state.settings.lease / 2:
        return state
    state = state.having(woke_at=seen.now)
    if state.serving or state.promotion is not None:
        already = state.frozen_for if state.fenced_at is not None else 0.0
        state = state.having(fenced_at=seen.now, frozen_for=already + gap)
    return state


def _outcome(state: State, seen: Observation, outcome: Outcome) -> State:
    effect = outcome.effect
    if isinstance(effect, Persist) and outcome.ok:
        persisted: Persisted = effect.persisted
        pending = None if state.to_persist == persisted else state.to_persist
        return state.having(persisted=persisted, to_persist=pending)
    if isinstance(effect, StopPrimary):
        return _stopped_primary(state, seen, outcome)
    if isinstance(effect, Verify):
        # A comparison that could not begin is not tried again by itself, and keeps nothing else from being done.
        return state.having(verify=None)
    if not outcome.ok:
        promotion = state.promotion
        if promotion is not None and not promotion.by_silence:
            state = state.having(promotion=None, claim_since=None)
        trouble = f"{type(effect).__name__} failed: {outcome.message}"
        retry_at = seen.now + state.settings.lease
        return state.having(trouble=trouble, trouble_taken=outcome.taken, retry_at=retry_at)
    if isinstance(effect, StartApplication):
        state = state.having(epoch=max(state.epoch, effect.epoch))
    elif isinstance(effect, AllowDiscard):
        state = state.having(discard_allowed=effect.generation)
    elif isinstance(effect, GoAlone):
        state = state.having(dropping=None)
    elif isinstance(effect, Resync):
        state = state.having(resync_order=None)
    return state.having(trouble="", trouble_taken=())


def _stopped_primary(state: State, seen: Observation, outcome: Outcome) -> State:
    """The right to serve ends here, except where a hand-over went wrong and this node is to go on."""
    hand_over = state.hand_over
    if outcome.ok and outcome.clean and outcome.token is not None:
        switching = hand_over.order if hand_over is not None else None
        return state.having(
            serving=False,
            promotion=None,
            hand_over=None,
            closing=None,
            gave_token=outcome.token,
            gave_at=seen.now,
            switching=switching,
        )
    if hand_over is not None and state.leaving_since is None:
        why = outcome.message or f"{state.settings.peer} did not confirm that it holds everything"
        return state.having(hand_over=replace(hand_over, failed=why))
    return state.having(serving=False, promotion=None, hand_over=None, closing=None)


def _application(state: State, seen: Observation) -> State:
    """Count each epoch's failure once, within the window."""
    work, settings = seen.workload, state.settings
    complained = work.phase is Phase.RUNNING and of_application(seen.complaints, work.epoch) is not None
    if (
        not (work.phase is Phase.FAILED or complained)
        or work.epoch <= state.failed_epoch
        or state.leaving_since is not None
    ):
        return state
    recent = tuple(at for at in state.failures if seen.now - at < settings.restart_window)
    return state.having(failed_epoch=work.epoch, failures=(*recent, seen.now))


def _hear(state: State, facts: Facts, message: PeerMessage) -> State:
    known = state.wished
    if _newer_wish(state, known, message):
        started = known.stopped and not message.stopped
        state = wish(state, intent=message.intent, stopped=message.stopped, held=message.held)
        if message.held == known.held or started:
            state = state.having(app_failed=False, failures=(), left_at=None, stop_cause="")
    if state.serving or state.promotion is not None:
        return state
    if message.serving and state.gave_token is not None:
        state = state.having(gave_at=-1e9)  # it took over: nothing to wait for any more
    if message.serving and facts.relation in (Relation.SAME, Relation.BEHIND):
        state = state.having(outdated=True)
    if message.claiming and state.claim_since is None:
        state = state.having(outdated=True)
        if message.ask is not None and message.ask != state.consented:
            # The consent that the peer reads from our echo of its claim: what made this node fit until now does not
            # count any more. Only once a claim: a later stream with the new primary makes it fit again.
            state = _distrust(state, facts.ground).having(consented=message.ask)
    if message.dropping is not None:
        stream = facts.seen.engine.stream
        if not facts.seen.engine.connected or stream == message.dropping:
            state = _distrust(state, stream)
        state = _distrust(_distrust(state, message.dropping), facts.seen.record.token)
        state = state.having(dropped=message.dropping)
    return state


def _newer_wish(state: State, known: Persisted, message: PeerMessage) -> bool:
    """The peer knows a newer desired state; of two that are equally new the first node's holds on both."""
    if message.intent != known.intent:
        return message.intent > known.intent
    differs = (message.stopped, message.held) != (known.stopped, known.held)
    return differs and state.settings.node != state.settings.nodes[0]


def _distrust(state: State, stream: str | None) -> State:
    if stream is None or stream in state.distrusted:
        return state
    return state.having(distrusted=(*state.distrusted, stream)[-_KEPT_DISTRUST:])
