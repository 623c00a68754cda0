"""The disk of record and change journal is full or read-only, or the power was cut in the middle of an append."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.disk_victim import fill
from tests.lab.faulty_disk import fragile_disk
from tests.lab.mirrorfs_pair import EngineError, EnginePair, engine_pair, wait_for

KIB, MIB = 1 << 10, 1 << 20
PATIENCE = 60.0


@contextmanager
def closing(pair: EnginePair) -> Iterator[EnginePair]:
    """In sync; ends before the disks below it do."""
    try:
        pair.serve()
        pair.in_sync(timeout=PATIENCE)
        yield pair
    finally:
        pair.close()


def leave_no_room(directory: Path) -> None:
    """Not a block is free: small pieces, too."""
    with (directory / "rest").open("wb", buffering=0) as rest:
        for size in (1 << 20, 1 << 12, 1 << 10):
            with contextlib.suppress(OSError):
                while True:
                    rest.write(bytes(size))


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_disk_without_a_free_block_still_takes_the_record(tmp_path: Path, name: str) -> None:
    """State and volumes are on one disk, as an installation has them; the application fills it."""
    with (
        fragile_disk(tmp_path, tmp_path / name, 64),
        engine_pair(tmp_path, journal_bytes=64 * KIB) as pair,
        closing(pair),
    ):
        node = pair.a if name == "a" else pair.b
        if name == "a":
            with pytest.raises(OSError, match="No space left"):
                fill(pair.a.mount / "large")
            pair.assert_equal()
        else:
            (pair.a.mount / "small").write_bytes(b"small")
        leave_no_room(node.base)
        # The other one is lost: whoever goes on must be able to say so, durably, before it does.
        if name == "a":
            pair.b.call("stop_secondary")
            pair.a.call("go_alone")
            (pair.a.mount / "large").unlink()
        else:
            pair.a.kill()
            wait_for("the closed connection seen", lambda: not pair.b.status()["connected"], PATIENCE)
            assert pair.b.call("stop_secondary")["promotable"]
            pair.b.call("start_primary", True)
            pair.b.call("lease", 5.0)
            (pair.b.mount / "small").unlink()
        record = node.call("record")
        assert record["alone"]
        assert len(record["history"]) == 1
        assert node.status()["error"] is None
        (node.base / "rest").unlink()
        if name == "b":
            pair.a.stop()
            pair.a.start()
        other = pair.b if name == "a" else pair.a
        other.call("start_secondary")
        pair.in_sync(node, timeout=PATIENCE)
        pair.assert_equal()


def test_a_full_journal_disk_ends_the_journal_and_everything_is_compared(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with (
        fragile_disk(tmp_path, state) as disk,
        engine_pair(tmp_path, journal_bytes=16 * KIB) as pair,
    ):
        for number in range(300):
            (pair.a.backing / f"{number}").mkdir(parents=True)
            (pair.a.backing / f"{number}" / "file").write_bytes(b"old")
        with closing(pair):
            assert pair.a.status()["journal"]
            leave_no_room(disk.mountpoint)
            pair.b.call("stop_secondary")
            pair.a.call("go_alone")
            for number in range(300):
                (pair.a.mount / f"{number}" / "file").write_bytes(b"new")
            status = pair.a.status()
            assert not status["journal"]
            assert status["error"] is None
            pair.b.call("start_secondary")
            pair.in_sync(timeout=PATIENCE)
            pair.assert_equal()
            status = pair.a.status()
            assert status["resync_kind"] == "full"
            assert "no journal" in status["resync_reason"], status["resync_reason"]


def test_a_read_only_record_keeps_the_primary_from_going_on_alone(tmp_path: Path) -> None:
    state = tmp_path / "a" / "state"
    with fragile_disk(tmp_path, state) as disk, engine_pair(tmp_path) as pair, closing(pair):
        (pair.a.mount / "before").write_bytes(b"x" * MIB)
        disk.become_read_only()
        pair.relays["b"].open = False
        pair.relays["b"].cut()
        written = threading.Event()

        def write() -> None:
            try:
                (pair.a.mount / "after").write_bytes(b"after")
                written.set()
            except OSError:
                pass

        writer = threading.Thread(target=write)
        writer.start()
        with pytest.raises(EngineError, match="Read-only file system"):
            pair.a.call("go_alone")
        assert not written.wait(1)
        # What it may not say it may not do: the other node, which has everything acknowledged, takes over.
        pair.a.call("abort_primary")
        writer.join(PATIENCE)
        assert not written.is_set()
        stopped = pair.b.call("stop_secondary")
        assert stopped["promotable"], stopped
        pair.b.call("start_primary", True)
        pair.b.call("lease", 5.0)
        assert (pair.b.mount / "before").read_bytes() == b"x" * MIB
        pair.a.stop()
        disk.mend()
        pair.relays["b"].open = True
        pair.a.start()
        pair.a.call("start_secondary")
        pair.in_sync(pair.b, timeout=PATIENCE)
        pair.assert_equal()


def tear(journal: Path) -> None:
    """The last append ends in the middle, as with a power cut: nothing relied on it yet."""
    contents = journal.read_bytes()
    end = len(contents.rstrip(b"\0"))
    with journal.open("r+b") as file:
        file.seek(end - 3)
        file.write(b"\0" * 3)


def test_a_torn_append_is_no_damage(tmp_path: Path) -> None:
    with engine_pair(tmp_path) as pair, closing(pair):
        for number in range(5):
            (pair.a.mount / f"directory {number}").mkdir()
        pair.b.call("stop_secondary")
        pair.a.call("go_alone")
        for number in range(5):
            (pair.a.mount / f"directory {number}" / "file").write_bytes(os.urandom(1000))
        pair.a.kill()
        pair.a.stop()
        tear(pair.a.base / "state" / "journal")
        pair.a.start()
        pair.a.call("start_primary", True)
        pair.a.call("lease", 5.0)
        assert pair.a.status()["journal"]
        pair.b.call("start_secondary")
        pair.in_sync(timeout=PATIENCE)
        pair.assert_equal()
        assert pair.a.status()["resync_kind"] == "incremental", pair.a.status()["resync_reason"]
