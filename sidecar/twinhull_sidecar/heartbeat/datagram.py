"""The heartbeat datagram: what it carries, how it is sealed with the module's key, why one is refused.

Layout (all of it covered by the seal, except the seal itself)::

    0   4   magic "THHB"
    4   1   version
    5   8   module: first bytes of SHA-256 of the module's uid, which tells foreign from forged
    13  32  seal: HMAC-SHA256 (RFC 2104) over all other bytes
    45  ..  JSON object

The JSON is parsed only after the seal was verified: nothing that a stranger sends reaches the parser.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MAGIC = b"THHB"
VERSION = 1
#: Beyond it a datagram would depend on the reassembly of many IP fragments.
MAX_BYTES = 8192
_MODULE_BYTES = 8
_SEAL_BYTES = 32
_HEAD_BYTES = len(MAGIC) + 1 + _MODULE_BYTES
_BODY = _HEAD_BYTES + _SEAL_BYTES


class RefusedError(ValueError):
    """A datagram that counts for nothing: ``kind`` is one word for counting, the text is for people."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


@dataclass(frozen=True)
class Echo:
    """The newest datagram of the receiver that the sender knows: proof that the sender is not a recording."""

    incarnation: str
    seq: int


@dataclass(frozen=True)
class Datagram:
    """One heartbeat. ``seq`` grows with every datagram of an incarnation, over all links together.

    ``count`` counts those on this link: a gap is a loss. None: the sender is of a release that counts none.
    """

    sender: str
    receiver: str
    link: str
    incarnation: str
    seq: int
    echo: Echo | None
    payload: Mapping[str, Any]
    count: int | None = None


class Sealer:
    """Seals and opens the datagrams of one module."""

    def __init__(self, uid: str, key: bytes) -> None:
        # The module's key is shared with the replication stream: each use gets a key of its own.
        self._key = hmac.digest(key, b"twinhull heartbeat", "sha256")
        self._head = MAGIC + bytes([VERSION]) + hashlib.sha256(uid.encode()).digest()[:_MODULE_BYTES]

    def seal(self, datagram: Datagram) -> bytes:
        """The bytes on the wire. Raises ValueError when they would be more than :data:`MAX_BYTES`."""
        echo = datagram.echo and [datagram.echo.incarnation, datagram.echo.seq]
        body = json.dumps(
            {
                "from": datagram.sender,
                "to": datagram.receiver,
                "link": datagram.link,
                "incarnation": datagram.incarnation,
                "seq": datagram.seq,
                "count": datagram.count,
                "echo": echo,
                "payload": datagram.payload,
            },
            separators=(",", ":"),
        ).encode()
        wire = self._head + self._mac(body) + body
        if len(wire) > MAX_BYTES:
            raise ValueError(f"a heartbeat of {len(wire)} bytes is longer than {MAX_BYTES}")
        return wire

    def open(self, wire: bytes) -> Datagram:
        """The datagram in ``wire``. Raises RefusedError."""
        if len(wire) < _BODY or len(wire) > MAX_BYTES or not wire.startswith(MAGIC):
            raise RefusedError("malformed", f"{len(wire)} bytes that are no heartbeat")
        if wire[len(MAGIC)] != VERSION:
            raise RefusedError(
                "version",
                f"heartbeat version {wire[len(MAGIC)]}, this sidecar speaks {VERSION}: update the older one",
            )
        if wire[:_HEAD_BYTES] != self._head:
            raise RefusedError(
                "foreign", "a heartbeat of another module: two modules share a port and address"
            )
        if not hmac.compare_digest(wire[_HEAD_BYTES:_BODY], self._mac(wire[_BODY:])):
            raise RefusedError("forged", "a heartbeat not sealed with this module's key")
        try:
            return _read(json.loads(wire[_BODY:]))
        except (ValueError, KeyError, TypeError, RecursionError):
            raise RefusedError("malformed", "a sealed heartbeat without the expected fields") from None

    def _mac(self, body: bytes) -> bytes:
        return hmac.digest(self._key, self._head + body, "sha256")


def _read(body: Any) -> Datagram:
    echo = body["echo"]
    datagram = Datagram(
        sender=body["from"],
        receiver=body["to"],
        link=body["link"],
        incarnation=body["incarnation"],
        seq=body["seq"],
        echo=None if echo is None else Echo(*echo),
        payload=body["payload"],
        count=body.get("count"),
    )
    texts = [datagram.sender, datagram.receiver, datagram.link, datagram.incarnation]
    numbers = [datagram.seq, datagram.count if datagram.count is not None else 0]
    if datagram.echo is not None:
        texts.append(datagram.echo.incarnation)
        numbers.append(datagram.echo.seq)
    wrong = not all(isinstance(text, str) for text in texts) or not all(type(n) is int for n in numbers)
    if wrong or not isinstance(datagram.payload, dict):
        raise ValueError("a field has the wrong type")
    return datagram
