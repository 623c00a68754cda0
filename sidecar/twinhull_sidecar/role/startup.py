"""Neither node serves, or the peer is not heard: who begins (DESIGN.md R2).

A node begins only with the peer's consent, or when it has never been able to ask and its durable record says that the
peer is outdated. To ask, it claims: its heartbeat carries ``claiming`` and a question; the peer's echo of that question
without a claim of its own is a promise not to begin while the claim stands.
"""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role import permission
from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import PeerMessage, State
from twinhull_sidecar.role.promotion import promote
from twinhull_sidecar.role.speech import own_side, peer_side
from twinhull_sidecar.role.verdict import verdict


def hold(
    state: State, aim: Aim, reason: str, code: str, *, waiting: bool = True, probe: bool = False
) -> Course:
    """Not beginning: an earlier claim is withdrawn."""
    if state.claim_since is not None:
        state = state.having(claim_since=None, ask=None)
    return Course(state, aim, reason, code, waiting=waiting, probe=probe)


def claim(facts: Facts, reason: str, code: str, *, alone: bool) -> Course:
    """Ask the peer to stay aside; begin once it has promised."""
    state, message, peer = facts.state, facts.message, facts.settings.peer
    if facts.now < state.retry_at:
        return hold(state, Aim.CLEAR, f"Cannot start: {state.trouble}", "StartFailed")
    if state.claim_since is None:
        state = state.having(claim_since=facts.now, ask=f"claim-{facts.now:.6f}")
        return Course(state, Aim.CLEAR, f"{reason}: asking {peer} to stay aside", "Claiming", waiting=True)
    if facts.peer_took_note and message is not None and not message.claiming and not message.serving:
        return promote(state, facts.now, alone=alone, reason=f"{reason}: starting", code=code)
    return Course(state, Aim.CLEAR, f"{reason}: waiting for {peer} to stay aside", "Claiming", waiting=True)


def neither(facts: Facts, message: PeerMessage) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """The peer is heard and does not serve."""
    state, settings, record = facts.state, facts.settings, facts.seen.record
    me, peer = settings.node, settings.peer
    if state.app_failed and message.app_failed and state.forced is None and not message.forced:
        # Before the token of the last orderly stop counts: it would send the role back and forth.
        both = "the application failed too often on both nodes; mend it and order start"
        return hold(state, Aim.CLEAR, f"Waiting: {both}", "ApplicationFailedOnBoth")
    if message.handed_over is not None and message.handed_over == record.token:
        if not facts.known_to_peer:
            return _introduce(facts, f"{peer} handed over")
        return promote(
            state,
            facts.now,
            alone=message.leaving,
            reason=f"{peer} handed over: taking over",
            code="HandedOver",
        )
    if state.forced is not None and (not message.forced or facts.favourite == me):
        return claim(facts, f"An administrator forced {me} to serve", "Forced", alone=True)
    if (
        state.gave_token is not None
        and facts.now - state.gave_at < 2 * settings.detection_timeout
        and not message.leaving
    ):
        return hold(state, Aim.FOLLOW, f"Handed over to {peer}: waiting for it to serve", "HandedOver")
    who = verdict(settings, own_side(facts), peer_side(facts, message))
    # Both may have a reason to start when their configurations differ: then the first node's claim stands.
    yields = state.claim_since is None or who.node != me or me != settings.nodes[0]
    if message.claiming and (message.forced or yields):
        aim = Aim.CLEAR if who.node == me else Aim.FOLLOW
        return hold(state, aim, f"{peer} is about to serve: staying aside", "PeerStarts")
    if who.node == me:
        at_once = (
            who.code == "PeerStopped" and facts.basis == facts.seen.engine.stream and not message.claiming
        )
        why = who.why[0].upper() + who.why[1:]
        if who.code == "PeerStopped" and facts.failover_is_held and state.forced is None:
            return hold(
                state, Aim.FOLLOW, f"{why}: not taking over. {facts.failover_is_held}", "FailoverHeld"
            )
        if at_once and not facts.known_to_peer:
            return _introduce(facts, why)
        if at_once and facts.now >= state.retry_at:
            return promote(state, facts.now, alone=True, reason=f"{why}: taking over", code=who.code)
        return claim(facts, why, who.code, alone=who.alone)
    if who.node is None:
        return hold(state, Aim.CLEAR, f"Waiting: {who.why}", who.code)
    if who.split:
        state = wish(state, split_brain=message.generation)
        return hold(state, Aim.CLEAR, f"Waiting: {who.why}", who.code)
    return hold(state.having(outdated=True), Aim.CLEAR, f"Waiting for {peer} to start: {who.why}", who.code)


def _introduce(facts: Facts, why: str) -> Course:
    reason = f"{why}: waiting for {facts.settings.peer} to hear this process"
    return hold(facts.state, Aim.FOLLOW, reason, "Introducing")


def unheard(facts: Facts) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """The peer says nothing usable and this node is not fit for promotion."""
    state, seen, settings = facts.state, facts.seen, facts.settings
    record, peer = seen.record, settings.peer
    keep = Aim.FOLLOW if seen.engine.mode == "secondary" else Aim.CLEAR
    if not facts.silent:
        if facts.never_heard:
            return hold(state, keep, f"Starting: listening for {peer}", "Starting")
        return hold(state, keep, f"Waiting for news from {peer}", "Listening")
    if state.forced is not None:
        why = f"An administrator forced {settings.node} to serve, {peer} is not heard: starting alone"
        course = promote(state, facts.now, alone=True, reason=why, code="Forced")
        return replace(course, asks=permission.request(facts, seize=True))
    if _may_start_unheard(facts):
        left = settings.startup_timeout - facts.silence
        if facts.never_heard and left > 0:
            why = (
                f"Starting: this node ran alone last, and waits {left:.0f} s more for {peer} (startupTimeout)"
            )
            return hold(state, keep, why, "Starting")
        return _solo(facts)
    silence = f"{peer} has not been heard for {facts.silence:.1f} s"
    silence = " ".join(filter(None, (permission.named_elsewhere(facts), silence)))
    advice = f"When {peer} is surely down and this data is the one to keep, order force-primary"
    if record.fresh:
        return hold(
            state,
            keep,
            f"Waiting: {silence}, and this node has no data of the module yet. {advice}",
            "PeerUnknown",
        )
    if state.persisted.split_brain is not None:
        return hold(
            state,
            keep,
            f"Waiting: {silence}, and this node lost a split brain against it. {advice}",
            "SplitBrain",
        )
    if not record.consistent:
        return hold(
            state,
            keep,
            f"Waiting: {silence}, and this node is in the middle of a resynchronisation. {advice}",
            "NoConsistentData",
        )
    return hold(
        state, keep, f"Waiting: {silence}, so it may hold newer data or be serving. {advice}", "PeerUnknown"
    )


def _may_start_unheard(facts: Facts) -> bool:
    """R2: only when the own durable record says that the peer is outdated, and nothing heard since contradicts."""
    state, record = facts.state, facts.seen.record
    return record.alone and not record.fresh and not state.outdated and state.persisted.split_brain is None


def _solo(facts: Facts) -> Course:
    state, seen, settings = facts.state, facts.seen, facts.settings
    why = f"{settings.peer} is not heard, and this node's record says that it ran alone last"
    if facts.now < state.retry_at:
        return hold(state, Aim.CLEAR, f"Cannot start: {state.trouble}", "StartFailed")
    if settings.has_vip:
        probe, begun = seen.probe, max(state.started_at, state.woke_at or 0.0)
        if probe is None or probe.started_at < begun or probe.finished_at is None:
            return hold(state, Aim.CLEAR, f"{why}: probing the virtual address", "Probing", probe=True)
        if probe.error is not None or probe.taken:
            what = probe.error or f"another node answers for {', '.join(probe.taken)}"
            return hold(
                state,
                Aim.CLEAR,
                f"Waiting: {why}, but {what}",
                "VipTaken",
                probe=facts.now - probe.finished_at > 1.0,
            )
    allowed = permission.alone(facts, outdated=True)
    if not allowed.granted:
        return replace(
            hold(state, Aim.CLEAR, f"Waiting: {why}, but {allowed.why}", allowed.code), asks=allowed.ask
        )
    return promote(state, facts.now, alone=True, reason=f"{why}: starting alone", code="RanAlone")
