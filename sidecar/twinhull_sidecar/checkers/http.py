"""Checker *http*: the application answers a GET with a status from 200 to 399."""

from __future__ import annotations

import asyncio
import contextlib

from twinhull_sidecar.checkers.failure import CheckError

#: A status line and headers longer than this are no answer to a check.
_LONGEST = 16 << 10


async def check(host: str, port: int, path: str) -> str:
    """Ask; what was found. Raises CheckError."""
    name = f"[{host}]" if ":" in host else host
    where = f"http://{name}:{port}{path}"
    writer = None
    try:
        reader, writer = await asyncio.open_connection(host, port, limit=_LONGEST)
        request = (
            f"GET {path} HTTP/1.1\r\nHost: {name}:{port}\r\nUser-Agent: twinhull\r\nConnection: close\r\n\r\n"
        )
        writer.write(request.encode())
        await writer.drain()
        status = await _status(reader)
    except OSError as error:
        raise CheckError(f"{where}: {error.strerror or error}") from None
    except (ValueError, EOFError, asyncio.LimitOverrunError):
        raise CheckError(f"{where}: the answer is not HTTP") from None
    finally:
        if writer is not None:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
    if not 200 <= status <= 399:
        raise CheckError(f"{where}: status {status}")
    return f"{where}: status {status}"


async def _status(reader: asyncio.StreamReader) -> int:
    """The status of the final answer. Raises ValueError, EOFError or LimitOverrunError."""
    while True:
        words = (await reader.readuntil(b"\n")).split(maxsplit=2)
        if len(words) < 2 or not words[0].startswith(b"HTTP/"):
            raise ValueError(words)
        status = int(words[1])
        if status >= 200:
            return status
        # An interim answer (100, 103): its headers end with an empty line.
        while (await reader.readuntil(b"\n")).strip():
            pass
