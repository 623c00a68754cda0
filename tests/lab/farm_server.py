"""An application for farm tests: answers each line and each datagram with its name and the client's address.

``python -m tests.lab.farm_server NAME PORT``: writes ``ready``. The answer to ``get N`` is followed by N
bytes.
"""

from __future__ import annotations

import asyncio
import socket
import sys
from typing import Any

NAME = sys.argv[1] if len(sys.argv) > 1 else ""


def answer(client: tuple[Any, ...], request: bytes) -> bytes:
    """One line, and bytes behind it."""
    line = f"{NAME} {client[0].removeprefix('::ffff:')} {client[1]}\n".encode()
    word, _, size = request.partition(b" ")
    return line + (b"x" * int(size) if word == b"get" else b"")


async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serve one connection until its client ends it."""
    client = writer.get_extra_info("peername")
    try:
        while request := await reader.readline():
            writer.write(answer(client, request.strip()))
            await writer.drain()
    except OSError:
        pass
    finally:
        writer.close()


class Datagrams(asyncio.DatagramProtocol):
    """Answers each datagram with the name, the client's address and how many bytes came."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[Any, ...]) -> None:
        size = int(data.split()[1]) if data.startswith(b"get ") else 0
        head = f"{NAME} {addr[0].removeprefix('::ffff:')} {addr[1]} {len(data)}\n".encode()
        self._transport.sendto(head + b"x" * size, addr)


async def main() -> None:
    """Serve until killed."""
    port = int(sys.argv[2])
    listening = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listening.bind(("::", port))
    await asyncio.start_server(connected, sock=listening, backlog=4096)
    datagrams = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    datagrams.bind(("::", port))
    await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, sock=datagrams)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main())
