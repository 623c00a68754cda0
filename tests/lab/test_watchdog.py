"""The watchdog device of each node, played by a FIFO: who writes to it, and when it stops. No node is reset here."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace
from pathlib import Path

from tests.lab.netns import NODES
from tests.lab.pair import pair_of_nodes


class Device:
    """What a watchdog would see."""

    def __init__(self, path: Path) -> None:
        self.path = path
        os.mkfifo(path)
        self._reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)

    def read(self) -> bytes:
        """What was written since the last call."""
        found = b""
        while True:
            try:
                data = os.read(self._reader, 65536)
            except BlockingIOError:
                return found
            if not data:
                return found
            found += data

    def close(self) -> None:
        """No more."""
        os.close(self._reader)


def test_the_serving_node_is_watched_and_one_that_hangs_is_not_excused(tmp_path: Path) -> None:
    devices = {name: Device(tmp_path / name) for name in NODES}
    with pair_of_nodes() as pair:
        for name, node in pair.nodes.items():
            node.use(replace(pair.config, watchdog=str(devices[name].path)))
        pair.start()
        old = pair.wait_redundant()
        new = pair.other(old)
        pair.wait("signs of life", lambda: devices[old].read().count(b"\0") > 5 or None, 10)
        assert devices[new].read() == b""
        # An orderly end stops the device.
        done = pair[old].ctl("switchover")
        assert done.returncode == 0, done.stderr
        pair.wait_serving(new, 30)
        pair.wait("the magic character", lambda: devices[old].read().endswith(b"V") or None, 10)
        pair.wait("signs of life", lambda: devices[new].read().count(b"\0") > 5 or None, 10)
        assert devices[old].read() == b""
        # A sidecar that hangs neither writes nor stops it: this is when the device resets the node.
        sidecar = pair[new].sidecar
        assert sidecar is not None
        sidecar.send_signal(signal.SIGSTOP)
        try:
            time.sleep(0.5)
            devices[new].read()
            time.sleep(2.0)
            assert devices[new].read() == b""
        finally:
            sidecar.send_signal(signal.SIGCONT)
    for device in devices.values():
        device.close()
