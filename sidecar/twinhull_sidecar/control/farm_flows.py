"""How many connections this node serves through a farm's addresses, as connection tracking knows them.

What the announcer forwards to the peer passes its tracking by; what it serves itself does not.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass

from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.addresses import IPAddress

_GET = 1 << 8 | 1  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_GET
_GENERIC_BYTES = 4  # struct nfgenmsg
# linux/netfilter/nfnetlink_conntrack.h
_TUPLE_ORIG, _TUPLE_REPLY, _STATUS, _PROTOINFO, _FILTER = 1, 2, 3, 4, 25
_TUPLE_IP, _TUPLE_PROTO = 1, 2
_SOURCE, _DESTINATION = {4: 1, 6: 3}, {4: 2, 6: 4}  # CTA_IP_*
_NUMBER = 1  # CTA_PROTO_NUM
_INFO_TCP, _TCP_STATE = 1, 1
_FILTER_ORIG, _FILTER_REPLY, _BY_DESTINATION = 1, 2, 1 << 1
_ASSURED = 1 << 2  # IPS_ASSURED
#: TCP_CONNTRACK_ESTABLISHED, FIN_WAIT, CLOSE_WAIT, LAST_ACK: at least one side may still send.
_OPEN = {3, 4, 5, 6}
_TCP, _UDP = 6, 17


@dataclass(frozen=True)
class Flows:
    """Open TCP connections; UDP flows that are remembered for some minutes after their last datagram."""

    tcp: int = 0
    udp: int = 0

    @property
    def total(self) -> int:
        """Both."""
        return self.tcp + self.udp


def count(addresses: Collection[IPAddress], elsewhere: Collection[str]) -> Flows:
    """The flows to ``addresses``, but for those that an address in ``elsewhere`` answers. Blocks; raises OSError."""
    tcp = udp = 0
    for address in addresses:
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
        others = {
            socket.inet_pton(family, one) for one in elsewhere if (":" in one) == (address.version == 6)
        }
        for body in netlink.dump(netlink.NETLINK_NETFILTER, _GET, request):
            protocol = open_flow(body[_GENERIC_BYTES:], address, others)
            tcp += protocol == _TCP
            udp += protocol == _UDP
    return Flows(tcp, udp)


def open_flow(entry: bytes, address: IPAddress, elsewhere: Collection[bytes]) -> int | None:
    """The protocol number of a listed flow to ``address``; None: it is another's, or over."""
    values = netlink.attributes(entry)
    original = netlink.attributes(values.get(_TUPLE_ORIG, b""))
    ways = netlink.attributes(original.get(_TUPLE_IP, b""))
    if ways.get(_DESTINATION[address.version]) != address.packed:
        return None
    reply = netlink.attributes(netlink.attributes(values.get(_TUPLE_REPLY, b"")).get(_TUPLE_IP, b""))
    if reply.get(_SOURCE[address.version]) in elsewhere:
        return None
    protocol = netlink.attributes(original.get(_TUPLE_PROTO, b"")).get(_NUMBER, b"\0")[0]
    if protocol == _UDP:
        return _UDP
    status = struct.unpack("!I", values.get(_STATUS, bytes(4)))[0]
    info = netlink.attributes(netlink.attributes(values.get(_PROTOINFO, b"")).get(_INFO_TCP, b""))
    is_open = protocol == _TCP and status & _ASSURED and info.get(_TCP_STATE, b"\0")[0] in _OPEN
    return _TCP if is_open else None
