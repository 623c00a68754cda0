"""Both trees compared online: no false alarm under load, a flipped bit found on either node, put right on request."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EngineError, EnginePair, engine_pair, wait_for


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        pair.serve()
        pair.in_sync()
        yield pair


def verify(pair: EnginePair, repair: bool = False, timeout: float = 120.0) -> dict[str, Any]:
    """Order a verification and wait for its end."""
    pair.a.call("verify", repair)
    wait_for("the end of the verification", lambda: not pair.a.status()["verify"]["running"], timeout)
    status: dict[str, Any] = pair.a.status()["verify"]
    return status


def found_equal(pair: EnginePair) -> bool:
    """Once the resynchronisation that the repair asked for is over."""
    try:
        status = verify(pair)
    except EngineError:
        return False
    return (status["stopped"], status["found"]) == (None, 0)


def flip(path: Path, offset: int) -> None:
    """One bit of a file, behind the mount and without a trace in its times."""
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ 0x10]))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def fill(pair: EnginePair) -> None:
    """A tree with something of everything."""
    (pair.a.mount / "deep" / "er").mkdir(parents=True)
    (pair.a.mount / "deep" / "er" / "file").write_bytes(os.urandom(700_001))
    with (pair.a.mount / "sparse").open("wb") as file:
        file.write(b"begin")
        file.seek(50_000_000)
        file.write(b"end")
    (pair.a.mount / "empty").touch()
    (pair.a.mount / "link").symlink_to("deep/er/file")
    os.link(pair.a.mount / "sparse", pair.a.mount / "deep" / "second name")
    os.mkfifo(pair.a.mount / "fifo")
    (pair.a.mount / os.fsdecode(b"not utf-8 \xff\xfe")).write_bytes(bytes(10_000))
    os.setxattr(pair.a.mount / "empty", "user.colour", b"blue")


def test_equal_trees_are_found_equal_while_an_application_writes(pair: EnginePair) -> None:
    fill(pair)
    with load_on(pair.a.mount / "load") as load:
        until = time.monotonic() + 4
        while time.monotonic() < until:
            status = verify(pair)
            assert (status["stopped"], status["found"], status["findings"]) == (None, 0, [])
            assert status["files"] >= 6
        assert load.stop() > 20
    assert pair.a.status()["in_sync"]
    pair.assert_equal()


@pytest.mark.parametrize("node", ["a", "b"])
def test_a_flipped_bit_is_found_with_path_and_block_and_repaired(pair: EnginePair, node: str) -> None:
    fill(pair)
    backing = {"a": pair.a, "b": pair.b}[node].backing
    flip(backing / "deep" / "er" / "file", 5 * 4096 + 77)
    flip(backing / "sparse", 50_000_001)
    with load_on(pair.a.mount / "load") as load:
        status = verify(pair)
        load.stop()
    assert (status["stopped"], status["found"], status["repaired"]) == (None, 2, 0)
    found = {finding["path"]: finding for finding in status["findings"]}
    large = found["deep/er/file"]
    assert (large["volume"], large["what"], large["offset"], large["len"]) == (
        "data",
        "content",
        5 * 4096,
        4096,
    )
    sparse = next(finding for path, finding in found.items() if path in {"sparse", "deep/second name"})
    assert sparse["what"] == "content"
    assert sparse["offset"] <= 50_000_001 < sparse["offset"] + 4096
    status = verify(pair, True)
    assert (status["stopped"], status["found"], status["repaired"], status["resync"]) == (None, 2, 2, False)
    assert verify(pair)["found"] == 0
    pair.assert_equal()


def test_what_else_was_changed_behind_the_mount_is_found_and_repaired(pair: EnginePair) -> None:
    fill(pair)
    (pair.b.backing / "surplus").write_text("only here")
    (pair.b.backing / "deep" / "second name").unlink()
    (pair.b.backing / "empty").chmod(0o4777)
    os.truncate(pair.b.backing / "deep" / "er" / "file", 700_000)
    os.setxattr(pair.b.backing / "link", "trusted.note", b"new", follow_symlinks=False)
    status = verify(pair, True)
    found = {(finding["path"], finding["what"]) for finding in status["findings"]}
    assert {
        ("surplus", "surplus"),
        ("deep/second name", "missing"),
        ("empty", "attributes"),
        ("deep/er/file", "size"),
        ("link", "attributes"),
    } <= found
    assert status["resync"]
    wait_for("a comparison that finds nothing", lambda: found_equal(pair), 60)
    pair.assert_equal()


def test_a_verification_survives_cuts_of_the_link(pair: EnginePair) -> None:
    for index in range(40):
        (pair.a.mount / f"file{index}").write_bytes(os.urandom(2_000_000))
    flip(pair.b.backing / "file39", 1_999_999)
    flip(pair.b.backing / "file0", 0)
    pair.a.call("verify", False)
    cuts = 0
    # Cut for ever, it would never end: each connection has time for little more than the hello.
    while cuts < 10 and pair.a.status()["verify"]["running"]:
        pair.relays["b"].cut_after(100_000)
        pair.relays["b"].cut()
        pair.in_sync()
        cuts += 1
    assert cuts > 0
    wait_for("the end of the verification", lambda: not pair.a.status()["verify"]["running"], 120)
    status = pair.a.status()["verify"]
    assert (status["stopped"], status["found"]) == (None, 2)
    assert {finding["path"] for finding in status["findings"]} == {"file0", "file39"}


def test_a_verification_ends_with_the_peer_and_needs_one(pair: EnginePair) -> None:
    for index in range(20):
        (pair.a.mount / f"file{index}").write_bytes(os.urandom(2_000_000))
    pair.a.call("verify", False)
    pair.b.kill()
    pair.a.call("go_alone")
    wait_for("the end of the verification", lambda: not pair.a.status()["verify"]["running"])
    with pytest.raises(EngineError, match="not in sync"):
        pair.a.call("verify", False)
