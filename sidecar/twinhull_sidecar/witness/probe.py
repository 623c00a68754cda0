"""Asks a machine whether it answers: ICMP echo (RFC 792, RFC 4443) and TCP connect."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
import struct

_ECHO4, _REPLY4 = 8, 0
_ECHO6, _REPLY6 = 128, 129
_TOKEN_BYTES = 16
_HEADER = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_LONGEST = 1500


async def ping(address: str, timeout: float) -> None:
    """Return when ``address`` answers an echo request. Raises OSError (TimeoutError after ``timeout`` seconds)."""
    version = ipaddress.ip_address(address).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    protocol = socket.IPPROTO_ICMP if version == 4 else socket.IPPROTO_ICMPV6
    token = os.urandom(_TOKEN_BYTES)
    loop = asyncio.get_running_loop()
    with socket.socket(family, socket.SOCK_RAW, protocol) as channel:
        channel.setblocking(False)
        # Connected: the kernel leaves out what others send. On a raw socket that waits for nothing.
        channel.connect((address, 0))
        await loop.sock_sendall(channel, echo_request(version, token))
        async with asyncio.timeout(timeout):
            while not is_reply(version, await loop.sock_recv(channel, _LONGEST), token):
                pass


def echo_request(version: int, token: bytes) -> bytes:
    """The ICMP message that carries ``token``; the kernel fills in the checksum of version 6."""
    kind = _ECHO4 if version == 4 else _ECHO6
    blank = _HEADER.pack(kind, 0, 0, 0, 1) + token
    return blank if version == 6 else _HEADER.pack(kind, 0, checksum(blank), 0, 1) + token


def is_reply(version: int, packet: bytes, token: bytes) -> bool:
    """Whether ``packet``, as a raw socket gives it (version 4: with the IP header), answers the request."""
    body = packet
    if version == 4:
        if len(packet) < 20:
            return False
        body = packet[4 * (packet[0] & 15) :]
    wanted = _REPLY4 if version == 4 else _REPLY6
    return len(body) >= _HEADER.size and body[0] == wanted and body[_HEADER.size :] == token


def checksum(message: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(message) % 2:
        message += b"\0"
    total: int = sum(struct.unpack(f"!{len(message) // 2}H", message))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


async def connect(address: str, port: int, timeout: float) -> None:
    """Return when a connection is accepted. Raises OSError (TimeoutError after ``timeout`` seconds)."""
    async with asyncio.timeout(timeout):
        _, writer = await asyncio.open_connection(address, port)
    # Nothing was said, and nothing is to be heard.
    writer.transport.abort()
