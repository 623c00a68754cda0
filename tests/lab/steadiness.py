"""Nothing fails, both processors are busy and the stream is full: no node may be taken for lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import grpc

from tests.lab.pair import Pair

_BURNER = "while True: pass"
#: Rewrites one file of 64 MiB in the mirrored volume without a pause: the stream carries what it can.
_WRITER = """
import os, sys
block = os.urandom(1 << 20)
descriptor = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY)
while True:
    for number in range(64):
        os.pwrite(descriptor, block, number << 20)
"""
LOOK = 0.5


@dataclass
class Steadiness:
    """Both nodes are looked at twice a second; any change of a role is a false alarm."""

    pair: Pair
    #: The longest silence over all links that a node showed, in seconds.
    longest_silence: float = 0.0
    looks: int = 0
    unanswered: int = 0
    #: What the stream carried meanwhile.
    replicated_bytes: int = 0
    alarms: list[str] = field(default_factory=list)

    def watch(self, seconds: float) -> None:
        """Keep everything busy for so long. Fails at the first false alarm."""
        primary = self.pair.wait_redundant()
        expected = {primary: "Primary", self.pair.other(primary): "Secondary"}
        before = self._replicated(primary)
        began = time.monotonic()
        with self._busy(primary):
            while time.monotonic() - began < seconds:
                time.sleep(LOOK)
                for name, role in expected.items():
                    self._look(name, role)
                assert not self.alarms, f"after {time.monotonic() - began:.0f} s: {self.alarms}"
        self.replicated_bytes = self._replicated(primary) - before

    def _look(self, name: str, role: str) -> None:
        try:
            status = self.pair[name].status()
        except grpc.RpcError:
            # The look itself may be late on a machine that is this busy; the node shows what it was at the next one.
            self.unanswered += 1
            return
        self.looks += 1
        self.longest_silence = max(self.longest_silence, status.peer.silent_seconds)
        if status.role != role or not status.in_sync:
            self.alarms.append(f"{name} is {status.role}, not {role} in sync: {status.reason}")

    def _replicated(self, primary: str) -> int:
        return int(self.pair[primary].status().replicated_bytes)

    @contextlib.contextmanager
    def _busy(self, primary: str) -> Iterator[None]:
        target = self.pair[primary].mount / "burden"
        python = [sys.executable, "-SEI", "-c"]
        running = [subprocess.Popen([*python, _BURNER]) for _ in range(os.cpu_count() or 1)]
        running.append(subprocess.Popen([*python, _WRITER, str(target)]))
        try:
            yield
        finally:
            for process in running:
                process.kill()
                process.wait()
            target.unlink(missing_ok=True)
