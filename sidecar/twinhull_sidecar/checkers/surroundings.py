"""Checkers *ping* and *interface*: whether this node's network is fit to serve clients."""

from __future__ import annotations

import asyncio

from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.vip import addresses
from twinhull_sidecar.witness import probe


async def ping(address: str, timeout: float) -> str:
    """Ask by ICMP; what was found. Raises CheckError."""
    try:
        await probe.ping(address, timeout)
    except TimeoutError:
        raise CheckError(f"{address} does not answer within {timeout:g} s") from None
    except OSError as error:
        raise CheckError(f"{address}: {error.strerror or error}") from None
    return f"{address} answers"


async def interface(name: str) -> str:
    """Look whether it is up with its cable plugged in; what was found. Raises CheckError."""
    try:
        found = await asyncio.to_thread(addresses.interfaces)
    except OSError as error:
        raise CheckError(f"the interfaces cannot be read: {error}") from None
    for one in found:
        if one.name == name:
            if not one.carrier:
                raise CheckError(f"{name} is down or has no carrier")
            return f"{name} is up"
    raise CheckError(f"there is no interface {name}")
