"""Writers on both nodes of a pair: each write is a file in the mounted volume, acknowledged when ``fsync`` returns.

A write on a node whose volume is not mounted does not count: the directory below the mount is not the module's.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.pair import Pair

PAUSE = 0.05


@dataclass
class Writer:
    """Tries all the time; ``acknowledged`` has the name of each file and when its fsync returned (monotonic)."""

    name: str
    mount: Path
    acknowledged: list[tuple[float, str]] = field(default_factory=list)

    def run(self, stop: threading.Event) -> None:
        """Until told to stop. A write that hangs (nothing is acknowledged) ends when the volume is unmounted."""
        count = 0
        while not stop.is_set():
            count += 1
            name = f"w-{self.name}-{count}"
            with contextlib.suppress(OSError):
                if self._write(name):
                    self.acknowledged.append((time.monotonic(), name))
            time.sleep(PAUSE)

    def _write(self, name: str) -> bool:
        outside = self.mount.parent.stat().st_dev
        if self.mount.stat().st_dev == outside:
            return False
        descriptor = os.open(self.mount / name, os.O_CREAT | os.O_WRONLY, 0o600)
        try:
            if os.fstat(descriptor).st_dev == outside:
                (self.mount / name).unlink()
                return False
            os.write(descriptor, name.encode())
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        return True

    def since(self, moment: float) -> list[str]:
        """What was acknowledged after ``moment``."""
        return [name for at, name in self.acknowledged if at > moment]


@contextlib.contextmanager
def writers(pair: Pair) -> Iterator[dict[str, Writer]]:
    """A writer on each node while the block runs."""
    both = {name: Writer(name, node.mount) for name, node in pair.nodes.items()}
    stop = threading.Event()
    threads = [threading.Thread(target=writer.run, args=(stop,), daemon=True) for writer in both.values()]
    for thread in threads:
        thread.start()
    try:
        yield both
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
