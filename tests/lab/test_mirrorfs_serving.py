"""A primary serves its files and its secondary has the same, with real FUSE and two processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_pair import EnginePair, engine_pair
from tests.lab.mirrorfs_work import every_kind_of_operation


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        yield pair


def test_a_primary_serves_alone(pair: EnginePair) -> None:
    pair.a.start()
    pair.a.call("initialise")
    pair.a.call("start_primary", True)
    pair.a.call("lease", 5.0)
    every_kind_of_operation(pair.a.mount / "work")
    assert (pair.a.backing / "work").is_dir()
    assert pair.a.call("stop_primary", 5.0) == {"clean": False, "token": None}
    assert not os.path.ismount(pair.a.mount)


def test_every_kind_of_operation_reaches_the_secondary(pair: EnginePair) -> None:
    pair.serve()
    pair.in_sync()
    before = pair.a.status()["counters"]["bytes"]
    every_kind_of_operation(pair.a.mount / "work")
    (pair.a.mount / "large").write_bytes(bytes(1 << 20))
    assert 1 << 20 < pair.a.status()["counters"]["bytes"] - before < 8 << 20
    pair.assert_equal()


def test_existing_files_are_synchronised(pair: EnginePair) -> None:
    every_kind_of_operation(pair.a.backing / "before")
    pair.serve()
    pair.in_sync()
    pair.assert_equal()
    every_kind_of_operation(pair.a.mount / "after")
    pair.assert_equal()


def test_durability_commit_keeps_the_order_and_waits_where_it_must(tmp_path: Path) -> None:
    with engine_pair(tmp_path, durability="commit") as pair:
        pair.serve()
        pair.in_sync()
        every_kind_of_operation(pair.a.mount / "work")
        pair.relays["b"].stalled = True
        (pair.a.mount / "created at once").touch()
        descriptor = os.open(pair.a.mount / "flushed", os.O_CREAT | os.O_WRONLY)
        os.write(descriptor, b"not waited for")
        assert not (pair.b.backing / "flushed").exists()
        pair.relays["b"].stalled = False
        os.fsync(descriptor)
        assert (pair.b.backing / "flushed").read_bytes() == b"not waited for"
        os.write(descriptor, b", then closed")
        os.close(descriptor)
        assert (pair.b.backing / "flushed").read_bytes() == b"not waited for, then closed"
        pair.assert_equal()


def test_large_writes_stay_large(pair: EnginePair) -> None:
    pair.serve()
    pair.in_sync()
    data = os.urandom(1 << 20)
    with (pair.a.mount / "large").open("wb", buffering=0) as file:
        before = pair.a.status()["counters"]["requests"]
        for _ in range(16):
            file.write(data)
        requests = pair.a.status()["counters"]["requests"] - before
    assert requests < 40, "one request for each MiB, and a few for attributes"
