"""The words of the role decision: what a node knows, remembers, says and does. Plain frozen values, no I/O.

Times are seconds of CLOCK_BOOTTIME of the node itself (it runs on while a machine is suspended and never jumps);
times of different nodes are never compared, only durations are.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Literal

from twinhull_sidecar.role.complaint import CheckAction, Complaint
from twinhull_sidecar.role.effects import (
    FAST,
    AbortPrimary,
    AllowDiscard,
    AskVotes,
    Effect,
    Exit,
    Fence,
    FencePeer,
    GoAlone,
    HoldVip,
    Initialise,
    KillApplication,
    Persist,
    Persisted,
    ProbeVip,
    RenewLease,
    Resync,
    ReturnVotes,
    StartApplication,
    StartPrimary,
    StartSecondary,
    StopApplication,
    StopPrimary,
    StopSecondary,
    Verify,
    WithdrawVip,
)
from twinhull_sidecar.role.timing import Timing
from twinhull_sidecar.role.witness import FenceView, WitnessView


class Role(StrEnum):
    """What a node is for the module's users (DESIGN.md section 3)."""

    STOPPED = "Stopped"
    WAITING = "Waiting"
    SYNCING = "Syncing"
    SECONDARY = "Secondary"
    PRIMARY = "Primary"
    ALONE = "Alone"


__all__ = [
    "FAST",
    "AbortPrimary",
    "Action",
    "AllowDiscard",
    "Answer",
    "AskVotes",
    "CheckAction",
    "Complaint",
    "Decision",
    "Effect",
    "EngineView",
    "Exit",
    "Fence",
    "FencePeer",
    "FenceView",
    "GoAlone",
    "HandOver",
    "HoldVip",
    "Initialise",
    "KillApplication",
    "LinkView",
    "Observation",
    "Order",
    "Outcome",
    "PeerMessage",
    "PeerView",
    "Persist",
    "Persisted",
    "Phase",
    "ProbeView",
    "ProbeVip",
    "Promotion",
    "Record",
    "RenewLease",
    "Resync",
    "ReturnVotes",
    "Role",
    "Settings",
    "StartApplication",
    "StartPrimary",
    "StartSecondary",
    "State",
    "StopApplication",
    "StopPrimary",
    "StopSecondary",
    "Timing",
    "Verify",
    "WithdrawVip",
    "WitnessView",
    "WorkloadView",
]

# ---------------------------------------------------------------------------------------------- settings

#: Seconds that powering the peer off may take; a BMC is slow.
FENCING_PATIENCE = 30.0


@dataclass(frozen=True)
class Settings:
    """The part of the module's configuration that the decision needs. All durations in seconds."""

    node: str
    peer: str
    nodes: tuple[str, str]
    uid: str
    detection_timeout: float = 3.0
    without_witness: Literal["Continue", "Wait"] = "Continue"
    #: Manual: a node takes over only by an administrator's order, or when the other hands over.
    failover: Literal["Automatic", "Manual"] = "Automatic"
    #: How many witnesses of each kind are configured: deciding ones, and tests of this node's own network.
    votes: int = 0
    tests: int = 0
    #: The peer can be powered off.
    fencing: bool = False
    #: How long a node that starts without hearing its peer waits before it starts alone, where its record allows that;
    #: at least the detection timeout.
    startup_timeout: float = 0.0
    preferred_node: str | None = None
    adopt_from: str | None = None
    has_vip: bool = True
    has_application: bool = True
    stop_grace: float = 30.0
    max_restarts: int = 3
    restart_window: float = 600.0
    #: What follows when the application ended by itself ``exit_threshold`` times; Restart: see ``max_restarts``.
    on_exit: CheckAction = "Restart"
    exit_threshold: int = 1
    failback: Literal["Manual", "Automatic"] = "Manual"
    failback_after: float = 300.0
    #: The longest of the leases that this node takes; 0: none is longer than :attr:`lease`.
    longest_lease: float = 0.0

    @cached_property
    def timing(self) -> Timing:
        """What this node announces, and what the peer goes by while this node is silent."""
        return Timing(self.detection_timeout, max(self.longest_lease, self.detection_timeout / 2))

    @property
    def lease(self) -> float:
        """See :class:`Timing`."""
        return self.timing.lease

    @property
    def interval(self) -> float:
        """See :class:`Timing`."""
        return self.timing.interval

    @property
    def alone_after(self) -> float:
        """See :class:`Timing`."""
        return self.timing.alone_after

    @property
    def stand_down_after(self) -> float:
        """How long a primary that may not go on alone waits for a silent peer before it gives everything up."""
        patience = max(self.detection_timeout, 2.0)
        return self.timing.alone_after + (FENCING_PATIENCE if self.fencing else patience)

    @property
    def favourite(self) -> str:
        """The node that wins where nothing else decides."""
        return self.preferred_node or self.nodes[0]


# ------------------------------------------------------------------------------------------- observation


@dataclass(frozen=True)
class Record:
    """This node's durable generation record, as ``Engine.record()`` gives it."""

    fresh: bool = True
    has_data: bool = False
    generation: str = ""
    history: tuple[str, ...] = ()
    alone: bool = False
    consistent: bool = True
    last_role: Literal["primary", "secondary", "none"] = "none"
    token: str | None = None


@dataclass(frozen=True)
class EngineView:
    """The replication engine now (``Engine.status()``)."""

    mode: Literal["idle", "primary", "secondary"] = "idle"
    connected: bool = False
    #: As primary: the peer acknowledges every operation. As secondary: SyncDone was applied on stream ``stream``
    #: and nothing but that stream's operations since; stays true after the connection is lost.
    in_sync: bool = False
    syncing: bool = False
    alone: bool = False
    #: Identity of the stream; both ends show the same; a resumption keeps it, everything else makes a new one.
    stream: str | None = None
    #: When anything authentic last came from the peer on the stream; None: never, or not known.
    heard_at: float | None = None
    #: When the connection was lost; None while connected or before the first connection.
    disconnected_at: float | None = None
    #: The connection was ended by the peer's kernel (FIN or RST), not by a timeout.
    closed_by_peer: bool = False
    #: As primary: both trees are being compared.
    verifying: bool = False
    #: As primary: how long the oldest unacknowledged operation has waited.
    oldest_wait: float = 0.0
    #: Own storage failed, or the engine refuses; a sentence.
    error: str | None = None
    #: As primary: the peer reported that it cannot apply operations; a sentence.
    dropped: str | None = None
    #: As primary: when its record said so durably, and when its first change was acknowledged. For the timeline only.
    recorded_at: float | None = None
    first_change_at: float | None = None


class Phase(StrEnum):
    """The application (``workload.WorkloadState.phase``)."""

    HELD = "Held"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    FAILED = "Failed"


@dataclass(frozen=True)
class WorkloadView:
    """The application on this node. ``FAILED``: it ended by itself in ``epoch`` and nothing of it runs."""

    phase: Phase = Phase.HELD
    epoch: int = 0
    detail: str = ""


@dataclass(frozen=True)
class LinkView:
    """One heartbeat link; ``heard_at`` None: nothing accepted on it since this process started."""

    name: str
    heard_at: float | None = None
    accepted: int = 0  #: signs of life on it since this process started; for the status only
    lost: int = 0  #: heartbeats that the peer sent on it and that never came; for the status only


@dataclass(frozen=True)
class PeerMessage:
    """What a node says about itself in each heartbeat: a JSON object of exactly these fields.

    Only the newest message counts, by (incarnation, sequence number) over all links together; datagrams of an
    incarnation that a newer one has replaced are not accepted.
    """

    node: str
    uid: str
    role: str = Role.WAITING.value
    reason: str = ""
    # the record
    fresh: bool = True
    has_data: bool = False
    generation: str = ""
    history: tuple[str, ...] = ()
    alone: bool = False
    consistent: bool = True
    last_role: str = "none"
    token: str | None = None
    stream: str | None = None
    # what it does
    serving: bool = False  #: holds the right to be the module's primary (acknowledging or not)
    claiming: bool = False  #: is about to take it: the receiver must not take it while this is said
    forced: bool = False  #: it claims by an administrator's order
    in_sync: bool = False  #: secondary that could be promoted
    fenced: bool = False  #: it woke up after being frozen, and asks who serves
    ask: str | None = None  #: id of the sender's present question (a claim, a fence, a leave)
    heard_ask: str | None = None  #: the newest ``ask`` of the receiver that the sender has taken note of
    dropping: str | None = None  #: primary: asks the receiver never to be promoted on this stream
    dropped: str | None = None  #: secondary: promises it
    handed_over: str | None = None  #: token of a completed hand-over: the receiver shall serve
    leaving: bool = False  #: ends now, will not be promoted any more
    app_failed: bool = False  #: the application failed here too often
    unfit: str | None = None  #: a checker of the node's surroundings failed; a sentence
    split_brain: bool = False
    favourite: str = ""  #: the node that wins where nothing else decides, by the sender's configuration
    overrides: str | None = (
        None  #: the administrator allowed that the receiver's data of this generation is discarded
    )
    # the module's desired state, the higher counter wins
    intent: int = 0
    stopped: bool = False
    held: bool = False
    # what the receiver must wait for before it takes over unasked; None: a release that does not say
    detection_timeout: float | None = None
    lease: float | None = None  #: the longest one that the sender may hold
    process: str = ""  #: the sender's process: with another one, other timing may hold
    heard_process: str | None = (
        None  #: the receiver's process that the sender's knowledge is of; None: of none
    )
    #: Age in ms of the newest heartbeat that the sender had received from the receiver; filled in by ``heartbeat``.
    hears_ms: float | None = None


@dataclass(frozen=True)
class PeerView:
    """What is known of the peer from heartbeats accepted by this process."""

    message: PeerMessage
    received_at: float
    #: When this node *sent* the newest own datagram that the peer's newest message echoes: what the peer says, it
    #: said after that moment. A datagram that lay in a buffer, however long, cannot fake it.
    acknowledged_at: float
    #: Identity of the peer's process.
    incarnation: str = ""


@dataclass(frozen=True)
class ProbeView:
    """The newest RFC 5227 probe of the virtual addresses."""

    started_at: float
    finished_at: float | None = None
    #: Addresses somebody else answered for; meaningful when finished.
    taken: tuple[str, ...] = ()
    #: The probe itself failed (no such interface, link down); a sentence.
    error: str | None = None


class Action(StrEnum):
    """Administrator's orders."""

    SWITCHOVER = "switchover"
    START = "start"
    STOP = "stop"
    RESTART = "restart"
    RESYNC = "resync"
    FORCE_PRIMARY = "force-primary"
    HOLD = "hold"
    RESUME = "resume"
    VERIFY = "verify"
    REPAIR = "repair"  #: verify, and give the secondary the primary's where they differ


@dataclass(frozen=True)
class Order:
    """An administrator's order to this node; the same id twice is the same order."""

    id: str
    action: Action
    user: str = ""
    discard_peer: bool = False


@dataclass(frozen=True)
class Outcome:
    """A slow effect ended. ``clean`` and ``token`` are StopPrimary's answer."""

    effect: Effect
    ok: bool = True
    message: str = ""
    clean: bool = False
    token: str | None = None
    #: HoldVip: the virtual addresses that another station has.
    taken: tuple[str, ...] = ()


@dataclass(frozen=True)
class Observation:
    """Everything a decision may look at. ``now`` is taken before the rest is gathered, never after."""

    now: float
    record: Record
    engine: EngineView
    workload: WorkloadView = WorkloadView()
    vip_held: bool = False
    links: tuple[LinkView, ...] = ()
    peer: PeerView | None = None
    probe: ProbeView | None = None
    witnesses: tuple[WitnessView, ...] = ()
    fence: FenceView | None = None
    #: The slow effect that runs now, if any.
    busy: Effect | None = None
    #: Slow effects that ended since the last call.
    outcomes: tuple[Outcome, ...] = ()
    #: Orders that came since the last call.
    orders: tuple[Order, ...] = ()
    #: The maintenance window in which the module may return to its preferred node is open (it always is without one).
    failback_window: bool = True
    #: Checkers that failed as often as their threshold says.
    complaints: tuple[Complaint, ...] = ()
    #: SIGTERM, pod deletion or node shutdown was announced.
    terminating: bool = False

    @property
    def heard_at(self) -> float | None:
        """When anything authentic last came from the peer, over any path."""
        times = [link.heard_at for link in self.links if link.heard_at is not None]
        if self.engine.heard_at is not None:
            times.append(self.engine.heard_at)
        return max(times, default=None)


# ---------------------------------------------------------------------------------------------- decision


@dataclass(frozen=True)
class Promotion:
    """This node has decided to take the primary's role; ``alone``: without the peer."""

    since: float
    alone: bool
    cause: str
    code: str
    #: The peer serves or may serve: it was promoted by silence, so the window counts (see Settings.alone_after).
    by_silence: bool = False


@dataclass(frozen=True)
class HandOver:
    """This primary is handing over; ``order`` is answered when the peer serves."""

    since: float
    cause: str
    order: str | None = None
    #: The orderly stop went wrong or the peer went away: back to serving, or to leaving.
    failed: str = ""


@dataclass(frozen=True)
class State:
    """What the decision remembers between calls, in memory only: a restarted process begins anew."""

    settings: Settings
    started_at: float
    persisted: Persisted = field(default_factory=Persisted)
    #: What is to be persisted next.
    to_persist: Persisted | None = None
    role: Role = Role.WAITING
    last_tick: float | None = None
    #: This node holds the primary's right (it may still be mounting, or fenced).
    serving: bool = False
    promotion: Promotion | None = None
    serving_since: float = 0.0
    #: Since when this node tells the peer that it wants to start, and waits for its consent.
    claim_since: float | None = None
    #: Id of this node's present question to the peer; its echo proves that the peer has taken note.
    ask: str | None = None
    #: The peer is known to hold newer data than this node: no solo start any more.
    outdated: bool = False
    #: Woken up after a freeze of ``frozen_for`` seconds, not yet sure that the peer did not take over.
    fenced_at: float | None = None
    frozen_for: float = 0.0
    #: Serving, and not alone: the end of the last write lease; see ``role/doubt.py``.
    writes_until: float | None = None
    #: Serving: since when the peer may have taken over unheard, so that nothing is acknowledged.
    doubted_since: float | None = None
    #: When this process last woke up from a freeze.
    woke_at: float | None = None
    #: Streams (or hand-over tokens) on which this node must not be promoted any more.
    distrusted: tuple[str, ...] = ()
    #: Secondary: the in-sync stream on which it stopped in order. A stopped secondary still holds everything
    #: acknowledged, which a primary that lost power meanwhile may not.
    kept: str | None = None
    #: Secondary: the peer's claim (its ``ask``) that this node has consented to.
    consented: str | None = None
    #: Primary: the stream on which it asks the peer not to be promoted.
    dropping: str | None = None
    #: Secondary: the answer to the peer's ``dropping``.
    dropped: str | None = None
    hand_over: HandOver | None = None
    #: Token of the hand-over that this process completed as the old primary.
    gave_token: str | None = None
    gave_at: float = 0.0
    epoch: int = 0
    failures: tuple[float, ...] = ()  #: times of application failures within the window
    failed_epoch: int = 0  #: the newest epoch whose failure was counted
    app_failed: bool = False
    closing: str | None = None  #: the application failed on both nodes: this one stops serving, and why
    left_at: float | None = None  #: when a failure last made this node hand over
    stop_cause: str = ""  #: the checker's complaint that stopped the module
    restart_order: str | None = None
    restart_epoch: int = 0
    switching: str | None = None  #: id of the switchover order whose hand-over is complete on this side
    resync_order: str | None = None
    verify: Action | None = None  #: VERIFY or REPAIR, ordered and not begun yet
    discard_allowed: str | None = None  #: what AllowDiscard was called with
    forced: str | None = None  #: id of the force-primary order that is being carried out
    fit_since: float | None = (
        None  #: primary: since when the preferred node could take over (role/failback.py)
    )
    #: Since when this node gives everything up and has not got rid of it.
    undoing_since: float | None = None
    leaving_since: float | None = None
    #: After a failed effect: not again before this time.
    retry_at: float = 0.0
    trouble: str = ""
    trouble_taken: tuple[str, ...] = ()  #: the trouble is that another station has these virtual addresses

    @property
    def process(self) -> str:
        """Names this process to the peer: no two of a node start at the same moment since its boot."""
        return f"{self.started_at:.6f}"

    @property
    def wished(self) -> Persisted:
        """What is to be persisted next, else what is: what a further wish builds on."""
        return self.to_persist or self.persisted

    def having(self, **changes: object) -> State:
        """This state with those fields changed; itself when they are so already.

        As ``dataclasses.replace``, without its cost: the decision is called many times a second and simulated
        millions of times.
        """
        fields = self.__dict__
        if all(fields[name] == value for name, value in changes.items()):
            return self
        other = object.__new__(State)
        other.__dict__.update(fields, **changes)
        return other


@dataclass(frozen=True)
class Answer:
    """What became of an order."""

    order: str
    state: Literal["running", "done", "failed"]
    message: str


@dataclass(frozen=True)
class Decision:
    """The outcome of one call: the state to pass to the next one, what to do, and why.

    ``effects``: the fast ones, then at most one slow one. ``message`` is to be published as heartbeat at once.
    ``reason`` is one sentence for people, ``code`` its stable CamelCase name for conditions and events.
    """

    state: State
    role: Role
    effects: tuple[Effect, ...]
    message: PeerMessage
    reason: str
    code: str
    answers: tuple[Answer, ...] = field(default=())
    #: Empty, or what this node must have given up and could not (a sentence).
    stuck: str = ""
