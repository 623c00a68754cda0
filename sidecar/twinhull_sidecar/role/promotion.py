"""How a secondary that lost its primary takes over, and how any decided promotion goes on (DESIGN.md R1, R3, R7).

Safety does not rest on the detection timeout but on the window: the primary acknowledges nothing without this node
before its ``alone_after`` has passed since it last heard it, and a promotion begins only before that, and after the
primary's leases have run out. Both are counted by the primary's timing, as it announced it.
"""

from __future__ import annotations

from twinhull_sidecar.role import permission
from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.lineage import Relation
from twinhull_sidecar.role.model import Promotion, State

#: Share of the detection timeout that goes by before the virtual addresses are probed.
PROBE_FROM = 0.6
#: The same when the primary's kernel has closed the stream.
PROBE_FROM_CLOSED = 0.4
#: Seconds by which the kernel may remove an address too late.
KERNEL_IS_LATE = 1.0


def promote(
    state: State, now: float, *, alone: bool, reason: str, code: str, by_silence: bool = False
) -> Course:
    """Decide the promotion; from here on this node claims the primary's role."""
    promotion = Promotion(since=now, alone=alone, cause=reason, code=code, by_silence=by_silence)
    ask = state.ask if state.claim_since is not None else None
    state = state.having(promotion=promotion, claim_since=None, ask=ask, outdated=False)
    return Course(state, Aim.SERVE, reason, code, alone=alone)


def looming(facts: Facts) -> bool:
    """The primary has been silent for so long that the LAN is asked, though its last words are still recent."""
    if _closed(facts):
        return facts.quiet >= PROBE_FROM_CLOSED * facts.peer_timing.detection_timeout
    return facts.quiet >= PROBE_FROM * patience(facts)


def patience(facts: Facts) -> float:
    """How long the primary must be silent before this node takes over.

    Its own announced timing decides, never this node's: with a shorter one this node would begin while the primary's
    leases run, with a longer one only when the primary may have gone on alone. While the two differ nobody counts on
    a quick failover, so then the whole seconds of an address's lease and the time that a kill may take are waited for
    as well, which otherwise the probe of the address covers.
    """
    theirs = facts.peer_timing
    enough = theirs.lost_after(closed=_closed(facts))
    return enough if theirs == facts.settings.timing else max(enough, theirs.surely_over)


def until_lost(facts: Facts) -> float:
    """Seconds until the present silence is long enough to take over; negative when it is."""
    return patience(facts) - facts.quiet


def _closed(facts: Facts) -> bool:
    return facts.seen.engine.closed_by_peer and facts.seen.engine.disconnected_at is not None


def watch(facts: Facts) -> Course:  # noqa: PLR0911 (a table: one return per row)
    """A secondary in sync whose primary has gone silent or is not sure to be there."""
    state, settings = facts.state, facts.settings
    peer, silence = settings.peer, facts.quiet
    enough = patience(facts)
    if not looming(facts):
        return Course(state, Aim.FOLLOW, f"In sync with {peer}, last heard {silence:.1f} s ago", "InSync")
    if facts.failover_is_held and silence >= enough:
        why = f"{peer} has been silent for {silence:.1f} s: not taking over. {facts.failover_is_held}"
        return Course(state, Aim.FOLLOW, why, "FailoverHeld", waiting=True)
    if settings.without_witness == "Wait" and not permission.decides(settings):
        if silence < enough:
            return Course(state, Aim.FOLLOW, f"{peer} has been silent for {silence:.1f} s", "PeerSilent")
        why = (
            f"{peer} has been silent for {silence:.1f} s, and failover.withoutWitness is Wait: it may be cut off and "
            f"serving. If it is surely down, order force-primary"
        )
        return Course(state, Aim.FOLLOW, why, "NoWitness", waiting=True)
    # With fencing the window does not count: a primary goes on alone only when it has powered this node off, and this
    # node has run ever since it was in sync.
    if not (facts.within_window or settings.fencing):
        why = (
            f"{peer} has been silent for {silence:.1f} s and may have gone on alone meanwhile, so this node's data may "
            f"be old. If {peer} surely did not, order force-primary"
        )
        return Course(state, Aim.FOLLOW, why, "MissedWindow", waiting=True)
    blocked, again = _probe(facts)
    if silence < enough:
        early = silence >= permission.SECONDARY_ASKS_FROM * enough
        asks = permission.request(facts) if early and not facts.failover_is_held else ()
        return Course(
            state,
            Aim.FOLLOW,
            f"{peer} has been silent for {silence:.1f} s",
            "PeerSilent",
            probe=again,
            asks=asks,
        )
    if blocked and silence < _leftover(facts):
        # Seen from here an address that the kernel of a dead process still answers for is like any other: not worth
        # a warning before it must have gone.
        why = f"{peer} has been silent for {silence:.1f} s, its lease of the virtual address may still run"
        return Course(state, Aim.FOLLOW, why, "PeerSilent", probe=again)
    if blocked:
        why = f"{peer} has been silent for {silence:.1f} s, but {blocked}: not taking over"
        return Course(state, Aim.FOLLOW, why, "VipTaken", probe=again, waiting=True)
    allowed = permission.alone(facts)
    if not allowed.granted:
        why = f"{peer} has been silent for {silence:.1f} s, but {allowed.why}: not taking over"
        waiting = allowed.final or silence > 2 * enough
        return Course(state, Aim.FOLLOW, why, allowed.code, probe=again, waiting=waiting, asks=allowed.ask)
    why = (
        f"{peer} has been silent on every link for {silence:.1f} s and this node holds every acknowledged write: "
        "taking over"
    )
    return promote(state, facts.now, alone=True, reason=why, code="PeerLost", by_silence=True)


def _leftover(facts: Facts) -> float:
    """For so long of silence the address may be what the stopped primary has left in its kernel."""
    probe, theirs = facts.seen.probe, facts.peer_timing
    if probe is not None and probe.error is not None:
        return 0.0
    # What is really taken shall be told while it is the obstacle: past the window there is another.
    in_time = theirs.alone_after - (theirs.alone_after - patience(facts)) / 4
    return min(theirs.surely_over + KERNEL_IS_LATE, in_time)


def _probe(facts: Facts) -> tuple[str, bool]:
    """Why the answer of the LAN forbids taking over (empty: it does not), and whether to ask again."""
    seen = facts.seen
    if not facts.settings.has_vip:
        return "", False
    probe, silent_since = seen.probe, facts.now - facts.quiet
    if probe is None or probe.started_at <= silent_since:
        return "the virtual address has not been probed", True
    if probe.finished_at is None:
        return "the probe of the virtual address is not finished", False
    if probe.error is not None:
        return f"the virtual address cannot be probed ({probe.error})", True
    if probe.taken:
        return f"another node answers for {', '.join(probe.taken)}", True
    return "", False


def proceed(facts: Facts) -> Course:
    """A promotion was decided and the volumes are not mounted yet: check again before each effect."""
    state, seen, message = facts.state, facts.seen, facts.message
    promotion = state.promotion
    assert promotion is not None
    peer = facts.settings.peer
    if not (facts.usable or seen.record.fresh) and promotion.code != "Forced" and state.forced is None:
        # Until the secondary had stopped, the former primary could still begin to overwrite its files (M1).
        return _abandon(state, f"a resynchronisation from {peer} began before this node could take over")
    woke = state.woke_at is not None and state.woke_at > promotion.since
    if woke and not (promotion.by_silence and facts.within_window and message is None):
        return _abandon(state, "This node stood still in the middle of its promotion: beginning anew")
    if message is not None and promotion.code == "Forced" and facts.relation is Relation.BEHIND:
        return _abandon(state, f"{peer} is heard and holds newer data: not starting by order")
    served = message is not None and message.serving
    outdone = message is not None and (message.alone or facts.relation is Relation.BEHIND)
    if served and (outdone or not promotion.by_silence):
        return _abandon(state, f"{peer} serves: not taking over")
    again = message is not None and seen.peer is not None and seen.peer.received_at > promotion.since
    if again and promotion.by_silence and seen.engine.mode == "secondary" and seen.busy is None:
        return _abandon(state, f"{peer} is heard again: not taking over")
    return Course(state, Aim.SERVE, promotion.cause, promotion.code, alone=promotion.alone)


def _abandon(state: State, reason: str) -> Course:
    state = state.having(promotion=None, claim_since=None, fenced_at=None, frozen_for=0.0)
    return Course(state, Aim.FOLLOW, reason, "PromotionAbandoned")
