"""The replication engine's semantics, as sidecar/mirrorfs defines them: one ordered stream, its window of
unacknowledged operations, resumption, resynchronisation in its order of durable steps, tokens, the lease.

A connection's frames arrive in order; while a direction is cut or the receiver is frozen they wait, as in TCP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.simulation.network import STREAM
from tests.simulation.world import T
from twinhull_sidecar.role.lineage import Relation, compare
from twinhull_sidecar.role.model import EngineView

if TYPE_CHECKING:
    from tests.simulation.node import Node

PEER_TIMEOUT = T
KEEPALIVE = T / 4
DIAL = T / 8


class Connection:
    """One TCP connection between a primary's and a secondary's engine; ends fail apart."""

    __slots__ = ("alive", "ends", "nodes", "queues", "scheduled")

    def __init__(self, primary: Node, secondary: Node) -> None:
        self.nodes = (primary, secondary)
        self.ends: tuple[Engine, Engine] = (primary.engine, secondary.engine)
        self.alive = [True, True]
        self.queues: tuple[deque[tuple[float, tuple[Any, ...]]], ...] = (deque(), deque())
        self.scheduled = [False, False]

    def send(self, sender: Engine, frame: tuple[Any, ...]) -> None:
        """Queue a frame for the other end."""
        side = 0 if sender is self.ends[0] else 1
        network, world = self.nodes[0].network, self.nodes[0].world
        queue = self.queues[side]
        due = world.now + network.transit()
        if queue:
            due = max(due, queue[-1][0])
        queue.append((due, frame))
        if not self.scheduled[side]:
            self.scheduled[side] = True
            world.at(due, lambda: self.deliver(side))

    def deliver(self, side: int) -> None:
        """Hand over what has arrived from ``side``; called again when a path heals or the receiver wakes."""
        self.scheduled[side] = False
        receiver, world, queue = 1 - side, self.nodes[0].world, self.queues[side]
        node, engine = self.nodes[receiver], self.ends[receiver]
        if not self.alive[receiver] or node.engine is not engine or not node.alive:
            queue.clear()
            return
        if node.frozen or not node.network.up(STREAM, self.nodes[side].index):
            return
        while queue and queue[0][0] <= world.now:
            _, frame = queue.popleft()
            engine.receive(self, frame)
            if not self.alive[receiver]:
                queue.clear()
                return
        if queue and not self.scheduled[side]:
            self.scheduled[side] = True
            world.at(queue[0][0], lambda: self.deliver(side))

    def close(self, engine: Engine) -> None:
        """One end closes; the other reads the end of the stream after what was sent before."""
        side = 0 if engine is self.ends[0] else 1
        if self.alive[side]:
            self.alive[side] = False
            self.send(engine, ("fin",))


class Engine:
    """One process's engine."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.mode = "idle"
        self.connection: Connection | None = None
        self.stream: str | None = None
        self.in_sync = False
        self.syncing = False
        self.free = False  # primary: operations need no acknowledgement (peer durably inconsistent)
        self.heard_at: float | None = None
        self.disconnected_at: float | None = None
        self.closed_by_peer = False
        self.lease_until = 0.0
        self.bumped = False
        self.waiting: list[int] = []  # applied here, not yet acknowledged to the application
        self.confirmed: set[int] = set()  # of these, applied by the peer
        self.discard: str | None = None
        self.on_stop: Callable[[bool, str | None], None] | None = None
        self.sessions = 0

    # ------------------------------------------------------------------------------------------ views

    def view(self) -> EngineView:
        """What Engine.status() says."""
        return EngineView(
            mode=self.mode,  # type: ignore[arg-type]
            connected=self.connection is not None,
            in_sync=self.in_sync,
            syncing=self.syncing,
            alone=self.node.disk.record.alone,
            stream=self.stream,
            heard_at=self.heard_at,
            disconnected_at=self.disconnected_at,
            closed_by_peer=self.closed_by_peer,
        )

    def leased(self) -> bool:
        """Operations may be acknowledged now."""
        return self.lease_until > self.node.world.now

    def record(self, **changes: Any) -> None:
        """A durable change of the record."""
        self.node.disk.record = replace(self.node.disk.record, **changes)

    # ----------------------------------------------------------------------------------------- orders

    def initialise(self) -> None:
        """The module's first record."""
        if self.node.disk.record.fresh:
            self.record(fresh=False, generation=self.node.new_id("g"), consistent=True)

    def start_primary(self, alone: bool) -> None:
        """Mount; ``alone`` durable first."""
        if self.mode != "idle":
            raise RuntimeError(f"start_primary while {self.mode}")
        record = self.node.disk.record
        if alone and not record.alone:
            self.record(alone=True)
        # Being alone is not having written alone: a node that was alone before may still hold the shared generation.
        self.bumped = record.generation != self.node.disk.shared
        self.record(last_role="primary")
        self.mode, self.stream, self.in_sync, self.syncing, self.free = "primary", None, False, False, False
        self.disconnected_at, self.closed_by_peer, self.heard_at = None, False, None
        self.waiting, self.confirmed = [], set()

    def go_alone(self, stream: str | None) -> None:
        """Durable, then release what waits, under a new generation."""
        if self.mode != "primary" or self.node.disk.record.alone:
            return
        if self.connection is not None and self.in_sync and self.stream != stream:
            return
        self.drop(fin=True)
        self.stream, self.in_sync, self.syncing, self.free = None, False, False, False
        self.record(alone=True)
        self.bumped = self.node.disk.record.generation != self.node.disk.shared
        if self.waiting:
            self._bump()
        self.release()

    def stop_primary(self, done: Callable[[bool, str | None], None]) -> None:
        """Drain, flush both, leave a token in both records (the secondary's first)."""
        if self.connection is not None and self.in_sync:
            token = self.node.new_id("t")
            self.on_stop = done
            self.connection.send(self, ("stop", token))
            return
        self._stopped(done, None)

    def _stopped(self, done: Callable[[bool, str | None], None], token: str | None) -> None:
        self.on_stop = None
        if self.mode == "primary":
            if token is not None:
                self.record(token=token, last_role="secondary")
            self.node.disk.durable = len(self.node.disk.data)
            self.idle()
        done(token is not None, token)

    def idle(self) -> None:
        """Close the stream, fail what waits."""
        self.drop(fin=True)
        self.mode, self.stream, self.in_sync, self.syncing, self.free = "idle", None, False, False, False
        self.waiting, self.confirmed = [], set()
        if self.on_stop is not None:
            done, self.on_stop = self.on_stop, None
            done(False, None)

    def start_secondary(self) -> None:
        """A secondary is not alone: whatever it wrote alone is not the module's data any more."""
        if self.mode != "idle":
            return
        self.record(alone=False, last_role="secondary")
        self.mode, self.stream, self.in_sync = "secondary", None, False
        self.disconnected_at, self.closed_by_peer, self.heard_at = None, False, None

    # ------------------------------------------------------------------------------------- operations

    def write(self, op: int, *, flush: bool) -> bool:
        """The application's operation: applied here, then streamed. False: it blocks on the lease."""
        disk = self.node.disk
        if self.mode != "primary" or not self.leased() or self.on_stop is not None:
            return False
        if disk.record.alone:
            self._bump()
        if disk.record.token is not None:
            self.record(token=None)
        disk.data.append(op)
        if flush:
            disk.durable = len(disk.data)
        self.waiting.append(op)
        if self.connection is not None and (self.in_sync or self.syncing):
            self.connection.send(self, ("op", op, flush))
        self.release()
        return True

    def _bump(self) -> None:
        if not self.bumped:
            record = self.node.disk.record
            self.bumped = True
            self.record(generation=self.node.new_id("g"), history=(record.generation, *record.history)[:64])

    def release(self) -> None:
        """Acknowledge to the application what may be acknowledged."""
        if not self.leased() or self.mode != "primary":
            return
        alone = (self.node.disk.record.alone and self.bumped) or self.free
        while self.waiting and (alone or self.waiting[0] in self.confirmed):
            op = self.waiting.pop(0)
            self.node.acknowledge(op)

    # ----------------------------------------------------------------------------------------- stream

    def tick(self) -> None:
        """Keepalive, death of a silent connection, dialling; called each DIAL."""
        now, connection = self.node.world.now, self.connection
        if connection is not None:
            connection.send(self, ("keepalive",))
            if self.heard_at is not None and now - self.heard_at > PEER_TIMEOUT:
                self.drop(fin=True)
        elif self.mode == "primary" and self.on_stop is None:
            self._dial()

    def drop(self, *, fin: bool) -> None:
        """The connection is over for this end."""
        connection = self.connection
        if connection is None:
            return
        self.connection = None
        self.disconnected_at = self.node.world.now
        self.closed_by_peer = not fin
        self.sessions += 1
        if self.mode == "primary":
            self.syncing = self.free = False
            self.in_sync = False
        else:
            self.syncing = False
        connection.close(self)
        if self.on_stop is not None:
            done = self.on_stop
            self._stopped(done, None)
        self.node.wake_soon()

    def _dial(self) -> None:
        peer = self.node.peer
        reachable = self.node.network.whole(STREAM) and peer.alive and not peer.frozen
        other = peer.engine
        if not reachable or other.mode != "secondary" or other.connection is not None:
            return
        mine, theirs = self.node.disk.record, peer.disk.record
        relation = compare(mine, theirs)
        refused = relation is Relation.BEHIND or (
            relation is Relation.DIVERGED and self.discard != theirs.generation
        )
        if refused:
            return
        connection = Connection(self.node, peer)
        for engine in (self, other):
            engine.connection, engine.heard_at = connection, self.node.world.now
            engine.disconnected_at, engine.closed_by_peer = None, False
        if self.stream is not None and other.stream == self.stream and other.in_sync and not mine.alone:
            self._resume(connection, other)
        elif mine.token is not None and mine.token == theirs.token and theirs.consistent:
            self.stream = self.node.new_id("s")
            self._finish(connection)
        else:
            self.stream = self.node.new_id("s")
            self.in_sync = False
            self.syncing = True
            connection.send(self, ("begin", self.stream))
        self.node.wake_soon()

    def _resume(self, connection: Connection, other: Engine) -> None:
        """The secondary still has its place in the stream: send again what it has not applied."""
        self.in_sync = True
        data, theirs = self.node.disk.data, other.node.disk.data
        known = len(theirs)
        self.confirmed.update(op for op in data[:known] if op in self.waiting)
        for op in data[known:]:
            connection.send(self, ("op", op, False))
        self.release()

    def _resynchronised(self, session: int) -> None:
        """All is copied: wait for acknowledgements from now on, then alone=false durable, then SyncDone."""
        if session != self.sessions or self.connection is None or not self.syncing:
            return
        if self.node.frozen:
            self.node.world.after(T / 4, lambda: self._resynchronised(session))
            return
        self.free = False
        self._finish(self.connection)

    def _finish(self, connection: Connection) -> None:
        self.node.disk.shared = self.node.disk.record.generation
        self.bumped = False
        self.record(alone=False)
        self.syncing = True
        disk = self.node.disk
        record = disk.record
        connection.send(self, ("done", self.stream, list(disk.data), record.generation, record.history))
        self.node.wake_soon()

    def receive(self, connection: Connection, frame: tuple[Any, ...]) -> None:
        """One frame from the peer."""
        if connection is not self.connection:
            return
        self.heard_at = self.node.world.now
        kind, disk = frame[0], self.node.disk
        if kind == "fin":
            self.drop(fin=False)
            self.closed_by_peer = True
        elif kind == "op":
            self._apply(connection, frame[1], frame[2])
        elif kind == "ack":
            self.confirmed.add(frame[1])
            self.release()
        elif kind == "begin":
            self.in_sync, self.syncing, self.stream = False, True, frame[1]
            self.record(consistent=False, token=None)
            disk.mixed = True
            connection.send(self, ("begun",))
            self.node.wake_soon()
        elif kind == "begun":
            self.free = True
            self.release()
            session = self.sessions
            self.node.world.after(self.node.resync_time(), lambda: self._resynchronised(session))
        elif kind == "done":
            _, self.stream, data, generation, history = frame
            disk.data, disk.mixed, disk.durable = data, False, len(data)
            self.record(fresh=False, generation=generation, history=history, consistent=True, alone=False)
            disk.shared = generation
            self.in_sync, self.syncing = True, False
            self.node.history.secondary_in_sync(self.node)
            connection.send(self, ("done-ack", len(data)))
            self.node.wake_soon()
        elif kind == "done-ack":
            self.in_sync, self.syncing = True, False
            self.confirmed.update(disk.data[: frame[1]])
            self.release()
            self.node.wake_soon()
        elif kind == "stop":
            disk.durable = len(disk.data)
            self.record(token=frame[1])
            connection.send(self, ("stopped", frame[1]))
        elif kind == "stopped" and self.on_stop is not None:
            self._stopped(self.on_stop, frame[1])

    def _apply(self, connection: Connection, op: int, flush: bool) -> None:
        disk = self.node.disk
        if disk.mixed:
            connection.send(self, ("ack", op))
            return
        if op not in disk.data[-8:]:  # a repetition is applied once
            disk.data.append(op)
        if disk.record.token is not None:
            self.record(token=None)
        if flush:
            disk.durable = len(disk.data)
        self.node.history.applied(self.node)
        connection.send(self, ("ack", op))
