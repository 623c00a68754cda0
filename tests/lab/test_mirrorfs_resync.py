"""A full resynchronisation: with the application running, interrupted, of large files, of everything at once."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EnginePair, engine_pair, wait_for
from tests.lab.mirrorfs_work import every_kind_of_operation, reserve, write_beyond


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        yield pair


def fill(directory: Path, directories: int = 40, files: int = 25) -> None:
    """A tree of small files, some of them with a second name elsewhere."""
    for outer in range(directories):
        inner = directory / f"outer {outer % 7}" / f"inner {outer}"
        inner.mkdir(parents=True)
        for number in range(files):
            file = inner / f"file {number}"
            file.write_bytes(os.urandom(number * 1000))
            if number % 9 == 0:
                os.link(file, directory / f"outer {outer % 7}" / f"second name {outer} {number}")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_application_works_on_while_the_peer_is_brought_level(pair: EnginePair, seed: int) -> None:
    fill(pair.a.backing / "tree")
    fill(pair.b.backing / "tree")
    with load_on(pair.a.backing / "tree" / "load", seed) as before:
        time.sleep(0.3)
        before.stop()
    pair.a.start()
    pair.b.start()
    pair.a.call("initialise")
    pair.a.call("start_primary", True)
    pair.a.call("lease", 5.0)
    with load_on(pair.a.mount / "tree" / "load", seed) as load:
        pair.b.call("start_secondary")
        pair.in_sync(timeout=60)
        assert load.stop() > 0
    pair.assert_equal()


def test_an_application_that_moves_things_about_is_followed(pair: EnginePair) -> None:
    fill(pair.a.backing / "tree", 60)
    pair.a.start()
    pair.b.start()
    pair.a.call("initialise")
    pair.a.call("start_primary", True)
    pair.a.call("lease", 5.0)
    tree = pair.a.mount / "tree"
    pair.b.call("start_secondary")
    outers = sorted(tree.iterdir())
    count = 0
    deadline = time.monotonic() + 60
    while not pair.a.status()["in_sync"]:
        assert time.monotonic() < deadline
        outer, other = outers[count % 7], outers[(count * 3 + 1) % 7]
        for inner in list(outer.iterdir())[:2]:
            inner.rename(other / inner.name)
        # Everything has been moved out of it when this takes long.
        file = next((file for file in outers[count % 5].rglob("*") if file.is_file()), None)
        if file is not None:
            os.link(file, tree / f"link {count}")
            file.unlink()
        count += 1
    pair.in_sync()
    pair.assert_equal()


def test_an_interrupted_resynchronisation_begins_again_and_ends(pair: EnginePair) -> None:
    fill(pair.a.backing / "tree")
    pair.a.config["resync_rate"] = 4 << 20
    pair.a.start()
    pair.b.start()
    pair.a.call("initialise")
    pair.a.call("start_primary", True)
    pair.a.call("lease", 5.0)
    pair.b.call("start_secondary")
    with load_on(pair.a.mount / "load") as load:
        for _ in range(4):
            wait_for("syncing", lambda: pair.a.status()["progress"] is not None)
            time.sleep(0.3)
            assert not pair.b.status()["in_sync"]
            pair.relays["b"].cut()
        pair.in_sync(timeout=60)
        load.stop()
    pair.assert_equal()


def test_a_half_synchronised_secondary_may_not_be_promoted(pair: EnginePair) -> None:
    fill(pair.a.backing / "tree")
    pair.a.config["resync_rate"] = 1 << 20
    pair.serve()
    wait_for("syncing", lambda: pair.b.status()["syncing"])
    stopped = pair.b.call("stop_secondary")
    assert not stopped["promotable"]
    assert not pair.b.call("record")["consistent"]
    assert pair.a.call("record")["alone"]


def test_only_what_differs_is_sent(pair: EnginePair) -> None:
    large = pair.a.backing / "large"
    large.write_bytes(os.urandom(64 << 20))
    pair.serve()
    pair.in_sync(timeout=60)
    passed = pair.relays["b"].passed
    assert passed > 64 << 20
    pair.b.call("stop_secondary")
    pair.a.call("go_alone")
    with (pair.a.mount / "large").open("r+b") as file:
        for offset in (0, 10 << 20, 63 << 20):
            file.seek(offset)
            file.write(b"changed")
    pair.b.call("start_secondary")
    pair.in_sync()
    # Three blocks of 64 KiB, and what the protocol itself takes.
    assert pair.relays["b"].passed - passed < 1 << 20
    pair.assert_equal()


def test_everything_at_once_over_a_different_tree(pair: EnginePair) -> None:
    every_kind_of_operation(pair.a.backing / "work")
    every_kind_of_operation(pair.b.backing / "work")
    fill(pair.b.backing / "tree", 5)
    (pair.b.backing / "work" / "plain").unlink()
    (pair.b.backing / "work" / "plain").mkdir()
    (pair.b.backing / "work" / "plain" / "inside").write_text("of another kind")
    pair.serve()
    pair.in_sync()
    pair.assert_equal()


def test_the_administrator_can_have_everything_compared_again(pair: EnginePair) -> None:
    fill(pair.a.backing / "tree", 5)
    pair.serve()
    pair.in_sync()
    # Behind the mount's back.
    victim = pair.b.backing / "tree" / "outer 1" / "inner 1" / "file 3"
    stamp = victim.stat()
    victim.write_bytes(b"\0" * stamp.st_size)
    os.utime(victim, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))
    stream = pair.a.status()["stream"]
    pair.a.call("resync")
    wait_for("a new stream", lambda: pair.a.status()["stream"] not in (stream, None))
    pair.in_sync()
    pair.assert_equal()


def test_space_reserved_beyond_the_end_of_a_file_is_brought_level(pair: EnginePair) -> None:
    for node, name in ((pair.a, "here"), (pair.b, "there")):
        node.backing.mkdir(parents=True, exist_ok=True)
        for each in ("here", "there"):
            (node.backing / each).write_bytes(b"x" * 4096)
        reserve(node.backing / name, 10 * 4096, 8192)
    pair.serve()
    pair.in_sync()
    for name in ("here", "there"):
        write_beyond(pair.a.mount / name)
    pair.assert_equal()


def test_the_totals_are_those_of_what_is_compared(pair: EnginePair) -> None:
    large, small, changed = 12 << 20, 3000, 4 << 20
    tree = pair.a.backing / "tree"
    tree.mkdir(parents=True)
    (pair.a.backing / "large").write_bytes(os.urandom(large))
    for number in range(50):
        (tree / f"{number}").write_bytes(os.urandom(small))
    os.link(tree / "0", pair.a.backing / "a second name")
    (tree / "link").symlink_to("nowhere")
    pair.a.config["resync_rate"] = 4 << 20
    pair.serve()

    def totals() -> tuple[int, int]:
        """Once they are counted."""
        known: list[tuple[int, int]] = []

        def counted() -> bool:
            progress = pair.a.status()["progress"]
            if progress and progress["bytes_total"]:
                assert progress["bytes_done"] <= progress["bytes_total"]
                assert progress["files_done"] <= progress["files_total"]
                known.append((progress["bytes_total"], progress["files_total"]))
            return bool(known)

        wait_for("the totals", counted, 30)
        return known[0]

    # Not of the file system below, which has far more.
    assert totals() == (large + 50 * small, 53)
    pair.in_sync(timeout=60)
    pair.b.call("stop_secondary")
    pair.a.call("go_alone")
    with (pair.a.mount / "large").open("r+b") as file:
        file.write(os.urandom(changed))
    (pair.a.mount / "tree" / "7").write_bytes(os.urandom(small))
    pair.b.call("start_secondary")
    assert totals() == (changed + small, 2)
    pair.in_sync(timeout=60)
    assert pair.a.status()["resync_kind"] == "incremental"
    pair.assert_equal()
