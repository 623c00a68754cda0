"""Writes files: ``python -m tests.lab.campaign.raw_client write|check DIRECTORY NEXT``. See ``raw.py``."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from tests.lab.campaign.client import acknowledge, ready, stopped
from tests.lab.campaign.raw import Operation, operation


def carry_out(directory: Path, step: Operation) -> None:
    """One system call makes the difference; raises OSError."""
    path = directory / step.name
    match step.kind:
        case "append":
            # The file is not there before its first record is: a name of its own makes it.
            if not path.exists():
                _put(directory, path, step.data)
                return
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
            try:
                assert os.write(descriptor, step.data) == len(step.data)
                if step.durable:
                    os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        case "replace":
            _put(directory, path, step.data)
        case "remove":
            path.unlink(missing_ok=True)
            _flush(directory)


def _put(directory: Path, path: Path, data: bytes) -> None:
    other = path.with_suffix(".new")
    with other.open("wb") as file:
        file.write(data)
        file.flush()
        # The rename may reach the disk before the contents: whoever does not flush gets an empty file.
        os.fsync(file.fileno())
    other.rename(path)
    _flush(directory)


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def main() -> None:
    """See the module's documentation."""
    order, directory = sys.argv[1], Path(sys.argv[2])
    if order == "check":
        files = sorted(directory.glob("file-*[0-9]"))
        print(json.dumps({path.name: path.read_bytes().hex() for path in files}))
        return
    number = int(sys.argv[3])
    # What is there now is what later losses are judged by.
    for path in [*directory.iterdir(), directory]:
        _flush(path)
    ready()
    while not stopped():
        carry_out(directory, operation(number))
        acknowledge(0, number)
        number += 1


if __name__ == "__main__":
    main()
