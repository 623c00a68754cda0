"""Tracked connections of an address, by ctnetlink (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import errno
import socket
import struct

from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.addresses import IPAddress

_GET, _DELETE = 1 << 8 | 1, 1 << 8 | 2  # NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_*
_TUPLE_ORIG, _ZONE, _FILTER = 1, 18, 25  # CTA_*
_TUPLE_IP = 1  # CTA_TUPLE_IP
_V4_DST, _V6_DST = 2, 4  # CTA_IP_*
_FILTER_ORIG, _FILTER_REPLY = 1, 2  # CTA_FILTER_*_FLAGS
_BY_DESTINATION = 1 << 1  # CTA_FILTER_F_CTA_IP_DST
_GENERIC_BYTES = 4  # struct nfgenmsg


def forget(address: IPAddress) -> int:
    """Forget every connection to ``address``, so that its next packet is routed and translated anew.

    Only a connection's first packet passes the translation: without this a steady stream of datagrams from
    this node or its pods would follow the old way for ever. Returns how many were forgotten. Raises
    OSError.
    """
    family, kind = (socket.AF_INET, _V4_DST) if address.version == 4 else (socket.AF_INET6, _V6_DST)
    head = struct.pack("=BBH", family, 0, 0)
    wanted = netlink.nested(_TUPLE_ORIG, netlink.nested(_TUPLE_IP, netlink.attribute(kind, address.packed)))
    # Kernels from 5.8 on list only what the filter names; older ones ignore it and list all.
    chosen = netlink.nested(
        _FILTER,
        netlink.attribute(_FILTER_ORIG, struct.pack("=I", _BY_DESTINATION)),
        netlink.attribute(_FILTER_REPLY, struct.pack("=I", 0)),
    )
    forgotten = 0
    for body in netlink.dump(netlink.NETLINK_NETFILTER, _GET, head + wanted + chosen):
        values = netlink.attributes(body[_GENERIC_BYTES:])
        tracked = values.get(_TUPLE_ORIG, b"")
        addresses = netlink.attributes(netlink.attributes(tracked).get(_TUPLE_IP, b""))
        if addresses.get(kind) != address.packed:
            continue
        request = head + netlink.nested(_TUPLE_ORIG, tracked)
        if _ZONE in values:
            request += netlink.attribute(_ZONE, values[_ZONE])
        try:
            netlink.request(netlink.NETLINK_NETFILTER, netlink.Message(_DELETE, 0, request))
        except OSError as error:
            # It ended by itself meanwhile.
            if error.errno != errno.ENOENT:
                raise
        else:
            forgotten += 1
    return forgotten
