"""The ways in which a node treats what reaches its interface for the farm's addresses.

A way is a table of three answers, and the chains of :mod:`.ruleset` are made from it. *Known* is a
connection that this node itself serves, *stray* a packet of a connection that this node does not know.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class New(Enum):
    """Where a client's new connection goes."""

    SHARE = "by the client's hash"
    HERE = "to this node"
    PEER = "to the peer"
    NOWHERE = "to neither node"


@dataclass(frozen=True)
class Way:
    """One column of docs/farm.md's table. ``name`` is part of the names of its chains."""

    name: str
    new: New
    known_here: bool
    stray_to_peer: bool

    @property
    def accepts(self) -> bool:
        """Whether a new connection that the peer sends on is taken.

        A draining node still takes it: the peer sent it before it heard of the draining, and will not
        send another.
        """
        return self.new in {New.SHARE, New.HERE} or (self.new is New.PEER and self.known_here)

    @property
    def serves_own(self) -> bool:
        """Whether clients on this node and in its pods are served by its own pod."""
        return self.new in {New.SHARE, New.HERE}


#: Both nodes serve.
BOTH = Way("both", New.SHARE, known_here=True, stray_to_peer=True)
#: The peer takes nothing new, and keeps its connections.
ALL = Way("all", New.HERE, known_here=True, stray_to_peer=True)
#: The peer is away, or its application does not run.
SOLO = Way("solo", New.HERE, known_here=True, stray_to_peer=False)
#: This node takes nothing new, and keeps its connections.
DRAIN = Way("drain", New.PEER, known_here=True, stray_to_peer=True)
#: Neither takes anything new.
CLOSED = Way("closed", New.NOWHERE, known_here=True, stray_to_peer=True)
#: This node takes nothing new, and the peer is away.
LAST = Way("last", New.NOWHERE, known_here=True, stray_to_peer=False)
#: This node's application does not run.
PASS = Way("pass", New.PEER, known_here=False, stray_to_peer=True)

WAYS = (BOTH, ALL, SOLO, DRAIN, CLOSED, LAST, PASS)
