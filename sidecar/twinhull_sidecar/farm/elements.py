"""The leased elements of a farm's tables: encoded for nfnetlink and written in one transaction.

Each set here belongs to the farm as a whole: every write empties it and fills it anew. No packet sees the
steps between.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twinhull_sidecar.vip import netlink

INET, ARP, NETDEV = 1, 3, 5  # NFPROTO_*
_SUBSYSTEM = 10  # NFNL_SUBSYS_NFTABLES
_GET_TABLE, _GET_CHAIN = 1, 4  # NFT_MSG_*
_TABLE_NAME, _CHAIN_NAME = 1, 3  # NFTA_TABLE_NAME (and NFTA_CHAIN_TABLE), NFTA_CHAIN_NAME
_NEW, _DELETE = 12, 14  # NFT_MSG_*SETELEM
_BEGIN, _END = 0x10, 0x11  # NFNL_MSG_BATCH_*
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEMENT, _KEY, _DATA, _TIMEOUT = 1, 1, 2, 4  # NFTA_LIST_ELEM, NFTA_SET_ELEM_*
_VALUE, _VERDICT = 1, 2  # NFTA_DATA_*
_CODE, _CHAIN = 1, 2  # NFTA_VERDICT_*
_GOTO = -4  # NFT_GOTO
_GENERIC = struct.Struct("=BB")  # struct nfgenmsg without its last, big-endian field
# A message of many elements stays far below the 64 KiB of an attribute.
_CHUNK = 400


@dataclass(frozen=True)
class SetName:
    """A set or map of a farm's table in one family."""

    family: int
    name: str


@dataclass(frozen=True)
class Element:
    """``key`` and ``data``: the parts of a concatenation, each padded to 4 bytes. ``chain``: a verdict map's.

    ``milliseconds``: None lets the kernel take its time from the caller of :func:`write`.
    """

    key: bytes
    data: bytes = b""
    chain: str = ""


def concatenation(*parts: bytes) -> bytes:
    """The parts, each padded to the kernel's 4-byte registers."""
    return b"".join(part + bytes(-len(part) % 4) for part in parts)


def exists(table: str, chain: str | None = None) -> bool:
    """Whether the ``inet`` table, or a chain in it, is there. Raises OSError."""
    name = table.encode() + b"\0"
    body = _GENERIC.pack(INET, 0) + struct.pack("!H", 0) + netlink.attribute(_TABLE_NAME, name)
    kind = _GET_TABLE
    if chain is not None:
        kind = _GET_CHAIN
        body += netlink.attribute(_CHAIN_NAME, chain.encode() + b"\0")
    try:
        netlink.request(netlink.NETLINK_NETFILTER, netlink.Message(_SUBSYSTEM << 8 | kind, 0, body))
    except OSError as error:
        if error.errno == errno.ENOENT:
            return False
        raise
    return True


def write(table: str, contents: Iterable[tuple[SetName, Sequence[Element]]], seconds: float) -> None:
    """Let each set hold exactly these elements for ``seconds`` from now. Raises OSError (ENOENT: no table)."""
    messages = []
    for where, elements in contents:
        messages.append(_message(_DELETE, table, where, (), None))
        if elements:
            messages.append(_message(_NEW, table, where, elements, max(1, int(seconds * 1000))))
    _commit(messages)


def empty(table: str, names: Iterable[SetName]) -> None:
    """Take every element out of the sets. Raises OSError (ENOENT: no table)."""
    _commit([_message(_DELETE, table, where, (), None) for where in names])


def add(table: str, contents: Iterable[tuple[SetName, Element, float]]) -> None:
    """Add elements to sets, each for its seconds; those that exist stay as they are. Raises OSError."""
    groups: dict[tuple[SetName, float], list[Element]] = defaultdict(list)
    for where, element, seconds in contents:
        groups[where, seconds].append(element)
    for (where, seconds), elements in groups.items():
        for begin in range(0, len(elements), _CHUNK):
            chunk = elements[begin : begin + _CHUNK]
            _commit([_message(_NEW, table, where, chunk, max(1, int(seconds * 1000)))])


def _commit(messages: Sequence[netlink.Message]) -> None:
    if messages:
        netlink.batch(netlink.NETLINK_NETFILTER, messages, _edge(_BEGIN), _edge(_END))


def _message(
    kind: int, table: str, where: SetName, elements: Sequence[Element], milliseconds: int | None
) -> netlink.Message:
    body = _GENERIC.pack(where.family, 0) + struct.pack("!H", 0)
    body += netlink.attribute(_LIST_TABLE, table.encode() + b"\0")
    body += netlink.attribute(_LIST_SET, where.name.encode() + b"\0")
    if elements:
        body += netlink.nested(_LIST_ELEMENTS, *(_encode(one, milliseconds) for one in elements))
    flags = netlink.NLM_F_CREATE if kind == _NEW else 0
    return netlink.Message(_SUBSYSTEM << 8 | kind, flags, body)


def _encode(element: Element, milliseconds: int | None) -> bytes:
    parts = [netlink.nested(_KEY, netlink.attribute(_VALUE, element.key))]
    if element.chain:
        code = netlink.attribute(_CODE, struct.pack("!i", _GOTO))
        verdict = netlink.nested(_VERDICT, code, netlink.attribute(_CHAIN, element.chain.encode() + b"\0"))
        parts.append(netlink.nested(_DATA, verdict))
    elif element.data:
        parts.append(netlink.nested(_DATA, netlink.attribute(_VALUE, element.data)))
    if milliseconds is not None:
        parts.append(netlink.attribute(_TIMEOUT, struct.pack("!Q", milliseconds)))
    return netlink.nested(_ELEMENT, *parts)


def _edge(kind: int) -> bytes:
    body = _GENERIC.pack(socket.AF_UNSPEC, 0) + struct.pack("!H", _SUBSYSTEM)
    return netlink.frame(netlink.Message(kind, 0, body), 0)
