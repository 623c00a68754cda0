"""Administrator's orders: taken or refused with the reason, and answered when their outcome is known."""

from __future__ import annotations

from twinhull_sidecar.role.application import forgive
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import Action, Answer, HandOver, Observation, Order, Phase, State


def take(state: State, seen: Observation) -> tuple[State, list[Answer]]:
    """Take note of new orders."""
    answers: list[Answer] = []
    for order in seen.orders:
        state, answer = _TAKERS[order.action](Facts(state, seen), order)
        answers.append(answer)
    return state, answers


def _failed(order: Order, why: str) -> Answer:
    return Answer(order.id, "failed", why)


def _running(order: Order, what: str) -> Answer:
    return Answer(order.id, "running", what)


def _switchover(facts: Facts, order: Order) -> tuple[State, Answer]:
    state, peer = facts.state, facts.settings.peer
    if not state.serving:
        return state, _elsewhere(state, order)
    if state.hand_over is not None:
        return state, _failed(order, f"A hand-over to {peer} is already under way")
    if state.fenced_at is not None:
        return state, _failed(
            order, "This node woke up from a freeze and is not sure yet that it still serves"
        )
    blocked = facts.can_hand_over
    if blocked:
        return state, _failed(order, f"Cannot switch over: {blocked}")
    state = state.having(hand_over=HandOver(facts.now, "Ordered", order.id))
    return state, _running(order, f"Handing over to {peer}")


def _elsewhere(state: State, order: Order) -> Answer:
    return _failed(order, f"This node is {state.role.value}: order {order.action} on the primary's node")


def _start(facts: Facts, order: Order) -> tuple[State, Answer]:
    state = forgive(facts.state)
    known = state.wished
    state = wish(state, intent=known.intent + 1, stopped=False)
    return state, Answer(order.id, "done", "The module shall run")


def _stop(facts: Facts, order: Order) -> tuple[State, Answer]:
    known = facts.state.wished
    if known.stopped:
        return facts.state, Answer(order.id, "done", "The module is stopped already")
    return wish(facts.state, intent=known.intent + 1, stopped=True), Answer(
        order.id, "done", "The module shall stop"
    )


def _hold(facts: Facts, order: Order) -> tuple[State, Answer]:
    known = facts.state.wished
    if known.held:
        return facts.state, Answer(order.id, "done", "Failover is held already")
    return wish(facts.state, intent=known.intent + 1, held=True), Answer(
        order.id, "done", "No automatic failover until resume is ordered"
    )


def _resume(facts: Facts, order: Order) -> tuple[State, Answer]:
    known = facts.state.wished
    if not known.held:
        return facts.state, Answer(order.id, "done", "Failover is not held")
    return wish(facts.state, intent=known.intent + 1, held=False), Answer(
        order.id, "done", "Automatic failover again"
    )


def _restart(facts: Facts, order: Order) -> tuple[State, Answer]:
    state, seen = forgive(facts.state), facts.seen
    if not state.serving:
        return facts.state, _elsewhere(state, order)
    state = state.having(restart_order=order.id, restart_epoch=max(state.epoch, seen.workload.epoch))
    return state, _running(order, "Restarting the application")


def _resync(facts: Facts, order: Order) -> tuple[State, Answer]:
    state, peer = facts.state, facts.settings.peer
    if not state.serving:
        return state, _elsewhere(state, order)
    if not facts.seen.engine.connected:
        return state, _failed(order, f"{peer} is not connected")
    return state.having(resync_order=order.id), Answer(order.id, "done", f"Comparing everything with {peer}")


def _verify(facts: Facts, order: Order) -> tuple[State, Answer]:
    state, peer, engine = facts.state, facts.settings.peer, facts.seen.engine
    if not state.serving:
        return state, _elsewhere(state, order)
    if not engine.in_sync:
        return state, _failed(order, f"{peer} is not in sync: there is nothing to compare with yet")
    if engine.verifying or state.verify is not None:
        return state, _failed(order, "A comparison is under way already")
    return state.having(verify=order.action), Answer(
        order.id, "done", f"Comparing with {peer}; the status shows how far it is and what differs"
    )


def _force(facts: Facts, order: Order) -> tuple[State, Answer]:  # noqa: PLR0911 (a table: one return per row)
    state, settings, message, seen = facts.state, facts.settings, facts.message, facts.seen
    peer = settings.peer
    known = message.generation if message is not None else state.persisted.split_brain
    diverged = facts.relation is Relation.DIVERGED or (
        message is None and state.persisted.split_brain is not None
    )
    if order.discard_peer and diverged and known:
        state = wish(state, overrides=known, split_brain=None)
        if not state.serving:
            state = state.having(forced=order.id)
            return state, _running(
                order, f"This node's data stays, what only {peer} has goes to quarantine there"
            )
        return state, Answer(
            order.id, "done", f"This node's data stays, what only {peer} has goes to quarantine there"
        )
    if state.serving:
        return state, _failed(order, "This node serves already")
    if message is not None and (message.serving or message.claiming):
        hint = "; add discard-peer to choose this node's data" if diverged else ""
        return state, _failed(order, f"{peer} serves{hint}")
    if facts.relation is Relation.BEHIND:
        return state, _failed(order, f"{peer} is heard and holds newer data: it starts by itself")
    if facts.basis is not None and not facts.silent and not facts.failover_is_held:
        return state, _failed(order, f"{peer} is heard: order switchover on it")
    intent = state.wished.intent + 1
    state = wish(forgive(state), intent=intent, stopped=False, split_brain=None)
    note = "" if seen.record.consistent else "; its data is from the middle of a resynchronisation"
    return state.having(forced=order.id), _running(order, f"Starting alone by order{note}")


_TAKERS = {
    Action.SWITCHOVER: _switchover,
    Action.START: _start,
    Action.STOP: _stop,
    Action.RESTART: _restart,
    Action.RESYNC: _resync,
    Action.FORCE_PRIMARY: _force,
    Action.HOLD: _hold,
    Action.RESUME: _resume,
    Action.VERIFY: _verify,
    Action.REPAIR: _verify,
}


def settle(before: State, state: State, seen: Observation) -> tuple[State, list[Answer]]:
    """Answer the orders whose outcome shows in the step from ``before`` to ``state``."""
    answers: list[Answer] = []
    facts, settings = Facts(state, seen), state.settings
    ordered = before.hand_over.order if before.hand_over is not None else None
    over = state.hand_over is None and state.switching != ordered
    if ordered is not None and over:
        why = before.hand_over.failed if before.hand_over is not None else ""
        answers.append(
            Answer(ordered, "failed", f"The hand-over failed: {why or 'this node had to stop serving'}")
        )
    switching = state.switching
    if switching is not None:
        if facts.message is not None and facts.message.serving:
            answers.append(Answer(switching, "done", f"{settings.peer} serves"))
            state = state.having(switching=None)
        elif state.serving or facts.now - state.gave_at > 4 * settings.detection_timeout:
            answers.append(Answer(switching, "failed", f"{settings.peer} did not take over"))
            state = state.having(switching=None)
    forced, restart = state.forced, state.restart_order
    if forced is not None:
        if state.serving:
            answers.append(Answer(forced, "done", f"{settings.node} serves alone"))
            state = state.having(forced=None)
        elif facts.message is not None and facts.message.serving and facts.relation is not Relation.DIVERGED:
            answers.append(Answer(forced, "failed", f"{settings.peer} serves"))
            state = state.having(forced=None)
        elif facts.relation is Relation.BEHIND:
            why = f"{settings.peer} is heard and holds newer data: it starts by itself"
            answers.append(Answer(forced, "failed", why))
            # A promotion decided by the order goes no further than its next check.
            state = state.having(forced=None, claim_since=None, ask=None)
    if restart is not None:
        running = seen.workload.phase in (Phase.STARTING, Phase.RUNNING)
        if running and seen.workload.epoch > state.restart_epoch:
            answers.append(Answer(restart, "done", "The application was restarted"))
            state = state.having(restart_order=None)
    elif before.restart_order is not None:
        answers.append(Answer(before.restart_order, "failed", "This node had to stop serving"))
    return state, answers
