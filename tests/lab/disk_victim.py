"""What an application does on a disk that fails: each operation by itself, in a process of its own (it may hang).

``python disk_victim.py DIRECTORY`` prints one JSON line an operation: its name, the name of the errno that it got
(empty: none), and how many bytes were said to be written before it (of ``fill`` and ``again``).
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

CHUNK = 1 << 18


def prepare(directory: Path) -> None:
    """Before the disk fails: the files that :func:`work` changes."""
    for name in ("old", "renamed", "kept", "removed"):
        (directory / name).write_bytes(name.encode() * 1000)


def fill(path: Path, most: int = 256 << 20) -> int:
    """Write until the disk refuses; returns how many bytes were acknowledged. Raises what refused."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND, 0o644)
    written = 0
    try:
        while written < most:
            written += os.write(descriptor, os.urandom(CHUNK))
    except OSError as error:
        error.filename = written
        raise
    finally:
        os.close(descriptor)
    return written


def synced(path: Path) -> None:
    """Write at the beginning, to stable storage."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.pwrite(descriptor, os.urandom(1 << 16), 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def reserve(path: Path) -> None:
    """posix_fallocate(3): more than there is."""
    descriptor = os.open(path, os.O_CREAT | os.O_WRONLY, 0o644)
    try:
        os.posix_fallocate(descriptor, 0, 200 << 20)
    finally:
        os.close(descriptor)


def many(directory: Path) -> None:
    """Small files until one is refused."""
    directory.mkdir(exist_ok=True)
    for number in range(100_000):
        (directory / f"{number}").write_bytes(os.urandom(4096))


def attribute(path: Path) -> None:
    """Large attributes until one is refused."""
    for number in range(100):
        os.setxattr(path, f"user.{number}", os.urandom(3000))


def work(directory: Path) -> None:
    """All operations; whatever they answer."""
    steps: list[tuple[str, Callable[[], object]]] = [
        ("fill", lambda: fill(directory / "large")),
        ("again", lambda: fill(directory / "large")),
        ("overwrite", lambda: synced(directory / "old")),
        ("reserve", lambda: reserve(directory / "reserved")),
        ("reserve old", lambda: reserve(directory / "old")),
        ("many", lambda: many(directory / "many")),
        ("attribute", lambda: attribute(directory / "old")),
        ("mkdir", (directory / "made").mkdir),
        ("link", lambda: os.link(directory / "old", directory / "second name")),
        ("rename", lambda: (directory / "renamed").rename(directory / "moved")),
        ("symlink", lambda: (directory / "link").symlink_to("t" * 900)),
        ("truncate", lambda: os.truncate(directory / "kept", 1 << 20)),
        ("chmod", lambda: (directory / "kept").chmod(0o600)),
        ("unlink", (directory / "removed").unlink),
    ]
    for name, step in steps:
        code, written = 0, 0
        try:
            step()
        except OSError as error:
            code = error.errno or 0
            written = error.filename if isinstance(error.filename, int) else 0
        print(json.dumps([name, errno.errorcode.get(code, "") if code else "", written]), flush=True)


def answers(directory: Path, timeout: float = 60.0) -> dict[str, tuple[str, int]]:
    """Run it there: by operation, the name of its errno (empty: none) and what was acknowledged before."""
    done = subprocess.run(
        [sys.executable, __file__, str(directory)],
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return {name: (code, written) for name, code, written in lines}


if __name__ == "__main__":
    work(Path(sys.argv[1]))
