"""Netlink messages (netlink(7)) for the few requests of this part: encode, send, read the answer.

Written by hand because the general library costs 13 MiB of resident memory in each sidecar. Each exchange
has a socket of its own, so that no late answer of an earlier one can be taken for its own. Calls block (the
kernel answers within microseconds, but may wait for its locks): run them outside the event loop.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

NETLINK_ROUTE = 0
NETLINK_NETFILTER = 12

NLM_F_REQUEST = 0x1
NLM_F_ACK = 0x4
NLM_F_DUMP = 0x300
NLM_F_REPLACE = 0x100
NLM_F_EXCL = 0x200
NLM_F_CREATE = 0x400

_NLMSG_ERROR = 2
_NLMSG_DONE = 3
_NLA_F_NESTED = 0x8000
_NLA_TYPE_MASK = 0x3FFF
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_SECONDS = 3.0
_BUFFER = 1 << 16


@dataclass(frozen=True)
class Message:
    """One message: its type, flags and body (fixed header and attributes)."""

    kind: int
    flags: int
    body: bytes


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    length = _ATTRIBUTE.size + len(payload)
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length % 4)


def nested(kind: int, *attributes_: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | _NLA_F_NESTED, b"".join(attributes_))


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes in ``data`` by type; the last of equals wins, a truncated rest is ignored."""
    found = {}
    while len(data) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(data)
        if length < _ATTRIBUTE.size or length > len(data):
            break
        found[kind & _NLA_TYPE_MASK] = data[_ATTRIBUTE.size : length]
        data = data[length + -length % 4 :]
    return found


def request(protocol: int, message: Message) -> None:
    """Send one request and wait until the kernel has done it. Raises OSError with the kernel's errno."""
    batch(protocol, [message])


def batch(protocol: int, messages: Sequence[Message], begin: bytes = b"", end: bytes = b"") -> None:
    """Send requests as one datagram and wait until the kernel has done the last.

    ``begin`` and ``end`` are complete messages that surround a nfnetlink transaction. Raises OSError with the
    errno of the first request that failed.
    """
    wire = b"".join(
        frame(message, number, NLM_F_REQUEST | NLM_F_ACK) for number, message in enumerate(messages, start=1)
    )
    with _socket(protocol) as netlink:
        netlink.send(begin + wire + end)
        failed = 0
        for kind, number, body in _answers(netlink):
            if kind != _NLMSG_ERROR:
                continue
            code = -struct.unpack_from("=i", body)[0]
            failed = failed or code
            # An error of the surrounding messages (number 0) ends the transaction, too.
            if number in {0, len(messages)}:
                break
    if failed:
        raise OSError(failed, os.strerror(failed))


def dump(protocol: int, kind: int, body: bytes) -> list[bytes]:
    """The bodies of all objects that the request lists. Raises OSError."""
    found = []
    with _socket(protocol) as netlink:
        netlink.send(frame(Message(kind, NLM_F_DUMP, body), 1, NLM_F_REQUEST))
        for answer, _number, content in _answers(netlink):
            if answer == _NLMSG_DONE:
                break
            if answer == _NLMSG_ERROR:
                code = -struct.unpack_from("=i", content)[0]
                raise OSError(code, os.strerror(code))
            found.append(content)
    return found


def frame(message: Message, number: int, flags: int = NLM_F_REQUEST) -> bytes:
    """A message with its header."""
    length = _HEADER.size + len(message.body)
    return _HEADER.pack(length, message.kind, message.flags | flags, number, 0) + message.body


@contextlib.contextmanager
def _socket(protocol: int) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, protocol) as netlink:
        netlink.settimeout(_SECONDS)
        netlink.bind((0, 0))
        yield netlink


def _answers(netlink: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    while True:
        data = netlink.recv(_BUFFER)
        while len(data) >= _HEADER.size:
            length, kind, _flags, number, _pid = _HEADER.unpack_from(data)
            if length < _HEADER.size:
                break
            yield kind, number, data[_HEADER.size : length]
            data = data[length + -length % 4 :]
