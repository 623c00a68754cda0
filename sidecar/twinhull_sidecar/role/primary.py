"""A node that holds the right to serve: fences, the application, the stream to the peer (DESIGN.md R3-R5)."""

from __future__ import annotations

from dataclasses import replace

from twinhull_sidecar.role import application, conflict, ending, failback, permission
from twinhull_sidecar.role.conflict import give_up
from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import (
    Action,
    AllowDiscard,
    Effect,
    GoAlone,
    PeerMessage,
    Resync,
    Settings,
    State,
    Verify,
)

#: Share of the detection timeout: a peer that is promoted by silence holds the address so long after it may begin to.
PROBE_WHEN_GIVEN_AWAY = 0.2
#: Share of the detection timeout: after a shorter freeze the peer cannot have taken over because of it.
FROZEN_TOO_LONG = 0.5


def serve(facts: Facts) -> Course:
    """What a serving node does now."""
    state, message = facts.state, facts.message
    if message is not None and (message.serving or message.claiming):
        yielded = conflict.settle(facts, message)
        if yielded is not None:
            return yielded
        if state.fenced_at is not None and not facts.seen.record.alone:
            # The peer shall see us and yield first: two that stay fenced would both be mistaken.
            return _fenced(state, f"Fenced: woke up, and {facts.settings.peer} is about to yield")
    if message is not None and _superseded(facts, message):
        why = f"{facts.settings.peer} ran alone meanwhile and holds newer data: it is to serve"
        return give_up(state, why, "PeerIsAhead")
    if state.fenced_at is not None:
        course = _after_freeze(facts)
        if course is not None:
            return course
        state = state.having(fenced_at=None, frozen_for=0.0)
        facts = Facts(state, facts.seen)
    facts = Facts(failback.note(facts), facts.seen)
    return (
        ending.of_primary(facts) or application.supervise(facts) or failback.go_home(facts) or _stream(facts)
    )


def _superseded(facts: Facts, message: PeerMessage) -> bool:
    """The peer does not serve now, but did while this node stood still."""
    if facts.relation is Relation.BEHIND:
        return True
    alone_there = message.alone and not facts.seen.record.alone
    return facts.state.fenced_at is not None and (facts.relation is Relation.DIVERGED or alone_there)


def _fenced(state: State, reason: str) -> Course:
    return Course(state, Aim.FENCED, reason, "Fenced")


def _after_freeze(facts: Facts) -> Course | None:  # noqa: PLR0911 (a table: one return per row)
    """None: nobody took over meanwhile, so the fence can go."""
    state, settings, seen = facts.state, facts.settings, facts.seen
    peer = settings.peer
    if facts.message is not None:
        return None
    if not facts.silent:
        why = (
            f"Fenced: this node stood still for {state.frozen_for:.1f} s and asks {peer} whether it took over"
        )
        return _fenced(state, why)
    if state.frozen_for > FROZEN_TOO_LONG * settings.detection_timeout and not seen.record.alone:
        why = (
            f"This node stood still for {state.frozen_for:.1f} s and {peer}, not heard since, may have taken over "
            f"meanwhile; waiting for {peer}. If it surely did not, order force-primary"
        )
        return give_up(state, why, "FrozenTooLong")
    if not settings.has_vip or seen.vip_held:
        return None
    probe, woke = seen.probe, state.woke_at or 0.0
    if probe is None or probe.started_at < woke or probe.finished_at is None:
        return Course(
            state,
            Aim.FENCED,
            "Fenced: probing the virtual address before holding it again",
            "Fenced",
            probe=True,
        )
    if probe.error is not None:
        return Course(
            state,
            Aim.FENCED,
            f"Fenced: cannot probe the virtual address: {probe.error}",
            "Fenced",
            probe=True,
        )
    if probe.taken:
        return give_up(state, f"{probe.taken[0]} is answered by another node: {peer} took over", "VipTaken")
    return None


def _stream(facts: Facts) -> Course:
    """Serving with a peer, without one, or waiting to know which."""
    state, seen, settings = facts.state, facts.seen, facts.settings
    engine, peer = seen.engine, settings.peer
    alone = seen.record.alone
    first = _chores(facts)
    if engine.mode != "primary":
        return Course(state, Aim.SERVE, "Mounting the volumes", "Mounting", alone=alone)
    # Whatever comes on the stream of a peer that may have taken over (role/doubt.py) is not its acknowledgement.
    connected = engine.connected and (alone or state.doubted_since is None)
    if connected and engine.in_sync and (state.dropping is None or state.dropping != engine.stream):
        state = _tidy(facts, state.having(dropping=None))
        why = f"Serving; {peer} holds every acknowledged write"
        # Going on alone begins with asking for the votes again, so none is needed now, and the peer may need one.
        asks = () if alone else permission.give_back(facts)
        return Course(state, Aim.SERVE, why, "InSync", first=first, asks=asks)
    if alone:
        if engine.connected and engine.syncing:
            state = _tidy(facts, state)
            return Course(
                state, Aim.SERVE, f"Serving; {peer} is being resynchronised", "Resynchronising", first=first
            )
        # However it came to be alone: the witness shall know who has the newest data, and of which generation.
        asks = permission.request(facts)
        return Course(state, Aim.SERVE, _why_alone(facts), "ServingAlone", first=first, asks=asks)
    if connected and engine.syncing and state.dropping is None:
        return Course(
            state, Aim.SERVE, f"Serving; {peer} is being resynchronised", "Resynchronising", first=first
        )
    return _without_acknowledgements(facts)


def _why_alone(facts: Facts) -> str:
    peer, message = facts.settings.peer, facts.message
    if message is None:
        return f"Serving alone: {peer} has not been heard for {facts.silence:.1f} s"
    if message.split_brain or facts.relation is Relation.DIVERGED:
        return f"Serving alone: split brain, {peer} keeps its own data until an administrator decides"
    return f"Serving alone: {peer} is {message.role}, not connected"


def _without_address(facts: Facts) -> Course | None:
    """A primary that gave the address away (a hand-over that failed) and then lost its peer.

    The peer's probe found the address free, so it may have been promoted: ask the LAN, late enough for its answer.
    """
    state, seen, settings = facts.state, facts.seen, facts.settings
    peer, timeout = settings.peer, settings.detection_timeout
    if not settings.has_vip or seen.vip_held or facts.silence < timeout / 2:
        return None
    taken_after = max(timeout, settings.timing.surely_over) + PROBE_WHEN_GIVEN_AWAY * timeout
    due, probe = facts.now - facts.silence + taken_after, seen.probe
    if probe is None or probe.started_at < due or probe.finished_at is None or probe.error is not None:
        why = f"Writes wait: {peer} has been silent for {facts.silence:.1f} s and may have taken the virtual address"
        return Course(state, Aim.SERVE, why, "WaitingForPeer", probe=facts.now >= due, hold=False)
    if probe.taken:
        return give_up(state, f"{probe.taken[0]} is answered by another node: {peer} took over", "VipTaken")
    return None


def _without_acknowledgements(facts: Facts) -> Course:
    """R4: operations wait, and a peer that may be lost is reason enough to ask the witnesses."""
    course = _waiting(facts)
    early = facts.silence >= permission.PRIMARY_ASKS_FROM * facts.settings.detection_timeout
    if early and course.state.serving and not course.asks:
        return replace(course, asks=permission.request(facts))
    return course


def _waiting(facts: Facts) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """Go on alone only when the peer surely will not be promoted."""
    state, seen, settings, message = facts.state, facts.seen, facts.settings, facts.message
    engine, peer = seen.engine, settings.peer
    course = _without_address(facts)
    if course is not None:
        return course
    if facts.silence >= _patience(settings):
        return _lost(facts)
    if message is None:
        why = (
            f"Writes wait: {peer} has been silent for {facts.silence:.1f} s, "
            f"this node goes on alone after {settings.alone_after:.1f} s"
        )
        return Course(state, Aim.SERVE, why, "WaitingForPeer")
    if message.leaving:
        return Course(
            state,
            Aim.SERVE,
            f"{peer} left in order: going on alone",
            "PeerLeft",
            first=GoAlone(engine.stream),
        )
    down_since = max(state.serving_since, engine.disconnected_at or 0.0)
    stalled = engine.oldest_wait if engine.connected else facts.now - down_since
    if state.dropping is None and engine.dropped is None and stalled < settings.detection_timeout:
        why = f"Writes wait: the replication stream to {peer} has been down for {max(stalled, 0.0):.1f} s"
        return Course(state, Aim.SERVE, why, "StreamLost")
    if state.dropping is None:
        state = state.having(dropping=engine.stream or seen.record.token or f"none-{facts.now:.6f}")
    if _promised(state, message):
        cause = engine.dropped or "its replication stream is down"
        why = f"{peer} promised not to be promoted ({cause}): going on alone"
        return Course(state, Aim.SERVE, why, "PeerDropped", first=GoAlone(engine.stream))
    why = f"Writes wait: asking {peer} not to be promoted, because its replication stream is down"
    return Course(state, Aim.SERVE, why, "DroppingPeer")


def _lost(facts: Facts) -> Course:
    """The peer is lost: on alone if the witnesses let this node, else away with address and application (R4, R9)."""
    state, settings, engine = facts.state, facts.settings, facts.seen.engine
    peer, allowed = settings.peer, permission.alone(facts)
    silent = f"{peer} has been silent on every link for {facts.silence:.1f} s"
    if allowed.granted:
        return Course(
            state, Aim.SERVE, f"{silent}: going on alone", "GoingAlone", first=GoAlone(engine.stream)
        )
    if allowed.final or facts.silence >= settings.stand_down_after:
        why = f"{silent}, and {allowed.why}: this node has stopped. When {peer} is surely down, order force-primary"
        return give_up(state, why, allowed.code)
    why = f"Writes wait: {silent}, and {allowed.why}"
    return Course(state, Aim.SERVE, why, allowed.code, asks=allowed.ask)


def _patience(settings: Settings) -> float:
    """How long a silent peer is waited for: the secondary's window counts on exactly this."""
    return settings.alone_after


def _promised(state: State, message: PeerMessage) -> bool:
    return message.dropped == state.dropping


def _chores(facts: Facts) -> Effect | None:
    """Orders that the engine of a serving node carries out beside its work."""
    state, message = facts.state, facts.message
    overrides = state.persisted.overrides
    chosen = overrides is not None and message is not None and message.generation == overrides
    if chosen and overrides and facts.relation is Relation.DIVERGED and state.discard_allowed != overrides:
        return AllowDiscard(overrides)
    if state.resync_order is not None and facts.seen.engine.connected:
        return Resync()
    if state.verify is not None and facts.seen.engine.in_sync:
        return Verify(repair=state.verify is Action.REPAIR)
    return None


def _tidy(facts: Facts, state: State) -> State:
    """A settled split brain is forgotten."""
    known = state.wished
    if (known.overrides or known.split_brain) and facts.seen.engine.in_sync:
        return wish(state, overrides=None, split_brain=None)
    return state
