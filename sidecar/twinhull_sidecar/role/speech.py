"""What a node says about itself in its heartbeats."""

from __future__ import annotations

from twinhull_sidecar.role.complaint import of_node
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import PeerMessage, Role
from twinhull_sidecar.role.verdict import Side

#: A heartbeat is one datagram.
_LONGEST_DETAIL = 300


def compose(facts: Facts, role: Role, reason: str) -> PeerMessage:
    """The message to publish after this decision."""
    state, seen, settings = facts.state, facts.seen, facts.settings
    record, engine = seen.record, seen.engine
    handing = state.gave_token is not None and facts.now - state.gave_at < 2 * settings.detection_timeout
    return PeerMessage(
        node=settings.node,
        uid=settings.uid,
        role=role.value,
        reason=reason,
        fresh=record.fresh,
        has_data=record.has_data,
        generation=record.generation,
        history=record.history[:8],
        alone=record.alone,
        consistent=record.consistent,
        last_role=record.last_role,
        token=record.token,
        # An end of stream that led to going alone is over: its name must not vouch for the secondary any more.
        stream=engine.stream if engine.connected or not record.alone else None,
        # Not before the address is off: the peer takes over as soon as this says False.
        serving=state.serving or (engine.mode == "primary" and seen.vip_held),
        claiming=state.claim_since is not None or state.promotion is not None,
        forced=state.forced is not None,
        in_sync=facts.basis is not None and state.leaving_since is None,
        fenced=state.fenced_at is not None,
        ask=state.ask,
        heard_ask=_heard_ask(facts),
        dropping=state.dropping,
        dropped=state.dropped,
        handed_over=state.gave_token if handing and not state.serving and state.claim_since is None else None,
        leaving=state.leaving_since is not None and not state.serving and engine.mode == "idle",
        app_failed=state.app_failed,
        unfit=_unfit(facts),
        split_brain=state.persisted.split_brain is not None,
        favourite=settings.favourite,
        overrides=state.persisted.overrides,
        intent=state.persisted.intent,
        stopped=state.persisted.stopped,
        held=state.persisted.held,
        detection_timeout=settings.detection_timeout,
        lease=settings.timing.longest_lease,
        process=state.process,
        heard_process=seen.peer.message.process if seen.peer is not None else None,
    )


def _heard_ask(facts: Facts) -> str | None:
    """The echo of a claim is a consent, so it is given only when the consent has been noted."""
    message = facts.message
    if message is None or message.ask is None:
        return None
    return message.ask if not message.claiming or message.ask == facts.state.consented else None


def _unfit(facts: Facts) -> str | None:
    found = of_node(facts.seen.complaints)
    return (
        None if found is None else f"checker {found.checker} failed there ({found.detail})"[:_LONGEST_DETAIL]
    )


def own_side(facts: Facts) -> Side:
    """This node as the verdict sees it; equal to what the peer reads from :func:`compose`."""
    state, record = facts.state, facts.seen.record
    return Side(
        node=facts.settings.node,
        fresh=record.fresh,
        has_data=record.has_data,
        generation=record.generation,
        history=record.history[:8],
        alone=record.alone,
        consistent=record.consistent,
        last_role=record.last_role,
        token=record.token,
        promotable=facts.basis is not None and state.leaving_since is None,
        app_failed=state.app_failed,
        overrides=state.persisted.overrides,
    )


def peer_side(facts: Facts, message: PeerMessage) -> Side:
    """The peer as the verdict sees it."""
    return Side(
        node=facts.settings.peer,
        fresh=message.fresh,
        has_data=message.has_data,
        generation=message.generation,
        history=message.history,
        alone=message.alone,
        consistent=message.consistent,
        last_role=message.last_role,
        token=message.token,
        promotable=message.in_sync,
        app_failed=message.app_failed,
        overrides=message.overrides,
    )
