"""Interfaces and leased addresses of this node, by rtnetlink(7)."""

from __future__ import annotations

import errno
import ipaddress
import socket
import struct
from dataclasses import dataclass

from twinhull_sidecar.vip import netlink

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
IPNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_RTM_GETLINK, _RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 18, 20, 21, 22
_IFLA_ADDRESS, _IFLA_IFNAME = 1, 3
_IFA_ADDRESS, _IFA_LOCAL, _IFA_CACHEINFO, _IFA_FLAGS = 1, 2, 6, 8
_IFA_F_NODAD, _IFA_F_PERMANENT = 0x02, 0x80
_IFF_UP, _IFF_LOWER_UP = 0x1, 0x10000
_ARPHRD_ETHER = 1
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg
_CACHE = struct.Struct("=IIII")  # struct ifa_cacheinfo: preferred, valid, created, updated


@dataclass(frozen=True)
class Interface:
    """A network interface. ``carrier``: it is up and its cable is plugged in."""

    index: int
    name: str
    mac: bytes
    ethernet: bool
    carrier: bool


@dataclass(frozen=True)
class Assigned:
    """An address that an interface has. ``permanent``: without an end, so not one of ours."""

    index: int
    address: IPAddress
    prefix: int
    permanent: bool

    @property
    def network(self) -> IPNetwork:
        """The subnet that the address makes reachable."""
        return ipaddress.ip_network((self.address, self.prefix), strict=False)


def interfaces() -> list[Interface]:
    """All interfaces. Raises OSError."""
    found = []
    for body in netlink.dump(netlink.NETLINK_ROUTE, _RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)):
        _family, kind, index, flags, _change = _LINK.unpack_from(body)
        values = netlink.attributes(body[_LINK.size :])
        found.append(
            Interface(
                index=index,
                name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
                mac=values.get(_IFLA_ADDRESS, b""),
                ethernet=kind == _ARPHRD_ETHER,
                carrier=flags & _IFF_UP != 0 and flags & _IFF_LOWER_UP != 0,
            )
        )
    return found


def assigned() -> list[Assigned]:
    """All addresses of all interfaces. Raises OSError."""
    found = []
    for body in netlink.dump(netlink.NETLINK_ROUTE, _RTM_GETADDR, _ADDRESS.pack(0, 0, 0, 0, 0)):
        family, prefix, flags, _scope, index = _ADDRESS.unpack_from(body)
        if family not in {socket.AF_INET, socket.AF_INET6}:
            continue
        values = netlink.attributes(body[_ADDRESS.size :])
        raw = values.get(_IFA_LOCAL) or values.get(_IFA_ADDRESS)
        if raw is None:
            continue
        if _IFA_FLAGS in values:
            flags = struct.unpack("=I", values[_IFA_FLAGS])[0]
        permanent = flags & _IFA_F_PERMANENT != 0
        found.append(Assigned(index, ipaddress.ip_address(raw), prefix, permanent))
    return found


def lease(index: int, address: IPAddress, prefix: int, seconds: int) -> None:
    """Give an interface an address for ``seconds`` from now, or prolong it; the kernel removes it then.

    The kernel looks each second or so: it removes an address up to a second late and a quarter of a second
    early. No duplicate address detection: the caller has probed. Preferred lifetime 0 keeps the node
    from choosing the address as source of its own connections (RFC 4862 section 5.5.4). Raises OSError.
    """
    raw = address.packed
    body = (
        _header(index, address, prefix)
        + netlink.attribute(_IFA_LOCAL, raw)
        + netlink.attribute(_IFA_ADDRESS, raw)
        + netlink.attribute(_IFA_FLAGS, struct.pack("=I", _IFA_F_NODAD if address.version == 6 else 0))
        + netlink.attribute(_IFA_CACHEINFO, _CACHE.pack(0, seconds, 0, 0))
    )
    flags = netlink.NLM_F_CREATE | netlink.NLM_F_REPLACE
    netlink.request(netlink.NETLINK_ROUTE, netlink.Message(_RTM_NEWADDR, flags, body))


def remove(index: int, address: IPAddress, prefix: int) -> None:
    """Take an address off an interface; that it is gone already is no error. Raises OSError."""
    body = _header(index, address, prefix) + netlink.attribute(_IFA_LOCAL, address.packed)
    body += netlink.attribute(_IFA_ADDRESS, address.packed)
    try:
        netlink.request(netlink.NETLINK_ROUTE, netlink.Message(_RTM_DELADDR, 0, body))
    except OSError as error:
        if error.errno not in {errno.EADDRNOTAVAIL, errno.ENODEV}:
            raise


def _header(index: int, address: IPAddress, prefix: int) -> bytes:
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    return _ADDRESS.pack(family, prefix, 0, 0, index)
