"""The primary's own disk is full, over its quota, broken, read-only: the application gets that errno, and nothing else
comes of it. What was acknowledged is on the other node, whichever of the two is asked for it afterwards."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.disk_victim import answers, prepare
from tests.lab.faulty_disk import QuotaDisk, ThinDisk, fragile_disk
from tests.lab.mirrorfs_pair import EnginePair, engine_pair, wait_for

MIB = 1 << 20


@contextmanager
def ending(pair: EnginePair) -> Iterator[EnginePair]:
    """In sync; whatever is mounted below it is free at the end."""
    try:
        pair.serve()
        pair.in_sync()
        yield pair
    finally:
        pair.close()


def assert_refused(got: dict[str, tuple[str, int]], name: str, node_backing: Path) -> None:
    """Space is what was refused, nothing was half done, and the file has exactly what was acknowledged."""
    assert got["fill"][0] == name, got
    assert got["reserve"][0] == name, got
    assert {code for code, _ in got.values()} <= {name, ""}, got
    assert (node_backing / "large").stat().st_size == got["fill"][1] + got["again"][1]


def test_a_full_disk_is_the_applications_error_and_the_trees_stay_equal(tmp_path: Path) -> None:
    backing = tmp_path / "a" / "volumes" / "data"
    with fragile_disk(tmp_path, backing), engine_pair(tmp_path) as pair, ending(pair):
        prepare(pair.a.mount)
        got = answers(pair.a.mount)
        assert_refused(got, "ENOSPC", pair.b.backing)
        status = pair.a.status()
        assert status["in_sync"]
        assert status["error"] is None
        assert status["dropped"] is None
        assert pair.b.status()["in_sync"]
        pair.assert_equal()
        # The same with the room that there is again.
        (pair.a.mount / "large").unlink()
        # The kernel gives the file up when it comes to it.
        wait_for("there is room", lambda: room(backing) > 8 * MIB, 60)
        (pair.a.mount / "after").write_bytes(os.urandom(MIB))
        pair.assert_equal()


def test_an_exhausted_quota_is_the_applications_error_and_the_trees_stay_equal(tmp_path: Path) -> None:
    disk = QuotaDisk(tmp_path / "quota.img", tmp_path / "a" / "volumes" / "data", limit=16)
    try:
        with engine_pair(tmp_path) as pair, ending(pair):
            prepare(pair.a.mount)
            got = answers(pair.a.mount)
            assert_refused(got, "EDQUOT", pair.b.backing)
            status = pair.a.status()
            assert status["in_sync"], status
            assert status["error"] is None
            assert pair.b.status()["in_sync"]
            pair.assert_equal()
            disk.limit(64)
            (pair.a.mount / "after").write_bytes(os.urandom(MIB))
            pair.assert_equal()
    finally:
        disk.unmount()


def room(directory: Path) -> int:
    """Bytes that are free there."""
    usage = os.statvfs(directory)
    return usage.f_bavail * usage.f_frsize


def take_over(pair: EnginePair, error: str) -> None:
    """``a`` says that its disk fails; ``b``, which has all that was acknowledged, takes over and is written to."""
    wait_for("the disk's failure is told", lambda: pair.a.status()["error"] is not None)
    assert error in pair.a.status()["error"], pair.a.status()["error"]
    pair.a.call("abort_primary")
    stopped = pair.b.call("stop_secondary")
    assert stopped["promotable"], stopped
    pair.b.call("start_primary", True)
    pair.b.call("lease", 5.0)
    (pair.b.mount / "after").write_bytes(b"after")


def come_back(pair: EnginePair) -> None:
    """``a``, whose disk is mended, is brought level."""
    pair.a.stop()
    pair.a.start()
    pair.a.call("start_secondary")
    pair.in_sync(pair.b)
    pair.assert_equal()


@pytest.mark.parametrize("how", ["read-only", "shut down"])
def test_a_failed_disk_hands_everything_acknowledged_to_the_peer(tmp_path: Path, how: str) -> None:
    backing = tmp_path / "a" / "volumes" / "data"
    with fragile_disk(tmp_path, backing) as disk, engine_pair(tmp_path) as pair, ending(pair):
        acknowledged = os.urandom(3 * MIB)
        (pair.a.mount / "acknowledged").write_bytes(acknowledged)
        prepare(pair.a.mount)
        if how == "read-only":
            disk.become_read_only()
        else:
            disk.cut()
        code = "EROFS" if how == "read-only" else "EIO"
        got = answers(pair.a.mount)
        assert {got[name][0] for name in ("fill", "many", "mkdir", "rename", "truncate", "chmod")} == {
            code
        }, got
        take_over(pair, os.strerror(getattr(errno, code)))
        assert (pair.b.mount / "acknowledged").read_bytes() == acknowledged
        assert (pair.b.mount / "old").read_bytes() == b"old" * 1000
        pair.a.stop()
        disk.mend()
        come_back(pair)


def test_a_write_that_never_reaches_the_disk_fails_the_fsync_and_nothing_is_lost(tmp_path: Path) -> None:
    disk = ThinDisk(tmp_path / "pool", tmp_path / "a" / "volumes" / "data", 64, 40)
    disk.mount()
    try:
        with engine_pair(tmp_path) as pair, ending(pair):
            acknowledged = os.urandom(MIB)
            with (pair.a.mount / "acknowledged").open("wb") as file:
                file.write(acknowledged)
                file.flush()
                os.fsync(file.fileno())
            disk.use_up()
            written = os.urandom(4 * MIB)
            with (pair.a.mount / "written").open("wb") as file:
                file.write(written)
                file.flush()
                with pytest.raises(OSError, match=r"Input/output error|Read-only|No space") as refused:
                    os.fsync(file.fileno())
            assert refused.value.errno in (errno.EIO, errno.EROFS, errno.ENOSPC)
            take_over(pair, "this node's disk fails")
            # Also what was acknowledged without a flush: the other node's disk is whole.
            assert (pair.b.mount / "written").read_bytes() == written
            assert (pair.b.mount / "acknowledged").read_bytes() == acknowledged
            pair.a.stop()
            disk.give_back()
            disk.mend()
            come_back(pair)
    finally:
        disk.close()
