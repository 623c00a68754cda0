"""Heartbeats over every configured link: the sockets, the timer and the counters around :mod:`.session`.

Everything runs in the event loop of the role decision, on purpose: a sidecar whose loop hangs falls silent.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import json
import logging
import secrets
import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinhull_sidecar.config import ConfigError, Link, ModuleConfig
from twinhull_sidecar.heartbeat.datagram import MAX_BYTES, Echo, RefusedError, Sealer
from twinhull_sidecar.heartbeat.session import ReceivedMessage, Session

log = logging.getLogger(__name__)

_SO_TIMESTAMPNS = 35  # asm-generic/socket.h; the socket module has no name for it
_IP_FREEBIND = 15  # linux/in.h
_IPV6_FREEBIND = 78  # linux/in6.h
_IPTOS_CS6 = 0xC0  # network control (RFC 4594)
_PRIORITY = 6  # socket(7) SO_PRIORITY, the highest without CAP_NET_ADMIN
_TIMESPEC = struct.Struct("=qq")
_BURST = 64  # datagrams read in one go, so that a flood leaves room for the loop's other work
_SHORTEST_ANSWER_GAP = 0.05
_SHORTEST_COMPLAINT_GAP = 10.0
_LEAST_FRESHNESS = 1.0
_ENVELOPE = 1024  # bytes kept for what surrounds the message in a datagram


@dataclass(frozen=True)
class LinkHealth:
    """When the last sign of life came over a link (CLOCK_BOOTTIME; None: never), and why sending fails.

    ``accepted``: how many came since this process started; ``lost``: how many the peer sent that never came.
    """

    heard_at: float | None
    error: str | None
    accepted: int = 0
    lost: int = 0


class Heartbeat:
    """Sends what :meth:`publish` was given each tenth of the detection timeout on every link and hears the peer.

    ``on_message`` is called in the event loop for each accepted heartbeat; only one with ``newest`` says how
    the peer is now. ``key`` is the module's shared secret.
    """

    def __init__(
        self, config: ModuleConfig, node: str, key: bytes, on_message: Callable[[ReceivedMessage], None]
    ) -> None:
        self._config = config
        self._node = node
        self._peer = config.peer_of(node)
        self._on_message = on_message
        self._interval = config.detection_timeout / 10
        self._sealer = Sealer(config.uid, key)
        self._session = Session(
            node,
            self._peer,
            secrets.token_hex(8),
            _now(),
            max(_LEAST_FRESHNESS, config.detection_timeout),
        )
        self._message: dict[str, Any] | None = None
        #: The timer has come in time since the message was last said to be true.
        self._true_at = _now()
        self._sockets: dict[str, socket.socket] = {}
        self._errors: dict[str, str] = {}
        self._answered_at: dict[str, float] = {}
        self._complained_at: dict[str, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        #: What counted for nothing, by kind: malformed, version, foreign, forged, misdirected, replayed.
        self.refused: Counter[str] = Counter()
        self._refusal: tuple[float, str] | None = None

    @property
    def incarnation(self) -> str:
        """This process's own random identity."""
        return self._session.incarnation

    def start(self) -> None:
        """Open a socket on every link, begin to hear and to send. Call it inside the event loop.

        An address that this node does not have now (link down) is no error: it may come. Raises ConfigError
        when the port is in use or a link has no address for this node.
        """
        loop = asyncio.get_running_loop()
        try:
            for index, link in enumerate(self._config.links):
                opened = self._open(index, link)
                self._sockets[link.name] = opened
                loop.add_reader(opened, self._readable, link, opened)
        except BaseException:
            self.close()
            raise
        self._tick()

    def publish(self, message: Mapping[str, Any]) -> None:
        """What is sent from now on (JSON-serialisable); at once when it differs from what was sent before.

        A process that was frozen for half the detection timeout sends nothing before it has published again:
        its leases have run out meanwhile, so what it said before may be false. Raises ValueError when it is too
        long for a datagram.
        """
        changed = dict(message)
        self._true_at = _now()
        if changed == self._message:
            return
        length = len(json.dumps(changed))
        if length > MAX_BYTES - _ENVELOPE:
            raise ValueError(f"a heartbeat message of {length} bytes is longer than {MAX_BYTES - _ENVELOPE}")
        self._message = changed
        self._send_all()

    def pace(self, peers_timeout: float | None) -> None:
        """Send often enough for a peer with that detection timeout as well (None: it is not known)."""
        shortest = min(self._config.detection_timeout, peers_timeout or self._config.detection_timeout)
        before, self._interval = self._interval, shortest / 10
        if self._interval < before and self._timer is not None:
            self._timer.cancel()
            self._tick()

    def links(self) -> dict[str, LinkHealth]:
        """Every link's health, in the order of the configuration."""
        return {
            link.name: LinkHealth(
                self._session.heard_at(link.name),
                self._errors.get(link.name),
                self._session.accepted(link.name),
                self._session.lost(link.name),
            )
            for link in self._config.links
        }

    def refusal(self) -> str | None:
        """The newest refused datagram of the last seconds, as a sentence for the status; None: there is none."""
        if self._refusal is None or _now() - self._refusal[0] > _SHORTEST_COMPLAINT_GAP:
            return None
        return self._refusal[1]

    def close(self) -> None:
        """Fall silent and close every socket. May be called twice."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for opened in self._sockets.values():
            asyncio.get_running_loop().remove_reader(opened)
            opened.close()
        self._sockets.clear()

    def _open(self, index: int, link: Link) -> socket.socket:
        field = f"links[{index}].addresses.{self._node}"
        address = link.addresses.get(self._node)
        if address is None or self._peer not in link.addresses:
            raise ConfigError(field, "is missing", "give each node's own address on the link")
        version = ipaddress.ip_address(address).version
        opened = socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM)
        try:
            opened.setblocking(False)
            opened.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            # Heartbeats go before bulk data; SO_PRIORITY last, because IP_TOS sets it, too.
            if version == 4:
                opened.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
                opened.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, _IPTOS_CS6)
            else:
                opened.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, _IPTOS_CS6)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, _PRIORITY)
            opened.bind((address, self._config.ports.heartbeat))
        except OSError as error:
            opened.close()
            port = self._config.ports.heartbeat
            if error.errno == errno.EADDRINUSE:
                message = f"UDP port {port} of {address} is in use"
                mend = "stop what uses it (ss -ulpn) or give the module another port"
                raise ConfigError("ports.heartbeat", message, mend) from None
            mend = "give this node's own address on the link"
            raise ConfigError(field, f"cannot listen on {address} ({error.strerror})", mend) from None
        return opened

    def _tick(self) -> None:
        if not self._stale():
            self._true_at = _now()
        self._send_all()
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._tick)

    def _stale(self) -> bool:
        return _now() - self._true_at >= self._config.detection_timeout / 2

    def _send_all(self) -> None:
        for link in self._config.links:
            self._send(link)

    def _send(self, link: Link, echo: Echo | None = None) -> None:
        opened = self._sockets.get(link.name)
        if opened is None or self._message is None or self._stale():
            return
        wire = self._sealer.seal(self._session.outgoing(link.name, self._message, _now(), echo))
        try:
            opened.sendto(wire, (link.addresses[self._peer], self._config.ports.heartbeat))
        except OSError as error:
            reason = error.strerror or str(error)
            if self._errors.get(link.name) != reason:
                log.warning("link %s: cannot send heartbeats to %s: %s", link.name, self._peer, reason)
            self._errors[link.name] = reason
        else:
            if self._errors.pop(link.name, None) is not None:
                log.info("link %s: heartbeats are sent again", link.name)

    def _readable(self, link: Link, opened: socket.socket) -> None:
        for _ in range(_BURST):
            try:
                wire, ancillary, _flags, source = opened.recvmsg(
                    MAX_BYTES + 1, socket.CMSG_SPACE(_TIMESPEC.size)
                )
            except OSError:
                # Nothing more to read; an interface that went down is reported by _send.
                return
            try:
                self._received(link, wire, _now() - _age(ancillary))
            except RefusedError as error:
                self._refuse(link, error, str(source[0]))

    def _received(self, link: Link, wire: bytes, received_at: float) -> None:
        judged = self._session.receive(self._sealer.open(wire), link.name, received_at)
        if isinstance(judged, ReceivedMessage):
            self._on_message(judged)
            return
        now = _now()
        # Without the gap, recordings played in a loop would be answered as fast as they come.
        if now - self._answered_at.get(link.name, -_SHORTEST_ANSWER_GAP) >= _SHORTEST_ANSWER_GAP:
            self._answered_at[link.name] = now
            self._send(link, judged.echo)

    def _refuse(self, link: Link, error: RefusedError, source: str) -> None:
        self.refused[error.kind] += 1
        now = _now()
        self._refusal = (now, f"link {link.name}: refused from {source}: {error}")
        if now - self._complained_at.get(error.kind, -_SHORTEST_COMPLAINT_GAP) >= _SHORTEST_COMPLAINT_GAP:
            self._complained_at[error.kind] = now
            count = self.refused[error.kind]
            log.warning("%s (%d such so far)", self._refusal[1], count)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _age(ancillary: list[tuple[int, int, bytes]]) -> float:
    """How long the datagram lay in the socket's buffer, in seconds: long after this process was frozen."""
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == _SO_TIMESTAMPNS:
            with contextlib.suppress(struct.error):
                seconds, nanoseconds = _TIMESPEC.unpack(data)
                return float(max(0.0, time.time() - seconds - nanoseconds / 1e9))
    return 0.0
