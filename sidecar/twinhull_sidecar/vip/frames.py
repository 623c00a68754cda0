"""Ethernet frames that announce and probe an address: ARP and Neighbour Discovery.

Sources: RFC 826, 5227 (ARP), 4861, 4862 (Neighbour Discovery). Pure: bytes in, bytes out.
"""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

ETHERTYPE_ARP = 0x0806
ETHERTYPE_IPV6 = 0x86DD

_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ARP_HEAD = (1, 0x0800, 6, 4)  # Ethernet, IPv4, their address lengths
_REQUEST, _REPLY = 1, 2
_ETHERNET = 14
_IPV6 = struct.Struct("!IHBB16s16s")
_ICMPV6 = 58
_HOP_LIMIT = 255
_SOLICITATION, _ADVERTISEMENT = 135, 136
_ROUTER, _OVERRIDE = 0x80000000, 0x20000000
_SOURCE_LINK_LAYER, _TARGET_LINK_LAYER = 1, 2
_ALL_NODES = ipaddress.IPv6Address("ff02::1")
_UNSPECIFIED = ipaddress.IPv6Address("::")


@dataclass(frozen=True)
class Claim:
    """Somebody else uses an address, or (``probing``) is about to: it probes for it itself."""

    address: ipaddress.IPv4Address | ipaddress.IPv6Address
    mac: bytes
    probing: bool


def gratuitous_arp(mac: bytes, address: ipaddress.IPv4Address) -> tuple[bytes, ...]:
    """An ARP announcement (RFC 5227 section 2.3) as request and as reply: some systems heed only one."""
    request = _arp(mac, _REQUEST, mac, address.packed, bytes(6), address.packed)
    reply = _arp(mac, _REPLY, mac, address.packed, _BROADCAST, address.packed)
    return request, reply


def arp_probe(mac: bytes, address: ipaddress.IPv4Address) -> bytes:
    """An ARP probe (RFC 5227 section 2.1.1): the sender's address is 0, so that no cache learns from it."""
    return _arp(mac, _REQUEST, mac, bytes(4), bytes(6), address.packed)


def arp_claim(frame: bytes, own: bytes, address: ipaddress.IPv4Address) -> Claim | None:
    """Whether a received ARP frame says that another station uses or probes ``address``."""
    if len(frame) < _ETHERNET + _ARP.size:
        return None
    *head, operation, sender_mac, sender, _target_mac, target = _ARP.unpack_from(frame, _ETHERNET)
    if tuple(head) != _ARP_HEAD or sender_mac == own:
        return None
    if sender == address.packed:
        return Claim(address, sender_mac, probing=False)
    if operation == _REQUEST and sender == bytes(4) and target == address.packed:
        return Claim(address, sender_mac, probing=True)
    return None


def unsolicited_advertisement(mac: bytes, address: ipaddress.IPv6Address, router: bool) -> bytes:
    """An unsolicited neighbour advertisement to all nodes (RFC 4861 section 7.2.6), which overrides caches.

    ``router``: this node forwards; hosts take a cleared flag as the end of a router (section 7.2.5).
    """
    flags = _OVERRIDE | (_ROUTER if router else 0)
    body = struct.pack("!I16sBB6s", flags, address.packed, _TARGET_LINK_LAYER, 1, mac)
    return _icmpv6(mac, address, _ALL_NODES, _ADVERTISEMENT, body)


def solicitation_probe(mac: bytes, address: ipaddress.IPv6Address) -> bytes:
    """A neighbour solicitation as in duplicate address detection (RFC 4862 section 5.4.2)."""
    body = struct.pack("!I16s", 0, address.packed)
    return _icmpv6(mac, _UNSPECIFIED, solicited_node(address), _SOLICITATION, body)


def neighbour_claim(frame: bytes, own: bytes, address: ipaddress.IPv6Address) -> Claim | None:
    """Whether a received ICMPv6 frame says that another station uses or probes ``address``."""
    if len(frame) < _ETHERNET + _IPV6.size + 24 or frame[6:12] == own:
        return None
    _flow, _length, protocol, hops, source, _target = _IPV6.unpack_from(frame, _ETHERNET)
    kind = frame[_ETHERNET + _IPV6.size]
    about = frame[_ETHERNET + _IPV6.size + 8 : _ETHERNET + _IPV6.size + 24]
    # Hop limit 255: it was not forwarded by a router (RFC 4861 section 11.2).
    if protocol != _ICMPV6 or hops != _HOP_LIMIT or about != address.packed:
        return None
    if kind == _ADVERTISEMENT:
        return Claim(address, frame[6:12], probing=False)
    if kind == _SOLICITATION and source == _UNSPECIFIED.packed:
        return Claim(address, frame[6:12], probing=True)
    return None


def solicited_node(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """The solicited-node multicast address (RFC 4291 section 2.7.1)."""
    return ipaddress.IPv6Address(bytes.fromhex("ff0200000000000000000001ff") + address.packed[13:])


def multicast_mac(address: ipaddress.IPv6Address) -> bytes:
    """The Ethernet address of an IPv6 multicast address (RFC 2464 section 7)."""
    return b"\x33\x33" + address.packed[12:]


def _arp(source: bytes, operation: int, *addresses: bytes) -> bytes:
    ethernet = _BROADCAST + source + struct.pack("!H", ETHERTYPE_ARP)
    return ethernet + _ARP.pack(*_ARP_HEAD, operation, *addresses)


def _icmpv6(
    mac: bytes, source: ipaddress.IPv6Address, target: ipaddress.IPv6Address, kind: int, body: bytes
) -> bytes:
    length = 4 + len(body)
    pseudo = source.packed + target.packed + struct.pack("!II", length, _ICMPV6)
    checksum = _checksum(pseudo + struct.pack("!BBH", kind, 0, 0) + body)
    ethernet = multicast_mac(target) + mac + struct.pack("!H", ETHERTYPE_IPV6)
    header = _IPV6.pack(6 << 28, length, _ICMPV6, _HOP_LIMIT, source.packed, target.packed)
    return ethernet + header + struct.pack("!BBH", kind, 0, checksum) + body


def _checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
