"""Which of two nodes holds the newer data: from generations and their history, never from clocks."""

from __future__ import annotations

from enum import Enum
from typing import Protocol


class Relation(Enum):
    """How one node's data relates to the other's."""

    SAME = "same"
    BEHIND = "behind"
    AHEAD = "ahead"
    DIVERGED = "diverged"


class Lineage(Protocol):
    """What is compared: a record, or what the peer's heartbeat says of its own."""

    @property
    def fresh(self) -> bool:
        """No record yet."""

    @property
    def generation(self) -> str:
        """The present generation."""

    @property
    def history(self) -> tuple[str, ...]:
        """Earlier generations, newest first."""


def compare(mine: Lineage, theirs: Lineage) -> Relation:
    """Relate ``mine`` to ``theirs``. A node without a record is behind one with a record."""
    if mine.fresh or theirs.fresh:
        if mine.fresh and theirs.fresh:
            return Relation.SAME
        return Relation.BEHIND if mine.fresh else Relation.AHEAD
    if mine.generation == theirs.generation:
        return Relation.SAME
    if mine.generation in theirs.history:
        return Relation.BEHIND
    if theirs.generation in mine.history:
        return Relation.AHEAD
    return Relation.DIVERGED
