"""What follows from one observation and the memory: silence, the peer's usable message, fitness for promotion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from twinhull_sidecar.role.lineage import Relation, compare
from twinhull_sidecar.role.model import Observation, PeerMessage, Settings, State, Timing


@dataclass(frozen=True)
class Facts:
    """Derived values; nothing here decides anything."""

    state: State
    seen: Observation

    @property
    def settings(self) -> Settings:
        """The module's settings."""
        return self.state.settings

    @property
    def now(self) -> float:
        """The time of the observation."""
        return self.seen.now

    @cached_property
    def silence(self) -> float:
        """Seconds without a sign of life over any path, counted at the earliest from this process's start or wake-up.

        After a freeze the receive buffers are full of old datagrams, so the wait begins anew.
        """
        since = max(self._heard_at, self.state.started_at, self.state.woke_at or 0.0)
        return self.now - since

    @property
    def _heard_at(self) -> float:
        """When the last sign of life came. While the peer may have taken over (``role/doubt.py``), what comes on the
        stream is none: it may have been on its way for long."""
        if self.state.doubted_since is None:
            return self.seen.heard_at or 0.0
        return max((link.heard_at for link in self.seen.links if link.heard_at is not None), default=0.0)

    @property
    def known_to_hear(self) -> float:
        """The last moment of which this node knows that the peer had heard it, or was there on the stream."""
        echoed = self.seen.peer.acknowledged_at if self.seen.peer is not None else 0.0
        return max(echoed, self.seen.engine.heard_at or 0.0, self.state.serving_since)

    @cached_property
    def quiet(self) -> float:
        """Seconds since the kernel got the last sign of life, for a node that waits to take over.

        Unlike :attr:`silence` it goes on over a short freeze: the kernel notes when each datagram came. For half the
        detection timeout after waking up it does not count, so that a peer which is there will be heard before. Else
        a machine too busy to run this process for a moment would miss its window after every wake-up.
        """
        woke = self.state.woke_at
        if woke is not None and self.now - woke < self.settings.lease:
            return self.silence
        return self.now - max(self.seen.heard_at or 0.0, self.state.started_at)

    @property
    def silent(self) -> bool:
        """The peer is lost as far as this node can tell."""
        return self.silence >= self.settings.detection_timeout

    @property
    def never_heard(self) -> bool:
        """No sign of life since this process started."""
        return self.seen.heard_at is None

    @cached_property
    def message(self) -> PeerMessage | None:
        """The peer's newest message if it is recent and was surely said after this node's last wake-up."""
        peer = self.seen.peer
        if peer is None or self.now - peer.received_at >= self.settings.detection_timeout:
            return None
        if self.state.woke_at is not None and peer.acknowledged_at < self.state.woke_at:
            return None
        return peer.message

    @cached_property
    def relation(self) -> Relation | None:
        """How this node's data relates to the peer's, where the peer's message is usable."""
        return None if self.message is None else compare(self.seen.record, self.message)

    @property
    def favourite(self) -> str:
        """The node that wins where nothing else decides; the first one while the two configurations disagree."""
        own, message = self.settings.favourite, self.message
        agreed = message is None or message.favourite in ("", own)
        return own if agreed else self.settings.nodes[0]

    @property
    def usable(self) -> bool:
        """This node's data may be served: no unfinished resynchronisation."""
        return not self.seen.record.fresh and self.seen.record.consistent

    @cached_property
    def basis(self) -> str | None:
        """On what ground this node could be promoted: its in-sync stream, or the token of its own hand-over.

        None: it must not be promoted (M1).
        """
        return None if self.peer_went_alone else self.ground

    @property
    def ground(self) -> str | None:
        """As :attr:`basis`, whatever the peer said last: that may be older than the stream."""
        engine, record, state = self.seen.engine, self.seen.record, self.state
        if (
            engine.mode == "secondary"
            and engine.in_sync
            and engine.stream
            and engine.stream not in state.distrusted
        ):
            return engine.stream
        if (
            engine.mode != "primary"
            and engine.stream is None
            and state.kept is not None
            and state.kept not in state.distrusted
            # A resynchronisation may have begun between the decision to stop the secondary and its end.
            and record.consistent
        ):
            return state.kept
        token = state.gave_token
        untouched = token is not None and record.token == token and record.consistent
        if untouched and token not in state.distrusted and engine.mode != "primary":
            return token
        return None

    @property
    def peer_went_alone(self) -> bool:
        """By its newest message the peer acknowledges without this node, or may.

        (Or this node's stream is newer than the message; then the next one tells.)
        """
        said, stream = self.seen.peer, self.seen.engine.stream
        return said is not None and said.message.alone and (stream is None or said.message.stream != stream)

    @property
    def within_window(self) -> bool:
        """The primary surely has not gone on alone yet.

        It does so at the earliest ``alone_after`` past the last datagram it got from this node, and it has got the
        one that its newest message echoes.
        """
        peer = self.seen.peer
        return peer is not None and self.now < peer.acknowledged_at + self.peer_timing.alone_after

    @cached_property
    def peer_timing(self) -> Timing:
        """What the peer announced last, however long ago; this node's own where it has announced nothing.

        A process never changes its timing. The peer may have been replaced by a process with longer leases that this
        node has not heard, but then that process does not serve before this node has (see :attr:`known_to_peer`).
        """
        own, said = self.settings.timing, self.seen.peer.message if self.seen.peer is not None else None
        if said is None or said.detection_timeout is None:
            return own
        return Timing(said.detection_timeout, max(said.lease or 0.0, said.detection_timeout / 2))

    @property
    def peer_is_fenced(self) -> bool:
        """The peer was powered off after it was heard last, and has not been heard since."""
        fence = self.seen.fence
        return fence is not None and fence.ok and fence.started_at > self.now - self.silence

    @property
    def failover_is_held(self) -> str:
        """Empty, or why this node does not take over unasked (the beginning of a sentence)."""
        # From the order on, not only from when it is on the disk; its end counts only once that is there.
        if self.state.persisted.held or self.state.wished.held:
            return "Failover is held by order; order resume to end that"
        if self.settings.failover == "Manual":
            return "failover.mode is Manual: order force-primary"
        return ""

    @property
    def known_to_peer(self) -> bool:
        """What the peer knows of this node, its timing too, it has from this very process, or it knows nothing.

        A process that was started with a longer timeout takes longer leases than the one before announced, and the
        peer, on whose word it starts to serve, would wait for the old ones only, if it lost this node at once. So a
        start on the peer's word waits for this. The other starts need no such wait: the consent to a claim proves the
        same, and a start unheard rests on a durable note that the peer is outdated, which a primary gets only when the
        peer has promised not to be promoted, has left, or is past its window.
        """
        return self.message is not None and self.message.heard_process in {None, self.state.process}

    @property
    def peer_took_note(self) -> bool:
        """The peer has read this node's present question."""
        return (
            self.message is not None
            and self.state.ask is not None
            and self.message.heard_ask == self.state.ask
        )

    @property
    def peer_is_unfit(self) -> bool:
        """A checker of the peer's surroundings failed: no reason to go there unasked, none against it by order."""
        return self.message is not None and self.message.unfit is not None

    @property
    def can_hand_over(self) -> str:
        """Empty, or why the primary's role cannot go to the peer now (the end of a sentence)."""
        peer, message, engine = self.settings.peer, self.message, self.seen.engine
        heard = self.seen.peer.received_at if self.seen.peer is not None else 0.0
        if message is None or self.now - heard > 4 * self.settings.interval:
            # The stream ends with a hand-over: without heartbeats neither node would know what became of it.
            return f"no heartbeat of {peer} has come for {self.now - heard:.1f} s"
        if not (engine.mode == "primary" and engine.connected and engine.in_sync and message.in_sync):
            return f"{peer} is not in sync"
        if message.leaving:
            return f"{peer} is leaving"
        if message.app_failed:
            return f"the application failed too often on {peer}"
        return ""
