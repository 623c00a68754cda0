"""What a node knows of the witnesses and of its means to power the peer off. Times as everywhere in ``model``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class WitnessView:
    """One witness.

    A deciding one holds a vote that only one node can have (a Lease). The others (ping, tcp) only show that this node
    is not the one that is cut off: both nodes may reach them (DESIGN.md R10).
    """

    name: str
    deciding: bool
    #: When the newest question was asked that has been answered; None: none was.
    answered_at: float | None = None
    #: Deciding: this node has the vote. It stays so until this node gives it back: nobody else takes it, but an
    #: administrator's force.
    mine: bool = False
    #: Deciding: who had the vote at the last answer; empty: nobody.
    holder: str = ""
    #: Deciding: the generation that was noted with the vote.
    generation: str = ""
    #: Why it does not answer, or a sentence about the answer.
    detail: str = ""


@dataclass(frozen=True)
class FenceView:
    """The newest attempt to power the peer off; ``ok`` when it is finished and the peer is surely off."""

    started_at: float
    finished_at: float | None = None
    ok: bool = False
    detail: str = ""
