"""The secondary's disk is full, over its quota, broken, read-only: the application never gets an error of it. The
secondary is dropped with the reason, the primary goes on alone, and brings it level once the disk is mended."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.lab.faulty_disk import QuotaDisk, ThinDisk, fragile_disk
from tests.lab.mirrorfs_pair import EnginePair, engine_pair, wait_for

MIB = 1 << 20


@contextmanager
def writing(directory: Path, megabytes: int) -> Iterator[Callable[[], None]]:
    """An application that writes so much, with an fsync after each of it; what it yields waits for its success."""
    program = (
        "import os, sys\n"
        "file = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY, 0o644)\n"
        "for number in range(int(sys.argv[2])):\n"
        "    assert os.write(file, os.urandom(1 << 20)) == 1 << 20\n"
        "    os.fsync(file)\n"
        "os.mkdir(sys.argv[1] + '.d')\n"
    )
    process = subprocess.Popen(
        ["python3", "-c", program, str(directory / "written"), str(megabytes)],
        stderr=subprocess.PIPE,
        text=True,
    )

    def finish() -> None:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors

    try:
        yield finish
    finally:
        if process.poll() is None:
            process.kill()


def drop(pair: EnginePair, reason: str, finish: Callable[[], None]) -> None:
    """The secondary is dropped for that reason; the application, which waited, goes on without it."""
    wait_for("dropped", lambda: pair.a.status()["dropped"] is not None, 60)
    status = pair.a.status()
    assert reason in status["dropped"], status["dropped"]
    assert status["error"] is None
    assert not status["in_sync"]
    assert not pair.b.status()["in_sync"]
    assert reason in pair.b.status()["dropped"]
    pair.a.call("go_alone")
    finish()
    assert pair.a.call("record")["alone"]


def back_in_sync(pair: EnginePair) -> None:
    """By itself: nobody orders anything."""
    pair.in_sync(timeout=60)
    assert pair.a.status()["dropped"] is None
    pair.assert_equal()
    with suppress(FileNotFoundError):
        (pair.a.mount / "written").unlink()
    (pair.a.mount / "after").write_bytes(os.urandom(MIB))
    pair.assert_equal()
    assert pair.b.call("stop_secondary")["promotable"]


def restart(pair: EnginePair) -> None:
    """``b``'s process, after its disk was mended."""
    pair.b.start()
    pair.b.call("start_secondary")


def test_a_full_disk(tmp_path: Path) -> None:
    backing = tmp_path / "b" / "volumes" / "data"
    with fragile_disk(tmp_path, backing), engine_pair(tmp_path) as pair:
        try:
            pair.serve()
            pair.in_sync()
            with writing(pair.a.mount, 80) as finish:
                drop(pair, "No space left on device", finish)
            (pair.a.mount / "written").unlink()
            back_in_sync(pair)
        finally:
            pair.close()


def test_an_exhausted_quota(tmp_path: Path) -> None:
    disk = QuotaDisk(tmp_path / "quota.img", tmp_path / "b" / "volumes" / "data", limit=16)
    try:
        with engine_pair(tmp_path) as pair:
            pair.serve()
            pair.in_sync()
            with writing(pair.a.mount, 24) as finish:
                drop(pair, "quota exceeded", finish)
            disk.limit(100)
            back_in_sync(pair)
    finally:
        disk.unmount()


@pytest.mark.parametrize("how", ["read-only", "shut down"])
def test_a_failed_disk(tmp_path: Path, how: str) -> None:
    backing = tmp_path / "b" / "volumes" / "data"
    with fragile_disk(tmp_path, backing) as disk, engine_pair(tmp_path) as pair:
        try:
            pair.serve()
            pair.in_sync()
            (pair.a.mount / "before").write_bytes(os.urandom(MIB))
            if how == "read-only":
                disk.become_read_only()
            else:
                disk.cut()
            with writing(pair.a.mount, 4) as finish:
                drop(pair, "Read-only file system" if how == "read-only" else "Input/output error", finish)
            assert not pair.b.call("stop_secondary")["promotable"]
            pair.b.stop()
            disk.mend()
            restart(pair)
            back_in_sync(pair)
        finally:
            pair.close()


def test_what_a_failed_flush_lost_is_found_although_the_cache_still_has_it(tmp_path: Path) -> None:
    """After a failed write-back the kernel's page cache holds the new contents as if they were written. To be believed
    would mean: equal when compared, and gone with the next power cut."""
    disk = ThinDisk(tmp_path / "pool", tmp_path / "b" / "volumes" / "data", 64, 40)
    disk.mount()
    try:
        with engine_pair(tmp_path) as pair:
            pair.serve()
            pair.in_sync()
            old, new = os.urandom(4 * MIB), os.urandom(4 * MIB)
            (pair.a.mount / "file").write_bytes(old)
            disk.lose_blocks_of(pair.b.backing / "file")
            disk.use_up()
            with overwriting(pair.a.mount / "file", new) as finish:
                wait_for("dropped", lambda: pair.a.status()["dropped"] is not None, 60)
                assert "flush" in pair.a.status()["dropped"]
                disk.give_back()
                pair.a.call("go_alone")
                finish()
            assert (pair.b.backing / "file").read_bytes() == new
            pair.in_sync(timeout=60)
            pair.assert_equal()
            # What it says to hold now, its disk holds.
            disk.cut()
            pair.b.kill()
            pair.b.stop()
            disk.unmount()
            disk.mount()
            assert (pair.b.backing / "file").read_bytes() == new
            restart(pair)
            pair.in_sync(timeout=60)
            pair.assert_equal()
    finally:
        disk.close()


@contextmanager
def overwriting(path: Path, contents: bytes) -> Iterator[Callable[[], None]]:
    """Another application: overwrites a file in place, and calls fsync; what it yields waits for its success."""
    failed: list[OSError] = []

    def work() -> None:
        try:
            with path.open("r+b") as file:
                file.write(contents)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def finish() -> None:
        thread.join(60)
        assert not thread.is_alive()
        assert not failed

    yield finish
