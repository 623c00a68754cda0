"""Roles change hands: cleanly, after a death, after both ran alone."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EngineError, EnginePair, engine_pair, wait_for
from tests.lab.mirrorfs_work import every_kind_of_operation


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        pair.serve()
        pair.in_sync()
        yield pair


def test_a_clean_hand_over_needs_no_resynchronisation(pair: EnginePair) -> None:
    with load_on(pair.a.mount / "load") as load:
        time.sleep(0.5)
        load.stop()
    ended = pair.a.call("stop_primary", 10.0)
    assert ended["clean"]
    assert pair.a.call("record")["token"] == ended["token"]
    stopped = pair.b.call("stop_secondary")
    assert stopped["promotable"]
    assert stopped["token"] == ended["token"]
    pair.assert_equal()
    pair.a.call("start_secondary")
    pair.b.call("start_primary", False)
    pair.b.call("lease", 5.0)
    started = time.monotonic()
    every_kind_of_operation(pair.b.mount / "after")
    assert time.monotonic() - started < 20
    pair.in_sync(pair.b)
    assert not pair.b.call("record")["alone"]
    # The token counts once.
    assert pair.a.call("record")["token"] is None
    assert pair.b.call("record")["token"] is None
    assert pair.a.call("record")["generation"] == pair.b.call("record")["generation"]
    pair.assert_equal()


def test_a_secondary_takes_over_from_a_dead_primary(pair: EnginePair) -> None:
    (pair.a.mount / "acknowledged").write_bytes(b"x" * 100_000)
    pair.a.kill()
    wait_for("the closed connection seen", lambda: not pair.b.status()["connected"], 5)
    assert pair.b.status()["in_sync"]
    stopped = pair.b.call("stop_secondary")
    assert stopped["promotable"], stopped
    pair.b.call("start_primary", True)
    pair.b.call("lease", 5.0)
    assert (pair.b.mount / "acknowledged").read_bytes() == b"x" * 100_000
    (pair.b.mount / "alone").write_bytes(b"y")
    # The old primary returns as secondary; its stale mount is cleared.
    pair.a.start()
    assert pair.a.call("record")["last_role"] == "primary"
    pair.a.call("start_secondary")
    pair.in_sync(pair.b)
    pair.assert_equal()


def test_a_restarted_secondary_is_synchronised_again(pair: EnginePair) -> None:
    with load_on(pair.a.mount / "load") as load:
        time.sleep(0.3)
        pair.b.kill()
        pair.b.start()
        pair.b.call("start_secondary")
        pair.in_sync()
        load.stop()
    assert not pair.a.call("record")["alone"]
    pair.assert_equal()


def test_both_ran_alone_and_the_administrator_chooses(pair: EnginePair) -> None:
    (pair.a.mount / "common").write_text("common")
    pair.relays["b"].open = False
    pair.relays["b"].cut()
    pair.a.call("go_alone")
    (pair.a.mount / "only a").write_text("a")
    pair.b.call("stop_secondary")
    pair.b.call("start_primary", True)
    pair.b.call("lease", 5.0)
    (pair.b.mount / "only b").write_text("b")
    pair.b.call("abort_primary")
    pair.b.call("start_secondary")
    pair.relays["b"].open = True
    wait_for("divergence seen", lambda: pair.a.status()["verdict"] == "diverged")
    wait_for("refusal told", lambda: "force-primary" in (pair.a.status()["link_error"] or ""))
    assert (pair.b.backing / "only b").exists()
    pair.a.call("allow_discard", pair.b.call("record")["generation"])
    pair.in_sync()
    pair.assert_equal()
    kept = [path for path in (pair.b.base / "quarantine").rglob("*") if path.name == "only b"]
    assert len(kept) == 1
    assert kept[0].read_text() == "b"


def test_foreign_and_damaged_records_are_refused(pair: EnginePair) -> None:
    pair.b.stop()
    record = pair.b.base / "state" / "record.json"
    whole = record.read_bytes()
    record.write_bytes(whole[:100])
    pair.b.start()
    with pytest.raises(EngineError):
        pair.b.call("status")
    record.write_bytes(whole)
    shutil.rmtree(pair.b.backing)
    pair.b.backing.mkdir()
    pair.b.start()
    with pytest.raises(EngineError):
        pair.b.call("status")
