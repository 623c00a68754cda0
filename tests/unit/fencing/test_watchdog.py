"""The watchdog device, played by a FIFO and a pseudo-terminal: this kernel has no softdog. No node is reset here."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from twinhull_sidecar.fencing.watchdog import OPEN_AGAIN, Watchdog, timeout_for


@pytest.fixture
def device(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A FIFO and the descriptor that reads what was written to it."""
    path = tmp_path / "watchdog"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    yield path, reader
    os.close(reader)


def written(reader: int) -> bytes:
    try:
        return os.read(reader, 100)
    except BlockingIOError:
        return b""


def test_it_is_written_to_while_needed_and_closed_with_the_magic_character(device: tuple[Path, int]) -> None:
    path, reader = device
    watchdog = Watchdog(path, 6)
    watchdog.tend(needed=False, stuck=False, now=0.0)
    assert not watchdog.armed
    watchdog.tend(needed=True, stuck=False, now=0.1)
    watchdog.tend(needed=True, stuck=False, now=0.2)
    assert (watchdog.armed, watchdog.problem, written(reader)) == (True, "", b"\0\0")
    watchdog.tend(needed=False, stuck=False, now=0.3)
    assert (watchdog.armed, written(reader)) == (False, b"V")


def test_a_node_that_is_stuck_writes_no_more_and_does_not_stop_it(device: tuple[Path, int]) -> None:
    path, reader = device
    watchdog = Watchdog(path, 6)
    watchdog.tend(needed=True, stuck=False, now=0.0)
    written(reader)
    for turn in range(5):
        watchdog.tend(needed=True, stuck=True, now=float(turn))
    assert (watchdog.armed, written(reader)) == (True, b"")
    watchdog.abandon()
    assert written(reader) == b""


def test_a_terminal_that_takes_no_timeout_is_written_to_all_the_same() -> None:
    master, slave = os.openpty()
    try:
        watchdog = Watchdog(Path(os.ttyname(slave)), 6)
        watchdog.tend(needed=True, stuck=False, now=0.0)
        assert (watchdog.armed, watchdog.problem) == (True, "")
        assert os.read(master, 10)
        watchdog.close()
    finally:
        os.close(master)
        os.close(slave)


def test_a_missing_device_is_named_and_tried_again(tmp_path: Path) -> None:
    path = tmp_path / "watchdog"
    watchdog = Watchdog(path, 6)
    watchdog.tend(needed=True, stuck=False, now=100.0)
    assert watchdog.problem == f"{path} cannot be opened (No such file or directory)"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    watchdog.tend(needed=True, stuck=False, now=100.0 + OPEN_AGAIN / 2)
    assert not watchdog.armed
    watchdog.tend(needed=True, stuck=False, now=100.0 + OPEN_AGAIN)
    assert (watchdog.armed, watchdog.problem) == (True, "")
    os.close(reader)
    watchdog.tend(needed=True, stuck=False, now=200.0)
    assert "cannot be written to (Broken pipe)" in watchdog.problem


def test_the_timeout_leaves_a_busy_node_its_time() -> None:
    assert [timeout_for(seconds) for seconds in (0.5, 3.0, 60.0)] == [5, 6, 120]
