"""A node that comes back is compared only where either journal says so; where that cannot be, in full, and says why."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.disk import Disk
from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EnginePair, EngineProcess, engine_pair, wait_for
from tests.lab.mirrorfs_work import every_kind_of_operation, reserve, write_beyond

KIB, MIB = 1 << 10, 1 << 20


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        yield pair


def leave(pair: EnginePair) -> None:
    """``b`` goes away, ``a`` goes on alone."""
    pair.b.call("stop_secondary")
    pair.a.call("go_alone")


def come_back(pair: EnginePair, timeout: float = 30.0) -> tuple[str, str]:
    """``b`` is brought level; what was compared, and why."""
    pair.b.call("start_secondary")
    pair.in_sync(timeout=timeout)
    pair.assert_equal()
    status = pair.a.status()
    return status["resync_kind"], status["resync_reason"]


def restart(node: EngineProcess) -> None:
    """The process ends as with kill -9, and another one begins."""
    node.kill()
    node.stop()
    node.start()


def serve_alone(node: EngineProcess) -> None:
    node.call("start_primary", True)
    node.call("lease", 5.0)


def bytes_read(node: EngineProcess) -> int:
    """By read(2) and the like, from files and sockets."""
    assert node.process is not None
    text = Path(f"/proc/{node.process.pid}/io").read_text()
    return int(next(line.split()[1] for line in text.splitlines() if line.startswith("rchar")))


@contextmanager
def wire(pair: EnginePair, peer: str = "b") -> Iterator[Callable[[], int]]:
    """Bytes in both directions since now."""
    relay = pair.relays[peer]
    before = relay.passed + relay.answered
    yield lambda: relay.passed + relay.answered - before


def test_what_crosses_the_wire_is_bounded_by_what_changed(pair: EnginePair) -> None:
    size, small, chosen = 256 * MIB, 8 * KIB, random.Random(6)
    tree = pair.a.backing / "tree"
    files = [tree / f"{number // 100:02}" / f"file {number}" for number in range(5000)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(os.urandom(small))
    with (pair.a.backing / "large").open("wb") as large:
        for _ in range(size // MIB):
            large.write(os.urandom(MIB))
    pair.serve()
    pair.in_sync(timeout=120)
    assert pair.a.status()["resync_kind"] == "full"
    leave(pair)

    with (pair.a.mount / "large").open("r+b") as large:
        for block in chosen.sample(range(size // (4 * KIB)), 256):
            large.seek(block * 4 * KIB)
            large.write(os.urandom(4 * KIB))
    changed = [pair.a.mount / file.relative_to(pair.a.backing) for file in chosen.sample(files, 100)]
    for file in changed[:50]:
        file.write_bytes(os.urandom(small))
    for file in changed[50:75]:
        file.unlink()
    for file in changed[75:]:
        file.rename(file.with_name(file.name + " renamed"))
    blocks = 256 * 4 * KIB + 75 * small

    read = [bytes_read(node) for node in pair.nodes()]
    with wire(pair) as crossed:
        begun = time.monotonic()
        kind, reason = come_back(pair)
        took = time.monotonic() - begun
    read = [bytes_read(node) - before for node, before in zip(pair.nodes(), read, strict=True)]
    print(f"{crossed()} bytes on the wire for {blocks} changed, read {read}, {took:.2f} s: {kind}, {reason}")
    assert kind == "incremental"
    assert crossed() < 1.5 * blocks
    # Each changed place is a piece of 64 KiB for the journal, read twice by the primary.
    assert max(read) < 80 * MIB


@pytest.mark.parametrize("kind", ["full", "incremental"])
def test_space_reserved_beyond_the_end_of_a_file_is_brought_level(pair: EnginePair, kind: str) -> None:
    (pair.a.backing / "file").write_bytes(b"x" * 4096)
    (pair.a.backing / "other").write_bytes(b"x" * 4096)
    if kind == "incremental":
        pair.serve()
        pair.in_sync()
        leave(pair)
        reserve(pair.a.mount / "file", 10 * 4096, 8192)
        assert come_back(pair)[0] == kind
    else:
        reserve(pair.a.backing / "file", 10 * 4096, 8192)
        pair.b.backing.mkdir(parents=True, exist_ok=True)
        (pair.b.backing / "other").write_bytes(b"x" * 4096)
        reserve(pair.b.backing / "other", 10 * 4096, 8192)
        pair.serve()
        pair.in_sync()
    for name in ("file", "other"):
        write_beyond(pair.a.mount / name)
    pair.assert_equal()


def test_every_kind_of_operation_is_found_again(pair: EnginePair) -> None:
    pair.serve()
    pair.in_sync()
    every_kind_of_operation(pair.a.mount / "before")
    leave(pair)
    every_kind_of_operation(pair.a.mount / "alone")
    moved = pair.a.mount / "before"
    moved.rename(pair.a.mount / "after")
    (pair.a.mount / "before").mkdir()
    (pair.a.mount / "before" / "new").write_text("under an old name")
    assert come_back(pair)[0] == "incremental"


@pytest.mark.parametrize("seed", [1, 2])
def test_a_load_goes_on_while_the_peer_is_away_and_while_it_comes_back(pair: EnginePair, seed: int) -> None:
    pair.serve()
    pair.in_sync()
    with load_on(pair.a.mount / "load", seed) as load:
        for _ in range(3):
            time.sleep(0.5)
            leave(pair)
            time.sleep(0.5)
            pair.b.call("start_secondary")
            pair.in_sync()
            assert pair.a.status()["resync_kind"] == "incremental"
        assert load.stop() > 0
    pair.assert_equal()


#: Closes nothing: that would wait for the peer.
TAIL = """
import os, sys, time
os.chdir(sys.argv[1])
large = os.open("large", os.O_RDWR)
os.pwrite(large, b"tail" * 1000, 2 << 20)
os.rename("kept/file", "kept/moved")
new = os.open("only here", os.O_CREAT | os.O_RDWR)
os.write(new, b"x" * 5000)
os.rename("kept", "elsewhere")
os.mkdir("kept")
print("done", flush=True)
time.sleep(60)
"""


@contextmanager
def running(program: str, directory: Path) -> Iterator[subprocess.Popen[str]]:
    """A Python program on a mount that may hang there until it is gone."""
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()


def test_a_tail_that_only_the_dead_primary_had_is_undone(tmp_path: Path) -> None:
    with engine_pair(tmp_path, durability="commit", journal_cooling_ms=300) as pair:
        pair.serve()
        pair.in_sync()
        mount = pair.a.mount
        (mount / "kept").mkdir()
        (mount / "kept" / "file").write_bytes(b"old" * 1000)
        (mount / "large").write_bytes(os.urandom(3 * MIB))
        # Everything so far is cold when the tail begins.
        time.sleep(1.5)
        pair.relays["b"].stalled = True
        time.sleep(0.1)
        with running(TAIL, mount) as tail:
            assert tail.stdout is not None
            assert tail.stdout.readline() == "done\n"
            pair.a.kill()
        pair.a.stop()
        pair.relays["b"].close()
        assert pair.b.call("stop_secondary")["promotable"]
        serve_alone(pair.b)
        (pair.b.mount / "kept" / "new").write_bytes(b"y" * 100)
        pair.a.start()
        pair.a.call("start_secondary")
        pair.in_sync(pair.b)
        pair.assert_equal()
        assert pair.b.status()["resync_kind"] == "incremental"
        assert (pair.a.backing / "kept" / "file").read_bytes() == b"old" * 1000
        assert not (pair.a.backing / "only here").exists()


def damage(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4096 + 12)
        byte = file.read(1)
        file.seek(4096 + 12)
        file.write(bytes([byte[0] ^ 1]))


def newer(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(8)
        file.write(b"\x09\0\0\0")


def damage_header(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(44)
        file.write(b"\xff")


@pytest.mark.parametrize("victim", ["a", "b"])
@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (damage, "damaged"),
        (damage_header, "damaged"),
        (lambda path: os.truncate(path, 10_000), "shorter"),
        (newer, "format 9"),
        (Path.unlink, "does not exist"),
    ],
    ids=["record", "header", "truncated", "newer", "missing"],
)
def test_without_a_usable_journal_everything_is_compared(
    pair: EnginePair, victim: str, harm: Callable[[Path], None], reason: str
) -> None:
    # ``b`` has been primary as well, so that its journal is not empty either.
    pair.serve()
    pair.in_sync()
    pair.a.call("stop_primary", 10.0)
    pair.b.call("stop_secondary")
    pair.b.call("start_primary", False)
    pair.b.call("lease", 5.0)
    pair.a.call("start_secondary")
    pair.in_sync(pair.b)
    for number in range(5):
        (pair.b.mount / f"directory {number}").mkdir()
        (pair.b.mount / f"directory {number}" / "file").write_bytes(os.urandom(1000))
    pair.b.call("stop_primary", 10.0)
    pair.a.call("stop_secondary")
    serve_alone(pair.a)
    for number in range(5):
        (pair.a.mount / f"directory {number}" / "file").write_bytes(os.urandom(1000))
    node = pair.a if victim == "a" else pair.b
    node.kill()
    node.stop()
    harm(node.base / "state" / "journal")
    node.start()
    if victim == "a":
        serve_alone(pair.a)
    kind, why = come_back(pair)
    assert kind == "full"
    assert reason in why, why
    # And from then on there is one again.
    leave(pair)
    (pair.a.mount / "directory 1" / "file").write_bytes(b"changed")
    assert come_back(pair)[0] == "incremental"


def test_more_than_the_journal_holds_is_compared_in_full(tmp_path: Path) -> None:
    with engine_pair(tmp_path, journal_bytes=16 * KIB) as pair:
        for number in range(300):
            (pair.a.backing / f"{number}").mkdir(parents=True)
            (pair.a.backing / f"{number}" / "file").write_bytes(b"old")
        pair.serve()
        pair.in_sync()
        assert pair.a.status()["journal"]
        leave(pair)
        for number in range(300):
            (pair.a.mount / f"{number}" / "file").write_bytes(b"new")
        assert not pair.a.status()["journal"]
        kind, why = come_back(pair)
        assert kind == "full"
        assert "more has changed" in why
        leave(pair)
        (pair.a.mount / "7" / "file").write_bytes(b"newer")
        assert come_back(pair)[0] == "incremental"


def test_an_interrupted_incremental_resynchronisation_goes_on(tmp_path: Path) -> None:
    with engine_pair(tmp_path, resync_rate=8 * MIB) as pair:
        large = pair.a.backing / "large"
        large.write_bytes(os.urandom(32 * MIB))
        pair.serve()
        pair.in_sync(timeout=60)
        leave(pair)
        every_kind_of_operation(pair.a.mount / "alone")
        with (pair.a.mount / "large").open("r+b") as file:
            for megabyte in range(32):
                file.seek(megabyte * MIB)
                file.write(os.urandom(300 * KIB))
        pair.b.call("start_secondary")
        with load_on(pair.a.mount / "load") as load:
            for _ in range(3):
                wait_for("syncing", lambda: pair.a.status()["progress"] is not None)
                time.sleep(0.3)
                assert not pair.b.status()["in_sync"]
                pair.relays["b"].cut()
            # A new process on either side remembers as well.
            restart(pair.b)
            pair.b.call("start_secondary")
            pair.in_sync(timeout=60)
            load.stop()
        pair.assert_equal()
        assert pair.a.status()["resync_kind"] == "incremental"


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_both_lose_power_and_agree_by_their_journals(tmp_path: Path, seed: int) -> None:
    disks = {name: Disk(tmp_path / f"{name}.img", tmp_path / name, 256) for name in "ab"}
    try:
        for disk in disks.values():
            disk.mount()
        with engine_pair(tmp_path, durability="commit", journal_cooling_ms=400) as pair:
            pair.serve()
            pair.in_sync()
            acknowledged = pair.a.mount / "acknowledged"
            with load_on(pair.a.mount / "load", seed) as load:
                time.sleep(1.0 + 0.3 * seed)
                with acknowledged.open("wb") as file:
                    file.write(b"kept")
                    file.flush()
                    os.fsync(file.fileno())
                time.sleep(0.1 * seed)
                # Alone for the last moments, or not.
                pair.relays["b"].stalled = seed == 2
                time.sleep(0.2)
                for name in "ba" if seed == 3 else "ab":
                    disks[name].cut()
                for node in pair.nodes():
                    node.kill()
                    node.stop()
                load.end()
            pair.relays["b"].stalled = False
            for disk in disks.values():
                disk.unmount()
                disk.mount()
            for node in pair.nodes():
                node.start()
            first, second = (pair.a, pair.b) if seed != 3 else (pair.b, pair.a)
            serve_alone(first)
            (first.mount / "after").write_bytes(b"after")
            second.call("start_secondary")
            pair.in_sync(first, timeout=60)
            pair.assert_equal()
            assert first.status()["resync_kind"] == "incremental", first.status()["resync_reason"]
            assert (first.mount / "acknowledged").read_bytes() == b"kept"
    finally:
        for disk in disks.values():
            disk.unmount()
