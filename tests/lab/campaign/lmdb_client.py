"""LMDB, synchronous: ``python -m tests.lab.campaign.lmdb_client create|write|check DIRECTORY NEXT``."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import lmdb

from tests.lab.campaign.client import acknowledge, found, payload, ready, stopped

MAP_SIZE = 64 << 20
TOTAL = b"total"
#: Keys that are written over and over, so that freed pages are used again.
RING = 16


def key(number: int) -> bytes:
    """Keys sort as their numbers do."""
    return b"entry" + struct.pack(">Q", number)


def number_of(value: bytes | None) -> int:
    """A number that was stored with `struct`."""
    return struct.unpack(">Q", value)[0] if value else 0


def write(directory: Path, number: int) -> None:
    """Commit transactions from ``number`` on until told to stop."""
    environment = lmdb.open(str(directory), map_size=MAP_SIZE)
    ready()
    while not stopped():
        with environment.begin(write=True) as transaction:
            transaction.put(key(number), payload(number), overwrite=False)
            transaction.put(b"ring" + struct.pack(">Q", number % RING), payload(number) * 4)
            total = number_of(transaction.get(TOTAL))
            transaction.put(TOTAL, struct.pack(">Q", total + number))
        acknowledge(0, number)
        number += 1
    environment.close()


def check(directory: Path) -> None:
    """Read everything; fails when an entry is missing among others or a transaction is there in part."""
    environment = lmdb.open(str(directory), map_size=MAP_SIZE)
    with environment.begin() as transaction:
        last = 0
        rings = 0
        for name, value in transaction.cursor():
            if name.startswith(b"entry"):
                last += 1
                assert name == key(last), f"entry {last} is missing among others"
                assert value == payload(last)
            rings += name.startswith(b"ring")
        assert rings == min(last, RING)
        for number in range(max(1, last - RING + 1), last + 1):
            assert transaction.get(b"ring" + struct.pack(">Q", number % RING)) == payload(number) * 4
        assert number_of(transaction.get(TOTAL)) == last * (last + 1) // 2
    environment.close()
    found({0: last})


def main() -> None:
    """See the module's documentation."""
    order, directory = sys.argv[1], Path(sys.argv[2])
    if order == "create":
        lmdb.open(str(directory), map_size=MAP_SIZE).close()
    elif order == "write":
        write(directory, int(sys.argv[3]))
    else:
        check(directory)


if __name__ == "__main__":
    main()
