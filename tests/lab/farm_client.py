"""A client of many connections that live: each asks again and again, and notes when it breaks.

``python -m tests.lab.farm_client ADDRESS PORT TCP UDP INTERVAL SOURCE...``: opens TCP connections and
UDP flows, by turns from each source address, writes ``ready``, and asks each every INTERVAL seconds. For each line
on standard input it writes a JSON list of what each connection knows: ``protocol``, ``node`` (who answers),
``broken`` (why, or empty), ``answers``, ``lost`` (datagrams without an answer), ``client`` (whether the server
saw the very source).
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import socket
import sys

PATIENCE = 6.0
#: Datagrams may be lost in a failover; a flow without any answer for so long is broken.
SILENCE = 2.0


@dataclasses.dataclass
class Flow:
    """One connection."""

    protocol: str
    source: str
    node: str = ""
    broken: str = ""
    answers: int = 0
    lost: int = 0
    client: bool = True

    def heard(self, line: bytes, port: int) -> None:
        """Judge an answer."""
        node, client, seen_port, *_ = line.decode().split()
        self.answers += 1
        if self.node and node != self.node:
            self.broken = self.broken or f"answered by {node} instead of {self.node}"
        self.node = self.node or node
        self.client = self.client and client == self.source and int(seen_port) == port


async def tcp(flow: Flow, opened: socket.socket, interval: float) -> None:
    """Ask over one connection until it breaks."""
    reader, writer = await asyncio.open_connection(sock=opened)
    port = opened.getsockname()[1]
    try:
        while True:
            writer.write(b"hello\n")
            async with asyncio.timeout(PATIENCE):
                line = await reader.readline()
            if not line:
                raise ConnectionResetError
            flow.heard(line, port)
            await asyncio.sleep(interval)
    except (OSError, TimeoutError) as error:
        flow.broken = flow.broken or type(error).__name__
        writer.close()


async def udp(flow: Flow, opened: socket.socket, interval: float) -> None:
    """Ask over one flow for ever."""
    loop = asyncio.get_running_loop()
    port = opened.getsockname()[1]
    silent = 0.0
    while True:
        try:
            await loop.sock_sendall(opened, b"hello")
            async with asyncio.timeout(0.3):
                flow.heard(await loop.sock_recv(opened, 2048), port)
            silent = 0.0
        except (OSError, TimeoutError):
            flow.lost += 1
            silent += max(interval, 0.3)
            if silent >= SILENCE:
                flow.broken = flow.broken or "silent"
        await asyncio.sleep(interval)


async def main() -> None:
    """Run until killed."""
    address, port, count, datagrams, interval, *sources = sys.argv[1:]
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    flows, tasks = [], []
    for number in range(int(count) + int(datagrams)):
        is_tcp = number < int(count)
        source = sources[number % len(sources)]
        opened = socket.socket(family, socket.SOCK_STREAM if is_tcp else socket.SOCK_DGRAM)
        opened.bind((source, 0))
        opened.settimeout(5)
        opened.connect((address, int(port)))
        opened.setblocking(False)
        flow = Flow("tcp" if is_tcp else "udp", source)
        flows.append(flow)
        tasks.append(asyncio.create_task((tcp if is_tcp else udp)(flow, opened, float(interval))))
        await asyncio.sleep(0)
    while not all(flow.answers or flow.broken for flow in flows):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    print("ready", flush=True)
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin
    )
    while await reader.readline():
        print(json.dumps([dataclasses.asdict(flow) for flow in flows]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
