"""The link loses, reorders and corrupts, is slow, or stands still; the peer hangs. Nothing of it reaches the
application as an error or as a false success."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.mirrorfs_load import load_on
from tests.lab.mirrorfs_pair import EnginePair, EngineProcess, engine_pair, wait_for
from tests.lab.mirrorfs_relay import Relay

MIB = 1 << 20
PATIENCE = 60.0


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[EnginePair]:
    with engine_pair(tmp_path) as pair:
        pair.serve()
        pair.in_sync()
        yield pair


def corrupted(relay: Relay) -> Callable[[], bool]:
    before = relay.corrupted
    relay.corrupt_after(random.randrange(200_000))
    return lambda: relay.corrupted > before


def corrupted_answer(relay: Relay) -> Callable[[], bool]:
    before = relay.corrupted
    relay.corrupt_answer()
    return lambda: relay.corrupted > before


#: Bytes that are lost at once. What is missing of a frame, the signs of life that follow fill up: more takes longer.
LOST = (1, 19, 20, 100)


def lost(relay: Relay) -> Callable[[], bool]:
    before = relay.lost
    relay.lose_after(random.randrange(200_000), random.choice(LOST))
    return lambda: relay.lost > before


def swapped(relay: Relay) -> Callable[[], bool]:
    before = relay.swapped
    relay.swap()
    return lambda: relay.swapped > before


@pytest.mark.parametrize("harm", [corrupted, corrupted_answer, lost, swapped])
def test_what_the_link_does_to_the_bytes_is_found_and_sent_again(
    pair: EnginePair, harm: Callable[[Relay], Callable[[], bool]]
) -> None:
    stream = pair.a.status()["stream"]
    reasons: set[str] = set()
    with load_on(pair.a.mount / "load") as load:
        for _ in range(5):
            accepted = pair.relays["b"].accepted
            done = harm(pair.relays["b"])
            wait_for("the harm is done", done, PATIENCE)
            wait_for("it is found, and the connection made anew", renewed(pair, accepted, reasons), PATIENCE)
            wait_for("connected again", lambda: bool(pair.a.status()["connected"]), PATIENCE)
        pair.in_sync(timeout=PATIENCE)
        assert load.stop() > 0
    # The same stream went on: nothing was compared anew, nothing done twice.
    assert pair.a.status()["stream"] == stream
    assert not pair.a.call("record")["alone"]
    pair.assert_equal()
    print(reasons)


def renewed(pair: EnginePair, accepted: int, reasons: set[str]) -> Callable[[], bool]:
    """There have been more connections than so many; adds to the reasons why one ended."""

    def condition() -> bool:
        reasons.update({status["link_error"] for status in (pair.a.status(), pair.b.status())} - {None})
        return pair.relays["b"].accepted > accepted

    return condition


@contextmanager
def frozen(node: EngineProcess) -> Iterator[None]:
    """Its process stands still; the kernel goes on taking bytes for it."""
    assert node.process is not None
    node.process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            node.process.send_signal(signal.SIGCONT)


class Writing:
    """An application that writes and calls fsync, over and over."""

    def __init__(self, path: Path) -> None:
        self.acknowledged = 0
        self.failed: OSError | None = None
        self._stop = False
        self._path = path
        self._thread = threading.Thread(target=self._work)
        self._thread.start()

    def _work(self) -> None:
        try:
            with self._path.open("wb", buffering=0) as file:
                while not self._stop:
                    file.write(os.urandom(4096))
                    os.fsync(file.fileno())
                    self.acknowledged += 1
        except OSError as error:
            self.failed = error

    def goes_on(self) -> None:
        """Something more is acknowledged."""
        before = self.acknowledged
        wait_for("the application goes on", lambda: self.acknowledged > before + 2, PATIENCE)

    def end(self) -> int:
        """How much was acknowledged; none of it failed."""
        self._stop = True
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()
        assert self.failed is None
        return self.acknowledged


def test_a_peer_that_hangs_is_waited_for_or_left_behind_but_never_counted(pair: EnginePair) -> None:
    work = Writing(pair.a.mount / "file")
    work.goes_on()
    with frozen(pair.b):
        wait_for("given up", lambda: not pair.a.status()["connected"], PATIENCE)
        assert pair.a.status()["link_error"]
        held = work.acknowledged
        wait_for("held back", lambda: pair.a.status()["oldest_wait_ms"] > 500, PATIENCE)
        # What the frozen node has not applied was not acknowledged; one call may have been under way.
        assert work.acknowledged <= held + 1
        pair.a.call("go_alone")
        work.goes_on()
    pair.in_sync(timeout=PATIENCE)
    assert pair.b.call("record")["generation"] == pair.a.call("record")["generation"]
    work.goes_on()
    acknowledged = work.end()
    assert (pair.b.backing / "file").stat().st_size >= acknowledged * 4096
    pair.assert_equal()


def test_a_peer_that_hangs_for_a_moment_costs_only_that(pair: EnginePair) -> None:
    stream = pair.a.status()["stream"]
    work = Writing(pair.a.mount / "file")
    work.goes_on()
    for _ in range(3):
        with frozen(pair.b):
            time.sleep(0.2)
        work.goes_on()
    work.end()
    pair.in_sync(timeout=PATIENCE)
    assert pair.a.status()["stream"] == stream
    assert not pair.a.call("record")["alone"]
    pair.assert_equal()


def test_a_primary_that_hangs_keeps_nothing_it_was_not_told(pair: EnginePair) -> None:
    (pair.a.mount / "acknowledged").write_bytes(b"x" * MIB)
    with frozen(pair.a):
        wait_for("silence is noticed", lambda: not pair.b.status()["connected"], PATIENCE)
        stopped = pair.b.call("stop_secondary")
        assert stopped["promotable"], stopped
        pair.b.call("start_primary", True)
        pair.b.call("lease", 5.0)
        (pair.b.mount / "after").write_bytes(b"after")
        assert (pair.b.mount / "acknowledged").read_bytes() == b"x" * MIB
    pair.a.call("fence")
    pair.a.call("abort_primary")
    pair.a.call("start_secondary")
    pair.in_sync(pair.b, timeout=PATIENCE)
    pair.assert_equal()


def test_a_slow_link_slows_down_and_keeps_the_connection_and_memory_bounded(tmp_path: Path) -> None:
    with engine_pair(tmp_path, durability="commit", window_bytes=2 * MIB, peer_timeout_ms=4000) as pair:
        pair.serve()
        pair.in_sync()
        stream = pair.a.status()["stream"]
        relay = pair.relays["b"]
        relay.delay, relay.rate = 0.005, 8.0 * MIB
        with (pair.a.mount / "file").open("wb", buffering=0) as file:
            for _ in range(16):
                file.write(os.urandom(MIB))
                assert pair.a.status()["counters"]["window_bytes"] <= 3 * MIB
            os.fsync(file.fileno())
        relay.delay = relay.rate = 0
        status = pair.a.status()
        assert status["connected"]
        assert status["stream"] == stream
        pair.assert_equal()
