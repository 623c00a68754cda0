"""Which heartbeats are signs of life: the pure part of the exchange, without sockets and without a clock.

Each process draws a random *incarnation*. A datagram counts only when it echoes one of this process's own
datagrams, which no recording of an earlier life can, and when its number is higher than that of every
datagram before it on its link. The first datagram of a new incarnation cannot echo anything yet: it gets an
answer, and the datagram after that counts.

A datagram's number is the microsecond of the sender's own clock at which it was sent. So an echo tells the
process that gets it *when* it had sent what the peer has seen: all that the peer says, it said after that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from twinhull_sidecar.heartbeat.datagram import Datagram, Echo, RefusedError

_MICRO = 1_000_000
_REMEMBERED_INCARNATIONS = 256


@dataclass(frozen=True)
class ReceivedMessage:
    """An accepted heartbeat. Times are seconds of this node's own CLOCK_BOOTTIME.

    ``received_at``: when this node's kernel got it. ``acknowledged_at``: when this node sent the newest of
    its own datagrams that the peer had seen. ``newest``: nothing newer came over another link; only then
    does the payload say how the peer is now.
    """

    link: str
    payload: Mapping[str, Any]
    incarnation: str
    seq: int
    received_at: float
    acknowledged_at: float
    newest: bool


@dataclass(frozen=True)
class Answer:
    """The datagram is authentic but no sign of life yet: send one with this echo."""

    echo: Echo


class Session:
    """Both directions of the exchange with the peer, over all links.

    ``freshness`` (seconds) bounds how old the echo may be by which an unknown incarnation introduces itself.
    """

    def __init__(self, node: str, peer: str, incarnation: str, started_at: float, freshness: float) -> None:
        self.incarnation = incarnation
        self._node = node
        self._peer = peer
        self._freshness = freshness
        self._first = self._seq = int(started_at * _MICRO)
        self._current: str | None = None
        self._retired: deque[str] = deque(maxlen=_REMEMBERED_INCARNATIONS)
        self._last: dict[str, int] = {}
        self._newest = 0
        self._heard_at: dict[str, float] = {}
        self._accepted: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._counted: dict[str, int] = {}
        self._lost: dict[str, int] = {}

    def outgoing(
        self, link: str, payload: Mapping[str, Any], now: float, echo: Echo | None = None
    ) -> Datagram:
        """The next datagram on a link; ``hears_ms`` of the payload is filled in."""
        self._seq = max(self._seq + 1, int(now * _MICRO))
        if echo is None and self._current is not None:
            echo = Echo(self._current, self._newest)
        heard = max(self._heard_at.values(), default=None)
        self._sent[link] = self._sent.get(link, 0) + 1
        hears_ms = None if heard is None else round(max(0.0, now - heard) * 1000, 1)
        return Datagram(
            sender=self._node,
            receiver=self._peer,
            link=link,
            incarnation=self.incarnation,
            seq=self._seq,
            echo=echo,
            payload={**payload, "hears_ms": hears_ms},
            count=self._sent[link],
        )

    def receive(self, datagram: Datagram, link: str, received_at: float) -> ReceivedMessage | Answer:
        """Judge an authentic datagram that came over ``link``. Raises RefusedError."""
        self._check_way(datagram, link)
        known = datagram.incarnation == self._current
        if known:
            if datagram.seq <= self._last.get(link, 0):
                raise RefusedError("replayed", f"heartbeat {datagram.seq} came before on link {link}")
            self._last[link] = datagram.seq
            self._count(link, datagram.count)
        echo = datagram.echo
        if echo is None or echo.incarnation != self.incarnation:
            return Answer(Echo(datagram.incarnation, datagram.seq))
        if not self._first < echo.seq <= self._seq:
            raise RefusedError("malformed", f"echoes {echo.seq}, which was never sent")
        acknowledged_at = echo.seq / _MICRO
        if not known:
            if received_at - acknowledged_at > self._freshness:
                return Answer(Echo(datagram.incarnation, datagram.seq))
            self._begin(datagram.incarnation, link, datagram.seq)
            self._count(link, datagram.count)
        newest = datagram.seq > self._newest
        self._newest = max(self._newest, datagram.seq)
        self._heard_at[link] = max(received_at, self._heard_at.get(link, received_at))
        self._accepted[link] = self._accepted.get(link, 0) + 1
        return ReceivedMessage(
            link=link,
            payload=datagram.payload,
            incarnation=datagram.incarnation,
            seq=datagram.seq,
            received_at=received_at,
            acknowledged_at=acknowledged_at,
            newest=newest,
        )

    def heard_at(self, link: str) -> float | None:
        """When the last sign of life came over a link; None: never."""
        return self._heard_at.get(link)

    def accepted(self, link: str) -> int:
        """How many signs of life came over a link since this process started."""
        return self._accepted.get(link, 0)

    def lost(self, link: str) -> int:
        """How many datagrams the peer sent on a link that never came, or came after a later one.

        Counted when the next one comes: of a link that is down it stands still.
        """
        return self._lost.get(link, 0)

    def _count(self, link: str, count: int | None) -> None:
        before = self._counted.get(link)
        if count is None or count < 0:
            return
        if before is not None and count > before:
            self._lost[link] = self._lost.get(link, 0) + count - before - 1
        self._counted[link] = count

    def _begin(self, incarnation: str, link: str, seq: int) -> None:
        """The peer's process is a new one."""
        if self._current is not None:
            self._retired.append(self._current)
        self._current = incarnation
        self._last = {link: seq}
        self._counted = {}
        self._newest = 0

    def _check_way(self, datagram: Datagram, link: str) -> None:
        if datagram.sender != self._peer or datagram.receiver != self._node:
            raise RefusedError(
                "misdirected",
                f"a heartbeat from {datagram.sender!r} to {datagram.receiver!r}: reflected or misrouted",
            )
        if datagram.link != link:
            raise RefusedError(
                "misdirected",
                f"a heartbeat of link {datagram.link!r} came over {link!r}: check links[].addresses",
            )
        if datagram.incarnation in self._retired:
            raise RefusedError("replayed", "a heartbeat of a process that the peer has replaced")
