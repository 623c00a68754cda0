"""One node's dealings with one vote, without I/O: what to ask next, and what the answer means.

The vote is a register of the witness that is changed by compare-and-swap only: a write names the version that it
replaces. It holds a node's name or none.

- It is taken when it is nobody's, or one's own already. Taking always writes, so that a write of this node's that was
  lost on the way, however late it arrives, finds another version.
- Only the node that has it gives it back; from the moment it begins to, the vote is not its own any more.
- It does not run out: whoever did not get it holds older writes, and must not begin because the winner died.

So ``mine`` is true only if the register names this node, and nobody but an administrator's force changes that.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

#: How often a write may find another version before the attempt counts as failed.
ATTEMPTS = 5


class Goal(Enum):
    """What a node wants of the vote."""

    TAKE = "take"
    SEIZE = "seize"
    GIVE_BACK = "give back"
    LOOK = "look"


@dataclass(frozen=True)
class Register:
    """What the witness holds. ``version`` None: nothing yet. ``uid``: the module's, empty when nothing."""

    version: str | None = None
    holder: str = ""
    generation: str = ""
    uid: str = ""


@dataclass(frozen=True)
class Read:
    """Ask for the register."""


@dataclass(frozen=True)
class Write:
    """Replace the register if its version is still this one (None: make it)."""

    version: str | None
    holder: str
    generation: str


class Ballot:
    """One request is under way at a time: :meth:`next`, then one of :meth:`read`, :meth:`written`, :meth:`failed`."""

    def __init__(self, node: str, uid: str) -> None:
        self._node, self._uid = node, uid
        self._goal: Goal | None = None
        self._generation = ""
        self._known: Register | None = None
        self._writing: tuple[Goal, Write] | None = None
        self._attempts = 0
        #: This node has the vote.
        self.mine = False
        self.holder = ""
        self.generation = ""
        #: Why the last attempt failed; empty when it did not.
        self.detail = ""

    def want(self, goal: Goal, generation: str = "") -> None:
        """Go for this from now on; what was wanted before is not wanted any more."""
        if goal is Goal.LOOK and self._goal is not None:
            return
        if goal is Goal.GIVE_BACK:
            self.mine = False
        if self._goal is not goal or generation != self._generation:
            self._goal, self._generation, self._attempts = goal, generation, 0
            self._known = None

    def next(self) -> Read | Write | None:
        """The request to make now; None: nothing to do."""
        if self._goal is None:
            return None
        if self._known is None:
            return Read()
        known, goal = self._known, self._goal
        if goal in (Goal.TAKE, Goal.SEIZE) and (
            goal is Goal.SEIZE or known.holder in ("", self._node) or known.version is None
        ):
            return self._write(goal, Write(known.version, self._node, self._generation))
        if goal is Goal.GIVE_BACK and known.holder == self._node:
            return self._write(goal, Write(known.version, "", self._generation))
        self._goal = None
        return None

    def _write(self, goal: Goal, write: Write) -> Write:
        self._writing = (goal, write)
        return write

    def read(self, register: Register) -> None:
        """The register, as the witness has it."""
        if register.uid not in ("", self._uid):
            self.mine = False
            self.failed(f"it is the vote of another module, with UID {register.uid}")
            return
        self._known = register
        self.holder, self.generation, self.detail = register.holder, register.generation, ""
        if register.holder != self._node:
            self.mine = False
            if register.holder and self._goal is Goal.TAKE:
                self.detail = f"{register.holder} has it"

    def written(self, ok: bool) -> None:
        """The answer to a write: done, or another version was there."""
        writing, self._writing, self._known = self._writing, None, None
        if not ok:
            self._attempts += 1
            if self._attempts >= ATTEMPTS:
                self.failed("it was changed by others again and again")
            return
        self.detail = ""
        if writing is None:
            return
        goal, write = writing
        self.holder, self.generation = write.holder, write.generation
        if goal is self._goal:
            self.mine = write.holder == self._node
            if write.generation == self._generation:
                self._goal = None

    def failed(self, why: str) -> None:
        """No answer, or a useless one. A write that was under way may still arrive."""
        self._goal, self._known, self._writing = None, None, None
        self.detail = why
