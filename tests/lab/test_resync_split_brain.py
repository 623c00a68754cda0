"""Both nodes wrote alone: nothing is overwritten without the administrator's word, and then what only the losing
side had is found in its quarantine folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_pair import EnginePair, EngineProcess, engine_pair, wait_for


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as both:
        both.serve()
        both.in_sync()
        yield both


def serve_alone(node: EngineProcess) -> None:
    node.call("start_primary", True)
    node.call("lease", 5.0)


def split(pair: EnginePair) -> None:
    """In sync with common files; then each runs alone and changes some; b stops serving."""
    common = pair.a.mount
    (common / "directory").mkdir()
    for name in ("same", "changed by both", "changed by b", "removed by a", "directory/removed by b"):
        (common / name).write_text(f"{name}: common")
    (common / "link").symlink_to("common")
    pair.assert_equal()
    pair.relays["b"].open = False
    pair.relays["b"].cut()
    assert pair.b.call("stop_secondary")["promotable"]
    serve_alone(pair.b)
    pair.a.call("go_alone")
    (pair.a.mount / "changed by both").write_text("a")
    (pair.a.mount / "removed by a").unlink()
    (pair.b.mount / "changed by both").write_text("b's version")
    (pair.b.mount / "changed by b").write_text("b was here")
    (pair.b.mount / "removed by a").write_text("b went on with it")
    (pair.b.mount / "directory/removed by b").unlink()
    (pair.b.mount / "new/deep").mkdir(parents=True)
    (pair.b.mount / "new/deep/file").write_bytes(b"only b" * 100_000)
    pair.b.call("abort_primary")
    pair.relays["b"].open = True
    pair.b.call("start_secondary")


def test_divergence_is_told_and_nothing_is_touched(pair: EnginePair) -> None:
    split(pair)
    wait_for("the verdict", lambda: pair.a.status()["verdict"] == "diverged")
    status = pair.a.status()
    assert not status["connected"]
    assert status["peer_generation"] == pair.b.call("record")["generation"]
    assert "force-primary" in status["link_error"]
    assert (pair.b.backing / "changed by b").read_text() == "b was here"
    assert (pair.a.mount / "changed by both").read_text() == "a"


def test_a_wrong_word_changes_nothing(pair: EnginePair) -> None:
    split(pair)
    pair.a.call("allow_discard", "0123456789abcdef0123456789abcdef")
    wait_for("the verdict", lambda: pair.a.status()["verdict"] == "diverged")
    assert not pair.a.status()["connected"]
    assert (pair.b.backing / "changed by b").read_text() == "b was here"


def test_what_only_the_loser_had_is_quarantined(pair: EnginePair) -> None:
    split(pair)
    loser = pair.b.call("record")["generation"]
    pair.a.call("allow_discard", loser)
    pair.in_sync()
    pair.assert_equal()
    status = pair.b.status()
    folder = Path(status["quarantine"]) / "data"
    assert loser in status["quarantine"]
    kept = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert kept == {
        "changed by both": b"b's version",
        "changed by b": b"b was here",
        "removed by a": b"b went on with it",
        "new/deep/file": b"only b" * 100_000,
    }
    assert status["counters"]["quarantined"] == 4
    records = pair.a.call("record"), pair.b.call("record")
    assert records[0]["generation"] == records[1]["generation"]
    assert records[0]["history"] == records[1]["history"]
    (pair.a.mount / "after").write_text("life goes on")
    pair.assert_equal()


def test_the_secondary_dies_in_the_middle_and_the_quarantine_goes_on(pair: EnginePair) -> None:
    split(pair)
    for index in range(200):
        (pair.a.mount / f"more{index}").write_bytes(os.urandom(20_000))
    loser = pair.b.call("record")["generation"]
    # Slow enough that it is in the middle when it is seen to have begun.
    pair.relays["b"].rate = 1_000_000
    pair.a.call("allow_discard", loser)
    wait_for("some of it", lambda: pair.b.status()["connected"])
    pair.b.kill()
    pair.relays["b"].rate = 0
    pair.b.start()
    assert not pair.b.call("record")["consistent"]
    pair.b.call("start_secondary")
    pair.in_sync()
    pair.assert_equal()
    folders = list((pair.b.base / "quarantine").iterdir())
    assert len(folders) == 1
    assert (folders[0] / "data/changed by b").read_text() == "b was here"
    assert (folders[0] / "data/new/deep/file").exists()


def test_a_promotion_that_never_wrote_is_no_divergence(pair: EnginePair) -> None:
    pair.relays["b"].open = False
    pair.relays["b"].cut()
    assert pair.b.call("stop_secondary")["promotable"]
    serve_alone(pair.b)
    (pair.b.mount).stat()
    pair.a.call("go_alone")
    (pair.a.mount / "written").write_text("a")
    pair.b.call("abort_primary")
    pair.relays["b"].open = True
    pair.b.call("start_secondary")
    pair.in_sync()
    pair.assert_equal()
