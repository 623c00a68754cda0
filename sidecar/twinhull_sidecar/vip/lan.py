"""Announcing and probing addresses on the LAN: packet(7) sockets around :mod:`.frames`."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import ipaddress
import socket
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from twinhull_sidecar.vip import frames
from twinhull_sidecar.vip.addresses import IPAddress
from twinhull_sidecar.vip.placement import Placement

#: RFC 5227 sends three probes, seconds apart; here the role decision's time limit spaces them.
PROBES = 3
_SO_ATTACH_FILTER = 26
_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, _PACKET_MR_MULTICAST = 263, 1, 0
_FRAME = 2048
# linux/filter.h: let only ICMPv6 neighbour solicitations and advertisements through to this process.
_NEIGHBOUR_DISCOVERY = (
    (0x30, 0, 0, 20),  # ldb [20]            IPv6 next header
    (0x15, 0, 4, 58),  # jeq #58 else drop   ICMPv6
    (0x30, 0, 0, 54),  # ldb [54]            ICMPv6 type
    (0x15, 1, 0, 135),  # jeq #135, pass     solicitation
    (0x15, 0, 1, 136),  # jeq #136 else drop advertisement
    (0x06, 0, 0, 0xFFFF),  # pass
    (0x06, 0, 0, 0),  # drop
)


def announce(placements: Sequence[Placement]) -> None:
    """Tell every station on the LAN, once, that the addresses are here now. Raises OSError."""
    # One socket for all: the kernel takes some 15 ms to close one.
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        for placement in placements:
            mac, name = placement.interface.mac, placement.interface.name
            if isinstance(placement.address, ipaddress.IPv4Address):
                kind, sent = frames.ETHERTYPE_ARP, frames.gratuitous_arp(mac, placement.address)
            else:
                kind = frames.ETHERTYPE_IPV6
                sent = (frames.unsolicited_advertisement(mac, placement.address, _forwards(name)),)
            for frame in sent:
                opened.sendto(frame, (name, kind))


class Probe:
    """Asks the LAN who has the addresses of ``placements`` (RFC 5227 section 2.1, RFC 4862 section 5.4).

    ``counts``: whether a claim is of interest; None: every one is.
    :meth:`open` may block on the kernel's locks; :meth:`run` is for the event loop. Use as a context manager.
    """

    def __init__(
        self, placements: Sequence[Placement], counts: Callable[[frames.Claim], bool] | None = None
    ) -> None:
        self._counts = counts
        self._groups: dict[tuple[int, int], list[Placement]] = defaultdict(list)
        for placement in placements:
            self._groups[placement.interface.index, placement.address.version].append(placement)
        self._sockets: dict[tuple[int, int], socket.socket] = {}
        self._claims: dict[IPAddress, frames.Claim] = {}

    def open(self) -> None:
        """Open the sockets. Raises OSError, too when an interface has no carrier: then nobody could answer."""
        for key, placements in self._groups.items():
            interface = placements[0].interface
            if not interface.carrier:
                raise OSError(errno.ENETDOWN, f"{interface.name} is down or has no carrier")
            opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
            self._sockets[key] = opened
            opened.setblocking(False)
            if key[1] == 4:
                opened.bind((interface.name, frames.ETHERTYPE_ARP))
                continue
            _filter(opened, _NEIGHBOUR_DISCOVERY)
            for placement in placements:
                # Probes of others go to the address's own group, which the interface must let through.
                group = frames.multicast_mac(frames.solicited_node(_v6(placement)))
                request = struct.pack("=iHH8s", interface.index, _PACKET_MR_MULTICAST, len(group), group)
                opened.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
            opened.bind((interface.name, frames.ETHERTYPE_IPV6))

    async def run(self, timeout: float) -> list[frames.Claim]:
        """Probe for ``timeout`` seconds, less when every address is claimed. Raises OSError."""
        loop = asyncio.get_running_loop()
        addresses = {one.address for placements in self._groups.values() for one in placements}
        all_claimed = asyncio.Event()

        def readable(key: tuple[int, int]) -> None:
            for frame in _drain(self._sockets[key]):
                self._judge(key, frame)
            if self._claims.keys() == addresses:
                all_claimed.set()

        for key, opened in self._sockets.items():
            loop.add_reader(opened, readable, key)
        try:
            for _ in range(PROBES):
                self._send()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout / PROBES):
                        await all_claimed.wait()
                        break
        finally:
            for opened in self._sockets.values():
                loop.remove_reader(opened)
        return list(self._claims.values())

    def close(self) -> None:
        """Close the sockets."""
        for opened in self._sockets.values():
            opened.close()
        self._sockets.clear()

    def _send(self) -> None:
        for key, placements in self._groups.items():
            for placement in placements:
                mac = placement.interface.mac
                if isinstance(placement.address, ipaddress.IPv4Address):
                    self._sockets[key].send(frames.arp_probe(mac, placement.address))
                else:
                    self._sockets[key].send(frames.solicitation_probe(mac, placement.address))

    def _judge(self, key: tuple[int, int], frame: bytes) -> None:
        for placement in self._groups[key]:
            mac = placement.interface.mac
            if isinstance(placement.address, ipaddress.IPv4Address):
                claim = frames.arp_claim(frame, mac, placement.address)
            else:
                claim = frames.neighbour_claim(frame, mac, placement.address)
            if claim is not None and (self._counts is None or self._counts(claim)):
                self._claims[placement.address] = claim


def _drain(opened: socket.socket) -> Iterator[bytes]:
    while True:
        try:
            frame, sender = opened.recvfrom(_FRAME)
        except OSError:
            # Nothing more; an interface that went down is reported by the next send.
            return
        if sender[2] != socket.PACKET_OUTGOING:
            yield frame


def _filter(opened: socket.socket, program: Sequence[tuple[int, int, int, int]]) -> None:
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in program))
    opened.setsockopt(
        socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
    )


def _v6(placement: Placement) -> ipaddress.IPv6Address:
    return ipaddress.IPv6Address(placement.address)


def _forwards(interface: str) -> bool:
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text().strip() != "0"
    except OSError:
        return False
