"""What a decision may order: frozen values that a separate executor carries out."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Persisted:
    """What the decision keeps on stable storage besides the engine's record (a small JSON file of the shell's)."""

    intent: int = 0  #: version of the module's desired state
    stopped: bool = False
    held: bool = False  #: no automatic failover until an administrator resumes it
    split_brain: str | None = None  #: the peer's generation that this node lost a split brain against
    overrides: str | None = None  #: the peer's generation that the administrator allowed to discard


@dataclass(frozen=True)
class RenewLease:
    """Fast. Engine, gate and virtual addresses may go on until ``until`` (an absolute time).

    ``writes_until``: an earlier end for the engine, which may acknowledge only until then; None: there is none.
    """

    until: float
    writes_until: float | None = None

    @property
    def acknowledging_until(self) -> float:
        """The end of the engine's lease."""
        return self.until if self.writes_until is None else self.writes_until


@dataclass(frozen=True)
class Fence:
    """Fast. End the engine's lease now; nothing is acknowledged any more."""


@dataclass(frozen=True)
class KillApplication:
    """Fast. SIGKILL, do not wait."""


@dataclass(frozen=True)
class ProbeVip:
    """Beside the slow effects. Ask the LAN who has the virtual addresses; the answer is Observation.probe."""


@dataclass(frozen=True)
class AskVotes:
    """Beside the slow effects. Ask the deciding witnesses for this node's vote and note ``generation`` there.

    ``seize``: by an administrator's order, whoever has it. The answers are in Observation.witnesses.
    """

    generation: str
    seize: bool = False


@dataclass(frozen=True)
class ReturnVotes:
    """Beside the slow effects. Give the votes back: both nodes are there. From now on none of them is this node's."""

    generation: str


@dataclass(frozen=True)
class FencePeer:
    """Beside the slow effects. Power the peer off; the answer is Observation.fence."""


@dataclass(frozen=True)
class Initialise:
    """Make the first record of the module from this node's files."""


@dataclass(frozen=True)
class StartPrimary:
    """Mount and serve; ``alone``: with the durable note that the peer is outdated."""

    alone: bool


@dataclass(frozen=True)
class GoAlone:
    """As primary: the peer is outdated from now on, durably; release what waits for it.

    ``stream``: the stream whose end led to this; without effect when the engine is in sync on another one by now.
    """

    stream: str | None = None


@dataclass(frozen=True)
class StopPrimary:
    """The application has stopped: drain, flush both nodes, unmount. Its Outcome says clean and token."""

    timeout: float


@dataclass(frozen=True)
class AbortPrimary:
    """Unmount at once, fail what waits."""


@dataclass(frozen=True)
class StartSecondary:
    """Listen for the primary."""


@dataclass(frozen=True)
class StopSecondary:
    """Apply and acknowledge nothing any more."""


@dataclass(frozen=True)
class Verify:
    """As primary: begin to compare both trees. ``repair``: the secondary gets this node's where they differ."""

    repair: bool


@dataclass(frozen=True)
class Resync:
    """As primary: compare and copy everything again."""


@dataclass(frozen=True)
class AllowDiscard:
    """As primary: a peer of that generation may be overwritten, into its quarantine folder."""

    generation: str


@dataclass(frozen=True)
class HoldVip:
    """Hold, announce and forward the virtual addresses (leased)."""


@dataclass(frozen=True)
class WithdrawVip:
    """Take them off this node."""


@dataclass(frozen=True)
class StartApplication:
    """Start it; ends when it is started, not when it is ready."""

    epoch: int


@dataclass(frozen=True)
class StopApplication:
    """SIGTERM, SIGKILL after ``grace``; ends when nothing of it runs."""

    grace: float


@dataclass(frozen=True)
class Persist:
    """Put this on stable storage; it counts (and is said to the peer) when the effect has ended."""

    persisted: Persisted


@dataclass(frozen=True)
class Exit:
    """The orderly leave is complete: end the process."""


Effect = (
    RenewLease
    | Fence
    | KillApplication
    | ProbeVip
    | AskVotes
    | ReturnVotes
    | FencePeer
    | Initialise
    | StartPrimary
    | GoAlone
    | StopPrimary
    | AbortPrimary
    | StartSecondary
    | StopSecondary
    | Resync
    | Verify
    | AllowDiscard
    | HoldVip
    | WithdrawVip
    | StartApplication
    | StopApplication
    | Persist
    | Exit
)

#: Effects that are carried out at once, whatever else runs, in the order given. The last four only begin at once.
FAST = (RenewLease, Fence, KillApplication, ProbeVip, AskVotes, ReturnVotes, FencePeer)
