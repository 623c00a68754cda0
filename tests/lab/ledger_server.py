"""The lab's application: keeps numbered records in a mirrored volume, answers each request after the write.

Started by the process adapter as ``python3 ledger_server.py DIRECTORY PORT``; standard library only. One JSON
object a line in, one out. Requests, all with the client's own ``id``:

- ``{"id": N, "client": C, "op": "append", "fsync": bool}``: one line is appended to ``ledger``;
- ``{"id": N, "client": C, "op": "overwrite", "fsync": bool}``: the client's slot of ``slots`` is overwritten;
- ``{"id": N, "client": C, "op": "replace", "fsync": bool}``: ``latest-C`` is replaced by rename;
- ``{"op": "dump"}``: everything, to be checked.

Every record carries a checksum, so that a torn or mixed one is found.
"""

# ruff: noqa: PTH104, PTH123, PTH208

import asyncio
import json
import os
import sys
import zlib
from typing import Any

SLOT = 64


def record(client: int, number: int) -> bytes:
    body = f"{client} {number}"
    return f"{body} {zlib.crc32(body.encode()):08x}".encode()


def parse(text: bytes) -> tuple[int, int]:
    """Client and number. Raises ValueError for anything but a whole record."""
    words = text.decode("ascii", "replace").split()
    if len(words) != 3 or record(int(words[0]), int(words[1])) != text:
        raise ValueError(f"damaged record {text[:80]!r}")
    return int(words[0]), int(words[1])


class Ledger:
    """The files."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        flags = os.O_CREAT | os.O_RDWR
        self._ledger = os.open(f"{directory}/ledger", flags | os.O_APPEND, 0o644)
        self._slots = os.open(f"{directory}/slots", flags, 0o644)

    def carry_out(self, request: dict[str, Any]) -> None:
        client, number, fsync = request["client"], request["id"], request["fsync"]
        content = record(client, number)
        if request["op"] == "append":
            written = os.write(self._ledger, content + b"\n")
            complete = written == len(content) + 1
            descriptor = self._ledger
        elif request["op"] == "overwrite":
            complete = os.pwrite(self._slots, content.ljust(SLOT), client * SLOT) == SLOT
            descriptor = self._slots
        else:
            self._replace(f"latest-{client}", content, fsync)
            return
        if not complete:
            raise OSError("short write")
        if fsync:
            os.fsync(descriptor)

    def _replace(self, name: str, content: bytes, fsync: bool) -> None:
        temporary = f"{self._directory}/.{name}"
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            if fsync:
                os.fsync(file.fileno())
        os.rename(temporary, f"{self._directory}/{name}")
        if fsync:
            directory = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)

    def dump(self) -> dict[str, Any]:
        damaged: list[str] = []

        def read(where: str, text: bytes) -> tuple[int, int] | None:
            try:
                return parse(text)
            except ValueError as error:
                damaged.append(f"{where}: {error}")
                return None

        with open(f"{self._directory}/ledger", "rb") as file:
            ledger = [read("ledger", line) for line in file.read().splitlines()]
        with open(f"{self._directory}/slots", "rb") as file:
            content = file.read()
        slots = [content[start : start + SLOT].strip(b" \0") for start in range(0, len(content), SLOT)]
        latest = []
        for name in os.listdir(self._directory):
            if name.startswith("latest-"):
                with open(f"{self._directory}/{name}", "rb") as file:
                    latest.append(read(name, file.read()))
        return {
            "ledger": [found for found in ledger if found],
            "slots": dict(found for text in slots if text and (found := read("slots", text))),
            "latest": dict(found for found in latest if found),
            "damaged": damaged,
        }


async def main() -> None:
    directory, port = sys.argv[1], int(sys.argv[2])
    ledger = Ledger(directory)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                request = json.loads(line)
                try:
                    if request["op"] == "dump":
                        answer = await asyncio.to_thread(ledger.dump)
                    else:
                        await asyncio.to_thread(ledger.carry_out, request)
                        answer = {"id": request["id"]}
                except (OSError, ValueError) as error:
                    answer = {"error": str(error)}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, json.JSONDecodeError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, None, port, limit=1 << 20)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
