"""Checker *tcp*: the application accepts a connection."""

from __future__ import annotations

import asyncio
import contextlib

from twinhull_sidecar.checkers.failure import CheckError


async def check(host: str, port: int) -> str:
    """Connect and close; what was found. Raises CheckError."""
    try:
        _reader, writer = await asyncio.open_connection(host, port)
    except OSError as error:
        raise CheckError(f"{host} port {port}: {error.strerror or error}") from None
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return f"{host} port {port} accepts connections"
