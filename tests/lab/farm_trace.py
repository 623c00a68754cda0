"""A trace of a connection's frames at the client and at both nodes, taken with packet(7) as tcpdump does."""

from __future__ import annotations

import contextlib
import socket
import struct
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tests.lab.netns import Lab
from tests.lab.vip_harness import mac

_ETH_P_ALL = 3
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_SO_TIMESTAMPNS = 35
_FLAGS = ((0x02, "SYN"), (0x10, "ACK"), (0x08, "PSH"), (0x01, "FIN"), (0x04, "RST"))


@dataclass(frozen=True)
class Frame:
    """A TCP segment over IPv4 as it passed the LAN interface of ``where``; ``time`` in seconds of the day's clock."""

    time: float
    where: str
    arrives: bool
    from_mac: str
    to_mac: str
    source: str
    target: str
    flags: str
    length: int


class Trace:
    """What passed; complete when the ``with`` of :func:`traced` has ended."""

    def __init__(self, names: dict[str, str]) -> None:
        self.frames: list[Frame] = []
        self._names = names

    def text(self) -> str:
        """One line a frame, in the order of time: where, which way, Ethernet addresses by name, IP addresses."""
        begin = self.frames[0].time if self.frames else 0.0
        lines = [f"{'ms':>7}  {'seen at':<10} {'Ethernet':<11} IP"]
        for one in self.frames:
            way = f"{self._name(one.from_mac)} -> {self._name(one.to_mac)}"
            what = f"{one.source} > {one.target} {one.flags}" + (f" {one.length} bytes" if one.length else "")
            seen = f"{one.where} {'in' if one.arrives else 'out'}"
            lines.append(f"{(one.time - begin) * 1000:7.3f}  {seen:<10} {way:<11} {what}")
        return "\n".join(lines)

    def _name(self, address: str) -> str:
        return self._names.get(address, address)


@contextlib.contextmanager
def traced(lab: Lab, places: Sequence[str], address: str) -> Iterator[Trace]:
    """Note every TCP segment from and to ``address`` at the LAN interface of each place."""
    trace = Trace({mac(lab, place): place for place in places})
    opened = {}
    for place in places:
        with lab.inside(place):
            opened[place] = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        opened[place].setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 1 << 24)
        opened[place].setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        opened[place].bind(("lan0", _ETH_P_ALL))
        opened[place].setblocking(False)
    try:
        yield trace
        time.sleep(0.3)
        for place, one in opened.items():
            trace.frames += _read(one, place, address)
        trace.frames.sort(key=lambda frame: frame.time)
    finally:
        for one in opened.values():
            one.close()


def _read(opened: socket.socket, where: str, address: str) -> Iterator[Frame]:
    while True:
        try:
            data, extra, _, sender = opened.recvmsg(2048, 64)
        except BlockingIOError:
            return
        if data[12:14] != b"\x08\x00" or data[23] != socket.IPPROTO_TCP:
            continue
        source, target = socket.inet_ntoa(data[26:30]), socket.inet_ntoa(data[30:34])
        if address not in {source, target}:
            continue
        segment = data[14 + (data[14] & 15) * 4 :]
        ports = struct.unpack_from("!HH", segment)
        total = struct.unpack_from("!H", data, 16)[0]
        seconds, nanoseconds = struct.unpack("=qq", extra[0][2])
        yield Frame(
            time=seconds + nanoseconds / 1e9,
            where=where,
            arrives=sender[2] != socket.PACKET_OUTGOING,
            from_mac=data[6:12].hex(":"),
            to_mac=data[:6].hex(":"),
            source=f"{source}:{ports[0]}",
            target=f"{target}:{ports[1]}",
            flags=",".join(name for bit, name in _FLAGS if segment[13] & bit),
            length=total - (data[14] & 15) * 4 - (segment[12] >> 4) * 4,
        )
