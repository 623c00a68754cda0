"""Who starts when neither node serves (DESIGN.md R2): a symmetric function of what both nodes say of themselves.

Both nodes evaluate it on the same two sides and reach the same answer; the claim (see ``startup``) covers the moments
in which one of them still looks at an older message.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinhull_sidecar.role.lineage import Relation, compare
from twinhull_sidecar.role.model import Settings


@dataclass(frozen=True)
class Side:
    """What counts of one node."""

    node: str
    fresh: bool
    has_data: bool
    generation: str
    history: tuple[str, ...]
    alone: bool
    consistent: bool
    last_role: str
    token: str | None
    promotable: bool
    app_failed: bool
    overrides: str | None

    @property
    def usable(self) -> bool:
        """Its data may be served: consistent, or an administrator has forced it."""
        return not self.fresh and (self.consistent or self.alone)


@dataclass(frozen=True)
class Verdict:
    """``node`` starts, because ``why``; None: nobody may. ``split``: the other one has lost a split brain."""

    node: str | None
    why: str
    code: str
    alone: bool = True
    split: bool = False


def verdict(settings: Settings, mine: Side, theirs: Side) -> Verdict:  # noqa: PLR0911 (a table: one return per row)
    """Who shall start. ``alone`` False: both hold the same data by a common token, so no resynchronisation is due."""
    first, second = (mine, theirs) if mine.node == settings.nodes[0] else (theirs, mine)
    if first.app_failed and second.app_failed:
        return Verdict(
            None,
            "the application failed too often on both nodes; mend it and order start",
            "ApplicationFailedOnBoth",
        )
    relation = compare(first, second)
    if first.token is not None and first.token == second.token:
        return _same(settings, first, second)
    for side, other, other_is_ahead in ((first, second, Relation.BEHIND), (second, first, Relation.AHEAD)):
        if (
            side.promotable
            and not other.alone
            and not other.promotable
            and relation not in (other_is_ahead, Relation.DIVERGED)
        ):
            return Verdict(
                side.node, f"{side.node} was in sync and {other.node} no longer serves", "PeerStopped"
            )
    if first.fresh or second.fresh:
        return _fresh(settings, first, second)
    if relation is Relation.DIVERGED:
        return _diverged(settings, first, second)
    if relation is Relation.SAME:
        return _same(settings, first, second)
    ahead, behind = (first, second) if relation is Relation.AHEAD else (second, first)
    if ahead.usable:
        return Verdict(ahead.node, f"{ahead.node} holds newer data than {behind.node}", "NewerData")
    return _inconsistent(ahead, behind)


def _fresh(settings: Settings, first: Side, second: Side) -> Verdict:
    adopt = settings.adopt_from
    if first.fresh and second.fresh:
        if adopt is not None:
            return Verdict(adopt, f"spec.adoptFrom names {adopt}", "Initialising")
        with_data = [side.node for side in (first, second) if side.has_data]
        if with_data:
            why = (
                f"the volumes of a new module already hold files on {' and '.join(with_data)}; "
                "name the node to keep in spec.adoptFrom"
            )
            return Verdict(None, why, "AdoptFromMissing")
        return Verdict(settings.favourite, "the module is new and holds no files", "Initialising")
    old, new = (second, first) if first.fresh else (first, second)
    if new.has_data and adopt != old.node:
        why = (
            f"{new.node} holds files but no generation record while {old.node} has one; "
            f"set spec.adoptFrom to {old.node} to replace them, or restore the record"
        )
        return Verdict(None, why, "FilesWithoutRecord")
    if not old.usable:
        return _inconsistent(old, new)
    return Verdict(old.node, f"{new.node} has no data of the module yet", "PeerIsNew")


def _same(settings: Settings, first: Side, second: Side) -> Verdict:
    token = first.token is not None and first.token == second.token
    reasons: tuple[tuple[Callable[[Side], bool], str], ...] = (
        (lambda side: side.alone, "{} last ran alone"),
        (lambda side: side.consistent, "only {} holds consistent data"),
        (lambda side: side.last_role == "primary", "{} was the primary last"),
        (lambda side: side.node == settings.favourite, "both hold the same data and {} is preferred"),
    )
    for test, why in reasons:
        if test(first) != test(second):
            winner = first if test(first) else second
            if not winner.usable:
                return _inconsistent(first, second)
            return Verdict(winner.node, why.format(winner.node), "SameData", alone=not token)
    return _inconsistent(first, second)


def _diverged(settings: Settings, first: Side, second: Side) -> Verdict:
    for side, other in ((first, second), (second, first)):
        if side.overrides == other.generation and other.overrides != side.generation:
            return Verdict(side.node, f"an administrator chose {side.node}", "SplitBrainDecided")
    favourite, other = (first, second) if first.node == settings.favourite else (second, first)
    winner, loser = (favourite, other) if favourite.usable else (other, favourite)
    if not winner.usable:
        return _inconsistent(first, second)
    why = (
        f"split brain: both nodes ran alone; {winner.node} goes on, "
        f"{loser.node} keeps its data until an administrator decides"
    )
    return Verdict(winner.node, why, "SplitBrain", split=True)


def _inconsistent(first: Side, second: Side) -> Verdict:
    why = (
        f"neither {first.node} nor {second.node} may be served: the newer data is in the middle of a "
        "resynchronisation; order force-primary on the node to keep"
    )
    return Verdict(None, why, "NoConsistentData")
