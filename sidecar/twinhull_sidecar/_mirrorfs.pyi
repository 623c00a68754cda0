"""The replication engine (Rust).

Every method is thread-safe, releases the GIL, and may block on disk unless it says otherwise. Times are
nanoseconds of CLOCK_BOOTTIME. The status is documented in
``sidecar/mirrorfs/src/engine/status.rs``, the configuration in ``engine/config.rs`` beside it.
"""

import os

class MirrorfsError(Exception):
    """An order could not be carried out; the message names what and the mend.

    ``foreign_module`` is there only when this node's data belong to another module: that one's UID.
    """

    foreign_module: str

class Engine:
    """One module's files on this node: record, stream, and (as primary) the FUSE mounts.

    At any time it is idle, primary (volumes mounted, application may run) or secondary (listening for the
    primary's stream, applying it to the backing directories).
    """

    def __init__(self, config: str) -> None:
        """``config`` is JSON, see ``EngineConfig`` in engine/config.rs. Takes the state directory for this
        process, adopts the data of the deleted module that ``config`` names, clears stale mounts, reads the record.

        Raises MirrorfsError on a damaged record, a foreign module's record, an unmarked backing directory, or a state
        directory that is in use.
        """
    def record(self) -> str:
        """The generation record as JSON: {"fresh": bool, "module", "node", "generation", "history": [...],
        "alone": bool, "consistent": bool, "last_role": "primary"|"secondary"|"none", "token": str|None,
        "has_data": bool, "adopted": str|None}. ``adopted``: the deleted module whose data were taken over when this
        engine was opened; ``fresh``: no record yet; ``has_data``: some backing directory has entries."""
    def initialise(self) -> None:
        """Make the first record of a new module: this node's files (or their absence) are the module's data."""
    def start_primary(self, alone: bool) -> None:
        """Mount and serve. ``alone``: the peer is outdated from now on; that is durable before this returns (R3), and
        the first local write makes a new generation, durable before it is acknowledged. Not ``alone``: operations
        wait for the peer until it is connected and in sync or :meth:`go_alone` is called. Mutating operations need
        a lease."""
    def go_alone(self) -> None:
        """As primary: the peer is outdated from now on (durable), waiting operations are released."""
    def stop_primary(self, timeout: float) -> str:
        """The application has stopped: drain the stream, flush both nodes, unmount, become idle.
        JSON {"clean": bool, "token": str|None}: ``clean`` when the peer has everything on stable storage; the
        token is then in both records, and lets the roles change without a resynchronisation."""
    def abort_primary(self) -> None:
        """At once: fail what waits with EIO, detach the mounts, become idle. Does not wait for the peer."""
    def start_secondary(self) -> None:
        """Listen for the primary and apply its stream. Idempotent."""
    def stop_secondary(self) -> str:
        """Apply nothing any more: when this returns no further operation is applied or acknowledged; become idle.
        JSON {"promotable": bool, "why": str, "token": str|None}."""
    def renew_lease(self, until_ns: int) -> None:
        """Operations may be acknowledged until then. Never blocks. Never moves the lease backwards."""
    def fence(self) -> None:
        """End the lease at once; a later :meth:`renew_lease` begins a new one. Never blocks."""
    def resync(self) -> None:
        """As primary: compare and copy everything again."""
    def verify(self, repair: bool) -> None:
        """As primary with its peer in sync: begin to compare both trees while the application works; the status's
        ``verify`` says how far. ``repair``: the secondary gets what the primary has where they differ, and where names
        differ by a full resynchronisation. Raises MirrorfsError when the peer is not in sync or one runs already."""
    def stop_verify(self) -> None:
        """As primary: end a verification early."""
    def allow_discard(self, peer_generation: str) -> None:
        """As primary: the administrator chose this side of a split brain; a peer with that generation may be
        overwritten, what only it has goes to its quarantine folder first."""
    def status(self) -> str:
        """Never blocks on disk or network. JSON {"mode": "idle"|"primary"|"secondary", "connected": bool,
        "in_sync": bool, "syncing": bool, "alone": bool, "lease_ns": int, "recorded_ns": int, "first_change_ns": int,
        "stream": str|None, "seq": int,
        "acked": int, "applied": int,
        "oldest_wait_ms": float, "since_change_ms": float, "disconnected_ms": float|None,
        "progress": {"bytes_done","bytes_total","files_done","files_total","bytes_sent",
        "seconds_left": float|None}|None,
        "resync_kind": "full"|"incremental"|None, "resync_reason": str|None, "journal": bool,
        "closed_by_peer": bool, "heard_ms": float|None,
        "peer_generation": str|None, "verdict": "same"|"behind"|"ahead"|"diverged"|"unrelated"|"fresh"|None,
        "error": str|None, "link_error": str|None, "dropped": str|None, "quarantine": str|None, "counters": {...},
        "verify": {"run": int, "running": bool, "repair": bool, "files": int, "bytes": int, "found": int,
        "repaired": int, "resync": bool, "stopped": str|None, "findings": [{"volume", "path", "what": "content"|"size"|
        "attributes"|"object"|"missing"|"surplus"|"type"|"unreadable", "offset", "len", "detail", "repaired"}]}|None}.
        ``progress``: totals are 0 until they are known; ``seconds_left``: None while it cannot be told.
        ``resync_kind``: what the present or last resynchronisation compares, ``resync_reason`` (primary) why so;
        ``journal``: whether changes are marked, so that the next one can be incremental.
        ``error``: this node's own disk or record fails; ``link_error``: why there is no session with the peer."""
    def event_fd(self) -> int:
        """An eventfd that becomes readable when :meth:`status` changed in anything but counters."""
    def close(self) -> None:
        """Abort whatever runs, unmount, release everything."""

def compare_trees(a: str | os.PathLike[str], b: str | os.PathLike[str]) -> list[str]:
    """The differences between two directory trees in all that replication keeps equal (names, types, contents, sizes,
    modes, owners, modification times, extended attributes, ACLs, hard links, holes), one a line, at most about a
    thousand; empty when they are equal. ``trusted.twinhull.*`` does not count.

    Raises OSError when a tree cannot be read. Releases the GIL.
    """
