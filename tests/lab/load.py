"""Clients under way beside a test, and the check of everything they were told."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.history import History
from tests.lab.netns import CLIENT
from tests.lab.pair import SERVICE_PORT, Pair

CLIENT_PROGRAM = Path(__file__).with_name("ledger_client.py")


class Load:
    """Several clients of the pair's virtual address, outside both nodes."""

    def __init__(self, pair: Pair, clients: int = 4, seed: int = 1) -> None:
        self._pair = pair
        self._path = pair.directory / "history"
        self._path.touch()
        self._history = History()
        self._argv = [sys.executable, "-SEI", str(CLIENT_PROGRAM), pair.vip, str(SERVICE_PORT)]
        self._argv += [str(clients), str(seed), str(self._path)]
        self.resume()

    def resume(self) -> None:
        """Start, or go on after :meth:`stop`."""
        self._process = self._pair.lab.spawn(CLIENT, self._argv)

    def history(self) -> History:
        """What happened so far; the same object each time."""
        self._history.follow(self._path)
        return self._history

    def acknowledged(self) -> int:
        """How many requests were answered so far."""
        return self.history().answers

    def wait_for_more(self, count: int = 20, timeout: float = 30) -> None:
        """Wait until ``count`` more requests have been answered."""
        wanted = self.acknowledged() + count
        self._pair.wait(f"{count} more answers", lambda: self.acknowledged() >= wanted, timeout)

    def stop(self) -> History:
        """End the clients after their present requests."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                raise
        # A client told to end before it could listen for it has done nothing yet.
        assert self._process.returncode in (0, -signal.SIGTERM), "the client program failed"
        return self.history()

    def check(self) -> History:
        """Every acknowledged record is there, once, in order. Stops the clients; see :meth:`resume`."""
        history = self.stop()
        wrong = history.judge(dump(self._pair))
        assert not wrong, wrong
        return history


@contextlib.contextmanager
def load(pair: Pair, clients: int = 4, seed: int = 1) -> Iterator[Load]:
    """Clients that run until the end of the block."""
    running = Load(pair, clients, seed)
    try:
        yield running
    finally:
        running.stop()


def dump(pair: Pair, timeout: float = 20) -> dict[str, Any]:
    """What the application holds, asked through the virtual address from outside."""
    deadline = time.monotonic() + timeout
    while True:
        try:
            with pair.lab.inside(CLIENT):
                connection = socket.create_connection((pair.vip, SERVICE_PORT), timeout=5)
            with connection, connection.makefile("rb") as answers:
                connection.sendall(b'{"op": "dump"}\n')
                answer: dict[str, Any] = json.loads(answers.readline())
            if "error" not in answer:
                return answer
            raise OSError(answer["error"])
        except (OSError, ValueError) as error:
            if time.monotonic() > deadline:
                raise AssertionError(f"the application cannot be read: {error}") from error
            time.sleep(0.1)
