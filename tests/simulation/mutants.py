"""Each mutant lacks one rule; the simulation must notice. This is the proof that the invariants have teeth."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest import mock

from tests.simulation.engine import Engine
from tests.simulation.explore import explore
from tests.simulation.history import History
from tests.simulation.witnesses import Witnesses
from twinhull_sidecar.role import conflict, doubt, memory, permission, primary, promotion, startup
from twinhull_sidecar.role.course import Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.model import Observation, PeerMessage, Persisted, RenewLease, State
from twinhull_sidecar.witness.ballot import Ballot, Goal, Read, Register, Write

#: Changes to each drawn plan: without what hides the rules that come before it.
_PLAIN: dict[str, Any] = {
    "votes": 0,
    "tests": 0,
    "fencing": False,
    "failover": "Automatic",
    "failback": "Manual",
    "disagree": False,
}


@dataclass(frozen=True)
class Mutant:
    """One rule less. ``target`` and ``name`` say what is replaced by ``by``."""

    rule: str
    target: Any
    name: str
    by: Any
    #: Which plans concern the rule: changes to each drawn plan.
    plan: dict[str, Any] = field(default_factory=lambda: _PLAIN)


def _no_freeze(state: State, seen: Observation) -> State:
    return state.having(last_tick=seen.now)


def _claim_at_once(facts: Facts, reason: str, code: str, *, alone: bool) -> Course:
    return promotion.promote(facts.state, facts.now, alone=alone, reason=reason, code=code)


def _old_messages(facts: Facts) -> Any:
    peer = facts.seen.peer
    recent = peer is not None and facts.now - peer.received_at < facts.settings.detection_timeout
    return peer.message if peer is not None and recent else None


def _any_stream(facts: Facts) -> str | None:
    engine = facts.seen.engine
    return engine.stream if engine.mode == "secondary" else None


def _same_generation(engine: Engine) -> None:
    engine.bumped = True


def _whole_lease(facts: Facts) -> tuple[State, RenewLease]:
    return facts.state, RenewLease(facts.now + facts.settings.lease)


def _own_leases(facts: Facts) -> float:
    return facts.settings.timing.lost_after(closed=promotion._closed(facts))


def _own_window(facts: Facts) -> bool:
    peer = facts.seen.peer
    return peer is not None and facts.now < peer.acknowledged_at + facts.settings.alone_after


def _only_newer(state: State, known: Persisted, message: PeerMessage) -> bool:
    return message.intent > known.intent


def _any_vote(facts: Facts) -> permission.Permission:
    if any(view.mine for view in facts.seen.witnesses):
        return permission.GRANTED
    return _by_votes(facts)


def _fence_tried(facts: Facts) -> bool:
    fence = facts.seen.fence
    return fence is not None and fence.finished_at is not None


def _keep_while_returning(ballot: Ballot, goal: Goal, generation: str = "") -> None:
    mine = ballot.mine
    _want(ballot, goal, generation)
    ballot.mine = mine


def _blind_write(witnesses: Witnesses, number: int, write: Write) -> bool:
    version = witnesses.registers[number].version
    return _swap(witnesses, number, replace(write, version=version))


def _take_always(ballot: Ballot) -> Read | Write | None:
    if ballot._goal is Goal.TAKE:
        ballot._goal = Goal.SEIZE
    return _next(ballot)


def _own_by_reading(ballot: Ballot, register: Register) -> None:
    _read(ballot, register)
    if register.holder == ballot._node and ballot._goal is Goal.TAKE:
        ballot.mine, ballot._goal = True, None


_DISAGREE = {**_PLAIN, "disagree": True}
_VOTE = {**_PLAIN, "votes": 1}
_VOTES = {**_PLAIN, "votes": 3}
_TEST = {**_PLAIN, "tests": 1}
_FENCED = {**_PLAIN, "fencing": True}
#: The primary's timeout is longer than the secondary's, and the other way round.
_LONGER = {**_PLAIN, "timeouts": (1.0, 0.4), "preferred": "a"}
_SHORTER = {**_PLAIN, "timeouts": (0.4, 1.0), "preferred": "a"}
#: So short that both nodes have asked and decided before a request of the time before is given up.
_SOON = {**_VOTE, "timeouts": (0.4, 0.4)}
_by_votes = permission._by_votes
_want, _next, _read = Ballot.want, Ballot.next, Ballot.read
_swap = Witnesses.write

MUTANTS = (
    Mutant(
        "the primary waits longer than the secondary",
        primary,
        "_patience",
        lambda settings: settings.detection_timeout,
    ),
    Mutant(
        "a secondary promotes itself only within the window", Facts, "within_window", property(lambda f: True)
    ),
    Mutant(
        "a promotion waits for the leases of the primary's timeout",
        promotion,
        "patience",
        _own_leases,
        _LONGER,
    ),
    Mutant(
        "the window is that of the primary's timeout", Facts, "within_window", property(_own_window), _SHORTER
    ),
    Mutant("a freeze is noticed", memory, "_notice_freeze", _no_freeze),
    Mutant("messages from before a wake-up do not count", Facts, "message", property(_old_messages)),
    Mutant("a primary that stood still for long waits (R2)", primary, "FROZEN_TOO_LONG", 1e9),
    Mutant("a start needs the peer's consent", startup, "claim", _claim_at_once, _DISAGREE),
    Mutant("a promise not to be promoted is kept", memory, "_distrust", lambda state, stream: state),
    Mutant("the virtual address is probed before promotion", promotion, "_probe", lambda facts: ("", False)),
    Mutant("going alone needs the heard peer's promise", primary, "_promised", lambda state, message: True),
    Mutant(
        "starting unheard needs a durable record (R2)",
        startup,
        "_may_start_unheard",
        lambda facts: not facts.seen.record.fresh,
    ),
    Mutant("acknowledging needs a lease (R5)", Engine, "leased", lambda engine: True),
    Mutant(
        "alone, a new generation comes before the first acknowledgement (R3)",
        Engine,
        "_bump",
        _same_generation,
    ),
    Mutant("only a secondary in sync is promoted (M1)", Facts, "basis", property(_any_stream)),
    Mutant(
        "a primary that was overtaken while frozen yields",
        primary,
        "_superseded",
        lambda facts, message: False,
    ),
    Mutant("of two that serve, one yields (R6)", conflict, "settle", lambda facts, message: None),
    Mutant(
        "a secondary heeds that the primary went alone", Facts, "peer_went_alone", property(lambda f: False)
    ),
    Mutant(
        "going on without the peer needs the votes (R4)",
        permission,
        "_by_votes",
        lambda facts: permission.GRANTED,
        _VOTE,
    ),
    Mutant(
        "more than half of the votes are needed",
        permission,
        "_by_votes",
        _any_vote,
        _VOTES,
    ),
    Mutant("a test must answer (R4)", permission, "_tested", lambda facts: True, _TEST),
    Mutant(
        "the lost peer is fenced first", permission, "_by_fencing", lambda facts: permission.GRANTED, _FENCED
    ),
    Mutant("a fence counts only if it succeeded", Facts, "peer_is_fenced", property(_fence_tried), _FENCED),
    Mutant(
        "writes wait while the peer may have taken over unheard (R1)", doubt, "renewal", _whole_lease, _SOON
    ),
    Mutant("a vote is not one's own while it is given back", Ballot, "want", _keep_while_returning, _SOON),
    Mutant("a vote is changed by compare-and-swap only", Witnesses, "write", _blind_write, _VOTE),
    Mutant("a vote that is the peer's is not taken", Ballot, "next", _take_always, _VOTE),
    Mutant("taking a vote writes, even one's own", Ballot, "read", _own_by_reading, _SOON),
    Mutant("votes go back when the peer is there", permission, "give_back", lambda facts: (), _VOTE),
    Mutant(
        "while the configurations disagree, both take the same node for preferred",
        Facts,
        "favourite",
        property(lambda facts: facts.settings.favourite),
        _DISAGREE,
    ),
    Mutant("of two equally new orders one holds", memory, "_newer_wish", _only_newer),
    Mutant("a held failover does not happen", Facts, "failover_is_held", property(lambda f: "")),
)


#: Noticed within few histories: cheap enough for every test run.
QUICK = (
    "the window is that of the primary's timeout",
    "acknowledging needs a lease (R5)",
    "only a secondary in sync is promoted (M1)",
    "of two that serve, one yields (R6)",
)


@contextmanager
def applied(mutant: Mutant) -> Iterator[None]:
    """The rule is missing inside."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(mutant.target, mutant.name, mutant.by))
        yield


def caught(mutant: Mutant, histories: int, seed: int) -> tuple[int, str] | None:
    """How many histories it took, and the violation; None: it survived."""
    with applied(mutant):
        for count, result in enumerate(explore(histories, seed, **mutant.plan), 1):
            if result.violation is not None:
                found = count, result
                break
        else:
            return None
    count, result = found
    if History(result.plan).run().violation is not None:
        raise SystemExit(f"history {result.plan.seed} fails without any mutation: mend that first")
    return count, result.violation or ""


def main(histories: int, seed: int, jobs: int) -> int:
    """Run all mutants; 1 when one survives."""
    survivors = 0
    work = [(number, histories, seed) for number in range(len(MUTANTS))]
    with multiprocessing.Pool(jobs) as pool:
        for number, found, took in pool.imap_unordered(_try, work):
            rule = MUTANTS[number].rule
            if found is None:
                survivors += 1
                print(f"SURVIVED {histories} histories ({took:.0f} s): without '{rule}'", flush=True)
            else:
                print(
                    f"caught by history {found[0]} ({took:.0f} s): without '{rule}': {found[1][:110]}",
                    flush=True,
                )
    print(f"{len(MUTANTS) - survivors} of {len(MUTANTS)} mutants caught, {survivors} survived")
    return 1 if survivors else 0


def _try(work: tuple[int, int, int]) -> tuple[int, tuple[int, str] | None, float]:
    number, histories, seed = work
    begun = time.monotonic()
    found = caught(MUTANTS[number], histories, seed)
    return number, found, time.monotonic() - begun
