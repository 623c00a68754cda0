"""The stream under cuts and corruption: it resumes, repeats nothing, loses nothing."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EnginePair, engine_pair, wait_for


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        pair.serve()
        pair.in_sync()
        yield pair


def test_a_cut_connection_is_resumed(pair: EnginePair) -> None:
    stream = pair.a.status()["stream"]
    with load_on(pair.a.mount / "load") as load:
        for _ in range(8):
            time.sleep(0.3)
            pair.relays["b"].cut()
        pair.in_sync()
        assert load.stop() > 20
    status = pair.a.status()
    assert status["stream"] == stream
    assert not status["alone"]
    pair.assert_equal()


def test_a_connection_cut_within_a_frame_is_resumed(pair: EnginePair) -> None:
    stream = pair.a.status()["stream"]
    with load_on(pair.a.mount / "load") as load:
        for count in (1, 100, 5_000, 100_001, 250_000):
            pair.relays["b"].cut_after(count)
            time.sleep(0.4)
        pair.in_sync()
        load.stop()
    assert pair.a.status()["stream"] == stream
    pair.assert_equal()


def test_a_corrupted_frame_drops_the_connection_and_is_sent_again(pair: EnginePair) -> None:
    stream = pair.a.status()["stream"]
    with load_on(pair.a.mount / "load") as load:
        for count in (1, 10, 1_000, 33_333, 100_001):
            pair.relays["b"].corrupt_after(count)
            time.sleep(0.4)
        wait_for("corruption", lambda: pair.relays["b"].corrupted == 5)
        pair.in_sync()
        load.stop()
    assert pair.a.status()["stream"] == stream
    pair.assert_equal()


def test_without_the_peer_operations_wait_until_the_node_goes_on_alone(pair: EnginePair) -> None:
    generation = pair.a.call("record")["generation"]
    pair.relays["b"].open = False
    pair.relays["b"].cut()
    written = threading.Event()

    def write() -> None:
        (pair.a.mount / "alone").write_bytes(b"alone")
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not written.wait(1.5)
    status = pair.a.status()
    assert not status["connected"]
    assert status["oldest_wait_ms"] > 1000
    pair.a.call("go_alone")
    assert written.wait(5)
    writer.join()
    record = pair.a.call("record")
    assert record["alone"]
    assert record["history"][0] == generation != record["generation"]
    # The peer comes back, and is brought level.
    pair.relays["b"].open = True
    pair.in_sync()
    assert not pair.a.call("record")["alone"]
    assert pair.b.call("record")["generation"] == record["generation"]
    pair.assert_equal()


def test_a_silent_connection_is_given_up_and_dialled_again(pair: EnginePair) -> None:
    with load_on(pair.a.mount / "load") as load:
        pair.relays["b"].stalled = True
        wait_for("given up", lambda: not pair.a.status()["connected"], 5)
        pair.relays["b"].stalled = False
        pair.in_sync()
        load.stop()
    pair.assert_equal()


def test_an_expired_lease_holds_operations_back(pair: EnginePair) -> None:
    (pair.a.mount / "file").write_bytes(b"before")
    pair.a.call("lease", 0)
    pair.a.call("fence")
    written = threading.Event()

    def write() -> None:
        with (pair.a.mount / "file").open("r+b") as file:
            file.write(b"after.")
            file.flush()
            os.fsync(file.fileno())
        written.set()

    writer = threading.Thread(target=write)
    writer.start()
    assert not written.wait(1.0)
    # Nothing of it has happened, on either node.
    assert (pair.a.backing / "file").read_bytes() == b"before"
    assert (pair.b.backing / "file").read_bytes() == b"before"
    pair.a.call("lease", 5.0)
    assert written.wait(5)
    writer.join()
    assert (pair.b.backing / "file").read_bytes() == b"after."


def test_acknowledgements_that_come_after_the_end_of_the_lease_complete_nothing(tmp_path: Path) -> None:
    """Both nodes hold the write, and still the old primary does not say so (R1)."""
    with engine_pair(tmp_path, peer_timeout_ms=60_000) as pair:
        pair.serve()
        pair.in_sync()
        pair.a.call("lease", 0)
        pair.a.call("fence")
        pair.a.call("lease", 2.0)
        pair.relays["b"].stalled = True
        written = threading.Event()

        def write() -> None:
            (pair.a.mount / "file").write_bytes(b"late")
            written.set()

        writer = threading.Thread(target=write)
        writer.start()
        wait_for("the write under way", lambda: pair.a.status()["oldest_wait_ms"] > 0)
        pair.a.call("lease", 0)
        last = pair.a.status()["lease_ns"]
        wait_for("the end of the lease", lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME) > last)
        pair.relays["b"].stalled = False
        wait_for("the acknowledgement", lambda: pair.a.status()["acked"] == pair.a.status()["seq"] > 0)
        assert not written.wait(1.0)
        pair.a.call("lease", 5.0)
        assert written.wait(30)
        writer.join()
        assert (pair.b.backing / "file").read_bytes() == b"late"


def test_aborting_fails_what_waits(pair: EnginePair) -> None:
    pair.relays["b"].open = False
    pair.relays["b"].cut()
    failed: list[OSError] = []

    def write() -> None:
        try:
            (pair.a.mount / "aborted").write_bytes(b"x")
        except OSError as error:
            failed.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    time.sleep(0.5)
    pair.a.call("abort_primary")
    writer.join(10)
    assert failed
    assert pair.a.status()["mode"] == "idle"
    assert not os.path.ismount(pair.a.mount)
