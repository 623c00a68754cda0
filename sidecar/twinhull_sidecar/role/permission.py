"""May this node go on without its peer? What witnesses and fencing say (DESIGN.md R1, R4, R8, R10).

One rule: a node that lost its peer goes on only when

1. one of the *tests* (``ping``, ``tcp``) answered just now, where there are any: this node is not the one cut off;
2. it has more than half of the *votes* (``lease``), where there are any: only one node can;
3. the peer is surely powered off, where fencing is configured; so only a node that passed 1 and 2 fences.

Where the peer itself agrees (it is heard), nobody else is asked.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import AskVotes, Effect, FencePeer, ReturnVotes, Settings

#: Share of the detection timeout of silence from which a primary asks for the votes. Before its secondary does: in a
#: partition that leaves the witness to both, the application stays where it is.
PRIMARY_ASKS_FROM = 0.5
#: The same for a secondary: an answer shall be there when the detection timeout is over.
SECONDARY_ASKS_FROM = 0.8
#: Share of the detection timeout within which a test must have answered.
TEST_IS_FRESH = 0.5
#: Seconds between two attempts to power the peer off.
FENCE_AGAIN = 2.0


@dataclass(frozen=True)
class Permission:
    """``granted``, or ``why`` not (the end of a sentence) under the stable name ``code``.

    ``final``: it will not be granted while the peer is lost. ``ask``: what to do for it.
    """

    granted: bool
    why: str = ""
    code: str = ""
    final: bool = False
    ask: tuple[Effect, ...] = ()


GRANTED = Permission(granted=True)


def decides(settings: Settings) -> bool:
    """Something sees to it that only one of the nodes goes on."""
    return settings.votes > 0 or settings.fencing


def alone(facts: Facts, *, outdated: bool = False) -> Permission:
    """Whether this node may go on without a peer that it does not hear.

    ``outdated``: its durable record says so of the peer, which then starts by order only and need not be fenced.
    """
    settings = facts.settings
    if not (settings.tests or settings.votes or settings.fencing):
        return GRANTED
    if settings.tests and not _tested(facts):
        names = ", ".join(view.name for view in facts.seen.witnesses if not view.deciding)
        why = f"no witness answers ({names}), so this node may be the one that is cut off"
        return Permission(False, why, "Isolated")
    allowed = _by_votes(facts) if settings.votes else GRANTED
    return allowed if outdated or not allowed.granted else _by_fencing(facts)


def request(facts: Facts, *, seize: bool = False) -> tuple[Effect, ...]:
    """Ask for the votes, where there are any that this node has not."""
    record, views = facts.seen.record, facts.seen.witnesses
    wanted = any(view.deciding and not (view.mine and view.generation == record.generation) for view in views)
    return (AskVotes(record.generation, seize),) if wanted else ()


def give_back(facts: Facts) -> tuple[Effect, ...]:
    """Return the votes of a node that does not need them: its peer is there, and may need one."""
    settings = facts.settings
    there = facts.message is not None and facts.silence < PRIMARY_ASKS_FROM * settings.detection_timeout
    named = any(
        view.deciding and (view.mine or view.holder == settings.node) for view in facts.seen.witnesses
    )
    return (ReturnVotes(facts.seen.record.generation),) if there and named else ()


def named_elsewhere(facts: Facts) -> str:
    """R2: the sentence that a witness says of a node that starts; empty where none names the peer."""
    for view in facts.seen.witnesses:
        if view.deciding and view.holder == facts.settings.peer:
            return f"Witness {view.name} says that {view.holder} went on alone."
    return ""


def _tested(facts: Facts) -> bool:
    since = facts.now - TEST_IS_FRESH * facts.settings.detection_timeout
    return any(
        not view.deciding and view.answered_at is not None and view.answered_at >= since
        for view in facts.seen.witnesses
    )


def _by_votes(facts: Facts) -> Permission:
    settings = facts.settings
    votes = [view for view in facts.seen.witnesses if view.deciding]
    if 2 * sum(view.mine for view in votes) > settings.votes:
        return GRANTED
    ask = request(facts)
    lost = [view for view in votes if view.holder == settings.peer and not view.mine]
    if 2 * (settings.votes - len(lost)) <= settings.votes:
        names = ", ".join(view.name for view in lost)
        return Permission(False, f"{settings.peer} has the vote of {names}", "VoteLost", final=True, ask=ask)
    silent = "; ".join(f"{view.name}: {view.detail or 'no answer yet'}" for view in votes if not view.mine)
    return Permission(False, f"this node has not the votes it needs ({silent})", "NoVote", ask=ask)


def _by_fencing(facts: Facts) -> Permission:
    settings, fence = facts.settings, facts.seen.fence
    if not settings.fencing or facts.peer_is_fenced:
        return GRANTED
    running = fence is not None and fence.finished_at is None
    rested = fence is None or fence.finished_at is None or facts.now - fence.finished_at >= FENCE_AGAIN
    ask = (FencePeer(),) if facts.silent and rested and not running else ()
    what = fence.detail if fence is not None and fence.finished_at is not None else "no answer yet"
    return Permission(False, f"{settings.peer} is not surely powered off ({what})", "NotFenced", ask=ask)
