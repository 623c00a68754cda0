"""The connections that conntrack knows of the farm's addresses, for tables that somebody flushed.

The sets of connections live in the farm's tables. Where those were lost (a firewall's restart), the kernel's
connection tracking still has what they held.
"""

from __future__ import annotations

import ipaddress
import socket
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from twinhull_sidecar.farm.elements import INET, Element, SetName, add, concatenation
from twinhull_sidecar.farm.plan import Service
from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.addresses import IPAddress

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_GENERIC_BYTES = 4  # struct nfgenmsg
# linux/netfilter/nfnetlink_conntrack.h
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _FILTER = 1, 2, 3, 4, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE = {4: 1, 6: 3}  # CTA_IP_V*_SRC
_DESTINATION = {4: 2, 6: 4}  # CTA_IP_V*_DST
_NUMBER, _SOURCE_PORT, _DESTINATION_PORT = 1, 2, 3  # CTA_PROTO_*
_INFO_TCP, _TCP_STATE = 1, 1
_FILTER_ORIG, _FILTER_REPLY, _BY_DESTINATION = 1, 2, 1 << 1
_ASSURED = 1 << 2  # IPS_ASSURED
_ESTABLISHED = 3  # TCP_CONNTRACK_ESTABLISHED
_TCP, _UDP = 6, 17
#: As :mod:`.ruleset` has them, in seconds.
ESTABLISHED, CLOSING, DATAGRAMS = 86400.0, 120.0, 180.0


@dataclass(frozen=True)
class Entry:
    """A connection to ``port``: its element's key and time in seconds, and who answers it."""

    protocol: int
    port: int
    key: bytes
    server: bytes
    seconds: float


def restore(table: str, services: Sequence[Service], pods: Sequence[str]) -> tuple[int, bool]:
    """Note the tracked connections of ``services`` as this node's own; how many.

    Those that lead elsewhere than to ``pods`` (empty: the application is on the node) are an earlier pod's:
    whether there are such. Raises OSError.
    """
    found, foreign = [], False
    known = {(one.address, one.protocol, one.port) for one in services}
    here = {ipaddress.ip_address(one).packed for one in pods}
    for address in sorted({one.address for one in services}, key=str):
        for body in _dump(address):
            entry = read(body, address.version)
            if entry is None or (address, entry.protocol, entry.port) not in known:
                continue
            if entry.server not in (here or {address.packed}):
                foreign = True
                continue
            name = f"{'tcp' if entry.protocol == _TCP else 'udp'}{address.version}"
            found.append((SetName(INET, name), Element(entry.key), entry.seconds))
    add(table, found)
    return len(found), foreign


def read(body: bytes, version: int) -> Entry | None:
    """One listed connection; None: it is of no use."""
    values = netlink.attributes(body)
    tuple_ = netlink.attributes(values.get(_TUPLE_ORIG, b""))
    reply = netlink.attributes(values.get(_TUPLE_REPLY, b""))
    addresses = netlink.attributes(tuple_.get(_TUPLE_IP, b""))
    ports = netlink.attributes(tuple_.get(_TUPLE_PROTO, b""))
    protocol = ports.get(_NUMBER, b"\0")[0]
    source, target = addresses.get(_SOURCE[version]), addresses.get(_DESTINATION[version])
    server = netlink.attributes(reply.get(_TUPLE_IP, b"")).get(_SOURCE[version])
    if protocol not in {_TCP, _UDP} or source is None or target is None or server is None:
        return None
    key = concatenation(source, ports[_SOURCE_PORT], target, ports[_DESTINATION_PORT])
    port = struct.unpack("!H", ports[_DESTINATION_PORT])[0]
    if protocol == _UDP:
        return Entry(protocol, port, key, server, DATAGRAMS)
    if not struct.unpack("!I", values.get(_STATUS, bytes(4)))[0] & _ASSURED:
        return None
    info = netlink.attributes(netlink.attributes(values.get(_PROTOINFO, b"")).get(_INFO_TCP, b""))
    state = info.get(_TCP_STATE, b"\0")[0]
    return Entry(protocol, port, key, server, ESTABLISHED if state == _ESTABLISHED else CLOSING)


def _dump(address: IPAddress) -> Iterator[bytes]:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    wanted = netlink.attribute(_DESTINATION[address.version], address.packed)
    # Kernels from 5.8 on list only what the filter names; older ones ignore it and list all.
    chosen = netlink.nested(
        _FILTER,
        netlink.attribute(_FILTER_ORIG, struct.pack("=I", _BY_DESTINATION)),
        netlink.attribute(_FILTER_REPLY, struct.pack("=I", 0)),
    )
    request = struct.pack("=BBH", family, 0, 0)
    request += netlink.nested(_TUPLE_ORIG, netlink.nested(_TUPLE_IP, wanted)) + chosen
    for body in netlink.dump(netlink.NETLINK_NETFILTER, _GET, request):
        content = body[_GENERIC_BYTES:]
        parts = netlink.attributes(netlink.attributes(content).get(_TUPLE_ORIG, b""))
        destination = netlink.attributes(parts.get(_TUPLE_IP, b"")).get(_DESTINATION[address.version])
        if destination == address.packed:
            yield content
