"""What the applications' processes have in common: they say what was acknowledged, and end when their input does."""

from __future__ import annotations

import hashlib
import json
import select
import sys
import threading

_output = threading.Lock()


def payload(number: int, client: int = 0) -> bytes:
    """The contents that belong to an operation: 0 to 1,200 bytes that nothing else has."""
    digest = hashlib.blake2b(f"{client}:{number}".encode()).digest()
    return digest * (digest[0] % 20)


def acknowledge(client: int, number: int) -> None:
    """The operation was acknowledged to the application."""
    with _output:
        sys.stdout.write(f"{client} {number}\n")
        sys.stdout.flush()


def ready() -> None:
    """The application has started: what it found is safe, what follows are acknowledgements."""
    with _output:
        sys.stdout.write("ready\n")
        sys.stdout.flush()


def found(last: dict[int, int]) -> None:
    """The answer of a check: the last operation of each client that is there."""
    print(json.dumps(last))


def stopped() -> bool:
    """Whether the application is to end in order: its standard input has ended."""
    ready, _, _ = select.select([sys.stdin], [], [], 0)
    return bool(ready)
