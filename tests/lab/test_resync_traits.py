"""A resynchronisation makes equal all that M3 names: names, types, contents, sizes, modes, owners, modification
times, extended attributes, ACLs, hard links, sparse holes; at the first one, and at one after both trees changed."""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_pair import EnginePair, engine_pair

Change = Callable[[Path], object]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as both:
        both.a.start()
        both.a.call("initialise")
        both.a.call("start_primary", True)
        both.a.call("lease", 5.0)
        yield both


def join(pair: EnginePair) -> None:
    """Node b (again) becomes secondary and is synchronised."""
    pair.b.start()
    pair.b.call("start_secondary")
    pair.in_sync()


def leave(pair: EnginePair) -> None:
    """Node b ends; node a goes on alone."""
    pair.b.stop()
    pair.a.call("go_alone")


def acl(user: int, permissions: int) -> bytes:
    """An access ACL in the kernel's format (include/uapi/linux/posix_acl_xattr.h)."""
    none = 0xFFFFFFFF
    entries = [(1, 6, none), (2, permissions, user), (4, 4, none), (16, 6, none), (32, 0, none)]
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def names(root: Path) -> None:
    (root / ("n" * 255)).write_text("long")
    Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe \n")).write_text("no text")
    for index in range(300):
        (root / f"entry-{index}").touch()


def names_again(root: Path) -> None:
    (root / ("n" * 255)).rename(root / ("m" * 255))
    for index in range(0, 300, 2):
        (root / f"entry-{index}").unlink()
    (root / "entry-1").rename(root / "entry-3")


def types(root: Path) -> None:
    (root / "directory/below").mkdir(parents=True)
    (root / "link").symlink_to("directory/below")
    os.mkfifo(root / "fifo")
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    (root / "was-file").touch()
    with socket.socket(socket.AF_UNIX) as unix:
        here = Path.cwd()
        os.chdir(root)
        try:
            unix.bind("socket")
        finally:
            os.chdir(here)


def types_again(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("elsewhere")
    (root / "was-file").unlink()
    (root / "was-file").mkdir()
    (root / "directory/below").rmdir()
    (root / "directory/below").write_text("a file now")
    (root / "device").unlink()
    os.mknod(root / "device", 0o600 | stat.S_IFCHR, os.makedev(1, 5))


def contents(root: Path) -> None:
    (root / "small").write_bytes(b"small")
    (root / "large").write_bytes(os.urandom(3_000_001))


def contents_again(root: Path) -> None:
    with (root / "large").open("r+b") as file:
        file.seek(1_234_567)
        file.write(b"changed in the middle")


def sizes(root: Path) -> None:
    for name in ("grows", "shrinks", "empties"):
        (root / name).write_bytes(b"x" * 100_000)


def sizes_again(root: Path) -> None:
    os.truncate(root / "grows", 5_000_000)
    os.truncate(root / "shrinks", 77_777)
    os.truncate(root / "empties", 0)


def modes(root: Path) -> None:
    for mode in (0o000, 0o600, 0o755, 0o1777, 0o2750, 0o4711):
        (root / f"{mode:o}").touch()
        (root / f"{mode:o}").chmod(mode)
    (root / "directory").mkdir(mode=0o711)


def modes_again(root: Path) -> None:
    for name in ("0", "600", "4711"):
        (root / name).chmod(0o640)
    (root / "directory").chmod(0o3777)


def owners(root: Path) -> None:
    (root / "file").touch()
    (root / "link").symlink_to("file")
    os.chown(root / "file", 26, 1026)
    os.chown(root / "link", 27, 1027, follow_symlinks=False)


def owners_again(root: Path) -> None:
    os.chown(root / "file", 70_000, 70_001)
    os.chown(root / "link", 0, 5, follow_symlinks=False)


def times(root: Path) -> None:
    (root / "directory").mkdir()
    (root / "directory/file").touch()
    (root / "link").symlink_to("x")
    os.utime(root / "directory/file", ns=(1, 1_234_567_890_123_456_789))
    os.utime(root / "link", ns=(1, 987_654_321), follow_symlinks=False)
    os.utime(root / "directory", ns=(1, -5_000_000_001))


def times_again(root: Path) -> None:
    os.utime(root / "directory/file", ns=(1, 1))
    os.utime(root / "directory", ns=(1, 2_000_000_000_999_999_999))


def xattrs(root: Path) -> None:
    (root / "file").touch()
    (root / "directory").mkdir()
    for index in range(20):
        os.setxattr(root / "file", f"user.n{index}", os.urandom(index * 5))
    os.setxattr(root / "directory", "user.big", os.urandom(1500))
    os.setxattr(root / "directory", "trusted.module", b"trusted")


def xattrs_again(root: Path) -> None:
    os.removexattr(root / "file", "user.n3")
    os.setxattr(root / "file", "user.n4", b"changed")
    os.setxattr(root / "file", "user.new", b"")
    os.removexattr(root / "directory", "trusted.module")


def acls(root: Path) -> None:
    (root / "directory").mkdir()
    os.setxattr(root / "directory", "system.posix_acl_default", acl(1234, 6))
    (root / "directory/inherits").touch()
    (root / "file").touch()
    os.setxattr(root / "file", "system.posix_acl_access", acl(1234, 4))


def acls_again(root: Path) -> None:
    os.setxattr(root / "file", "system.posix_acl_access", acl(4321, 6))
    os.removexattr(root / "directory/inherits", "system.posix_acl_access")
    (root / "file").chmod(0o600)


def hard_links(root: Path) -> None:
    (root / "directory").mkdir()
    (root / "first").write_bytes(os.urandom(200_000))
    os.link(root / "first", root / "directory/second")
    os.link(root / "first", root / "third")
    (root / "alone").write_text("alone")
    (root / "alone too").write_text("alone")


def hard_links_again(root: Path) -> None:
    (root / "third").unlink()
    (root / "third").write_text("of its own")
    (root / "alone too").unlink()
    os.link(root / "alone", root / "alone too")


def holes(root: Path) -> None:
    with (root / "sparse").open("wb") as file:
        file.truncate(40_000_000)
        for offset in (0, 10_000_000, 39_999_000):
            file.seek(offset)
            file.write(b"data")
    with (root / "dense").open("wb") as file:
        file.write(bytes(1_000_000))


def holes_again(root: Path) -> None:
    with (root / "sparse").open("r+b") as file:
        file.seek(20_000_000)
        file.write(b"more")
    with (root / "dense").open("r+b") as file:
        file.truncate(0)
        file.truncate(1_000_000)


TRAITS: list[tuple[Change, Change]] = [
    (names, names_again),
    (types, types_again),
    (contents, contents_again),
    (sizes, sizes_again),
    (modes, modes_again),
    (owners, owners_again),
    (times, times_again),
    (xattrs, xattrs_again),
    (acls, acls_again),
    (hard_links, hard_links_again),
    (holes, holes_again),
]


@pytest.mark.parametrize(("make", "change"), TRAITS, ids=[make.__name__ for make, _ in TRAITS])
def test_trait_is_equal_after_the_first_and_after_a_later_resynchronisation(
    pair: EnginePair, make: Change, change: Change
) -> None:
    make(pair.a.mount)
    join(pair)
    pair.assert_equal()
    leave(pair)
    change(pair.a.mount)
    join(pair)
    pair.assert_equal()


@pytest.mark.parametrize(("make", "change"), TRAITS, ids=[make.__name__ for make, _ in TRAITS])
def test_trait_is_equal_when_it_was_replicated(pair: EnginePair, make: Change, change: Change) -> None:
    join(pair)
    make(pair.a.mount)
    pair.assert_equal()
    change(pair.a.mount)
    pair.assert_equal()


def test_sparse_files_stay_sparse(pair: EnginePair) -> None:
    holes(pair.a.mount)
    join(pair)
    copy = (pair.b.backing / "sparse").stat()
    assert copy.st_size == 40_000_000
    assert copy.st_blocks * 512 < 1_000_000


def test_equal_blocks_are_not_sent_again(pair: EnginePair) -> None:
    contents(pair.a.mount)
    join(pair)
    leave(pair)
    contents_again(pair.a.mount)
    passed = pair.relays["b"].passed
    join(pair)
    pair.assert_equal()
    assert pair.relays["b"].passed - passed < 200_000, "one block of 64 KiB and the conversation about it"
