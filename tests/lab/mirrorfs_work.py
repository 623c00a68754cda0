"""Work for the file system: every kind of operation that must come out equal on both nodes.

It runs in a process of its own: a page fault or ``msync`` on the mount holds Python's lock until the peer has answered,
and the relay that passes the answer on needs that lock.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import socket
import stat
import struct
import subprocess
import sys
from pathlib import Path

PUNCH_HOLE = 0x02
KEEP_SIZE = 0x01
COLLAPSE_RANGE = 0x08
ZERO_RANGE = 0x10
INSERT_RANGE = 0x20
RENAME_EXCHANGE = 2
RENAME_NOREPLACE = 1

_libc = ctypes.CDLL(None, use_errno=True)


def fallocate(descriptor: int, mode: int, offset: int, length: int) -> None:
    """fallocate(2). Raises OSError."""
    if _libc.fallocate(descriptor, mode, ctypes.c_long(offset), ctypes.c_long(length)) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def reserve(path: Path, offset: int, length: int) -> None:
    """Reserve space of a file beyond its end. Raises OSError."""
    with path.open("r+b") as file:
        fallocate(file.fileno(), KEEP_SIZE, offset, length)


def write_beyond(path: Path) -> None:
    """Write behind what :func:`reserve` reserved in the first 20 blocks."""
    with path.open("r+b") as file:
        file.seek(20 * 4096)
        file.write(b"beyond what was reserved")


def renameat2(source: bytes, target: bytes, flags: int) -> None:
    """renameat2(2) of absolute paths. Raises OSError."""
    if _libc.renameat2(-100, source, -100, target, flags) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def link_following(source: bytes, target: bytes) -> None:
    """linkat(2) with AT_SYMLINK_FOLLOW, which names an unnamed file. Raises OSError."""
    if _libc.linkat(-100, source, -100, target, 0x400) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def every_kind_of_operation(directory: Path) -> None:
    """Make ``directory`` and work in it, in a process of its own. Raises when anything goes wrong there."""
    done = subprocess.run(
        [sys.executable, __file__, str(directory)], capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr


def work(directory: Path) -> None:
    """Make ``directory`` and work in it."""
    directory.mkdir()
    _contents(directory)
    _names(directory)
    _attributes(directory)
    _special(directory)


def _contents(directory: Path) -> None:
    plain = directory / "plain"
    plain.write_bytes(os.urandom(300_000))
    with plain.open("r+b") as file:
        file.seek(100_000)
        file.write(b"in the middle")
        file.truncate(250_000)
        file.flush()
        os.fsync(file.fileno())
        os.fdatasync(file.fileno())
    with plain.open("a+b") as file:
        file.write(b"appended")
    large = directory / "large"
    large.write_bytes(os.urandom(5 << 20))
    sparse = directory / "sparse"
    with sparse.open("w+b") as file:
        file.truncate(10 << 20)
        file.seek(4 << 20)
        file.write(b"x" * 8192)
        file.flush()
        fallocate(file.fileno(), PUNCH_HOLE | KEEP_SIZE, 4 << 20, 4096)
    ranges = directory / "ranges"
    with ranges.open("w+b") as file:
        file.write(os.urandom(256 << 10))
        file.flush()
        for mode in (COLLAPSE_RANGE, INSERT_RANGE):
            # The kernel's FUSE does not pass these on.
            with contextlib.suppress(OSError):
                fallocate(file.fileno(), mode, 64 << 10, 64 << 10)
        fallocate(file.fileno(), ZERO_RANGE, 0, 8192)
        fallocate(file.fileno(), 0, 256 << 10, 64 << 10)
    mapped = directory / "mapped"
    mapped.write_bytes(bytes(64 << 10))
    with mapped.open("r+b") as file, mmap.mmap(file.fileno(), 0) as memory:
        memory[1000:1005] = b"hello"
        memory[40_000:40_010] = b"0123456789"
        memory.flush()
    gone = directory / "gone"
    with gone.open("w+b") as file:
        file.write(b"before")
        file.flush()
        gone.unlink()
        file.write(b"after")
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == b"beforeafter"
    descriptor = os.open(directory, os.O_TMPFILE | os.O_RDWR, 0o640)
    os.write(descriptor, b"unnamed at first")
    link_following(f"/proc/self/fd/{descriptor}".encode(), bytes(directory / "named"))
    os.write(descriptor, b", then named")
    os.close(descriptor)
    direct = os.open(directory / "direct", os.O_CREAT | os.O_WRONLY | os.O_DIRECT | os.O_DSYNC, 0o600)
    with mmap.mmap(-1, 8192) as aligned:
        aligned[:] = b"d" * 8192
        os.write(direct, aligned)
    os.close(direct)
    copied = directory / "copied"
    with large.open("rb") as source, copied.open("wb") as sink:
        os.copy_file_range(source.fileno(), sink.fileno(), 1 << 20)


def _names(directory: Path) -> None:
    deep = directory / "one" / "two" / "three"
    deep.mkdir(parents=True)
    (deep / "file").write_text("deep")
    (deep / "file").rename(directory / "moved up")
    (directory / "one").rename(directory / "other")
    (directory / "other" / "two" / "again").write_text("under a renamed directory")
    for name in ("x", "y"):
        (directory / name).write_text(name)
    renameat2(bytes(directory / "x"), bytes(directory / "y"), RENAME_EXCHANGE)
    assert (directory / "x").read_text() == "y"
    renameat2(bytes(directory / "x"), bytes(directory / "z"), RENAME_NOREPLACE)
    (directory / "replaced").write_text("old")
    kept = (directory / "replaced").open()
    (directory / "z").rename(directory / "replaced")
    assert kept.read() == "old"
    kept.close()
    (directory / "first name").write_text("linked")
    os.link(directory / "first name", directory / "second name")
    os.link(directory / "first name", directory / "other" / "third name")
    (directory / "first name").unlink()
    (directory / "second name").write_text("changed by its second name")
    (directory / ("n" * 255)).write_text("long")
    Path(os.fsdecode(bytes(directory) + b"/\xff\xfe not UTF-8 \x01\n")).write_text("raw")
    (directory / "removed").mkdir()
    (directory / "removed").rmdir()
    (directory / "link").symlink_to("somewhere/\u00e9")
    (directory / "long link").symlink_to("t" * 4000)
    (directory / "reused").write_text("one")
    (directory / "reused").unlink()
    (directory / "reused").write_text("two")


def _attributes(directory: Path) -> None:
    file = directory / "attributes"
    file.write_text("a")
    file.chmod(0o4755)
    os.chown(file, 1234, 2345)
    file.chmod(0o6751)
    os.setxattr(file, "user.one", b"1")
    os.setxattr(file, "user.two", os.urandom(1000))
    os.setxattr(file, "trusted.three", b"")
    os.removexattr(file, "user.one")
    assert "trusted.twinhull.module" not in os.listxattr(directory.parent)
    os.utime(file, ns=(1_000_000_000_123_456_789, 1_100_000_000_987_654_321))
    # A POSIX ACL: version 2, entries (tag, permissions, id); linux/posix_acl_xattr.h.
    entries = [(1, 7, -1), (2, 6, 1234), (4, 5, -1), (16, 7, -1), (32, 0, -1)]
    acl = struct.pack("<I", 2) + b"".join(struct.pack("<HHi", *entry) for entry in entries)
    os.setxattr(file, "system.posix_acl_access", acl)
    inheriting = directory / "inheriting"
    inheriting.mkdir()
    os.setxattr(inheriting, "system.posix_acl_default", acl)
    (inheriting / "child").write_text("inherits")
    (inheriting / "directory").mkdir()
    assert os.getxattr(inheriting / "child", "system.posix_acl_access")
    grouped = directory / "grouped"
    grouped.mkdir()
    os.chown(grouped, 0, 777)
    grouped.chmod(0o2775)
    (grouped / "child").write_text("of the directory's group")
    assert (grouped / "child").stat().st_gid == 777
    old = os.umask(0o027)
    try:
        (directory / "masked").write_text("")
    finally:
        os.umask(old)
    assert stat.S_IMODE((directory / "masked").stat().st_mode) == 0o640
    os.utime(directory, ns=(1_200_000_000_000_000_001, 1_200_000_000_000_000_001))


def _special(directory: Path) -> None:
    os.mkfifo(directory / "fifo", 0o620)
    os.mknod(directory / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    listener = socket.socket(socket.AF_UNIX)
    descriptor = os.open(directory, os.O_RDONLY)
    listener.bind(f"/proc/self/fd/{descriptor}/socket")
    listener.close()
    os.fsync(descriptor)
    os.close(descriptor)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
