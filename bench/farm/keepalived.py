"""Two nodes with one address that keepalived (VRRP, RFC 5798) moves from one to the other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tests.lab.farm_harness import PORT
from tests.lab.netns import NODES, Lab
from tests.lab.vip_harness import ENVIRONMENT, ROOT, has_address

# Only what must be set: both begin as backup and none takes the address back, as with the farm's announcer.
_CONFIG = """
global_defs {{
    router_id {node}
    {version}
}}
vrrp_instance shop {{
    state BACKUP
    nopreempt
    interface lan0
    virtual_router_id 51
    advert_int {advert:g}
    virtual_ipaddress {{
        {address}/24 dev lan0
    }}
}}
"""


class KeepalivedPair:
    """keepalived and the tests' application on both nodes; use as a context manager."""

    def __init__(self, lab: Lab, advert: float) -> None:
        self.lab, self.address = lab, lab.virtual_ip()
        self._advert = advert
        self._of: dict[str, list[subprocess.Popen[bytes]]] = {node: [] for node in NODES}
        self._directory = Path(tempfile.mkdtemp(prefix="twinhull-bench-"))

    def __enter__(self) -> KeepalivedPair:
        for node in NODES:
            # Times below a second need the third version of the protocol.
            version = "vrrp_version 3" if self._advert < 1 else ""
            words = {"node": node, "version": version, "advert": self._advert, "address": self.address}
            (self._directory / f"{node}.conf").write_text(_CONFIG.format(**words))
            self._start(node)
        self._wait()
        return self

    def __exit__(self, *_: object) -> None:
        for node in NODES:
            self.kill_processes(node)
        shutil.rmtree(self._directory)

    def kill_processes(self, node: str) -> None:
        """End keepalived and the application with SIGKILL."""
        argv = ["ip", "netns", "pids", self.lab.namespace(node)]
        while pids := subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split():
            for pid in map(int, pids):
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            for process in self._of[node]:
                process.poll()

    def revive(self, node: str) -> None:
        """Start the node anew, without the address, and wait until it is the backup."""
        if has_address(self.lab, node, self.address):
            self.lab.run(node, "ip", "addr", "del", f"{self.address}/24", "dev", "lan0")
        self._start(node)
        # What a backup waits at most before it takes over; it must have heard the master meanwhile.
        time.sleep(4 * self._advert + 1)
        self._wait()

    def _start(self, node: str) -> None:
        argv = [sys.executable, "-m", "tests.lab.farm_server", node, str(PORT)]
        server = self.lab.spawn(node, argv, stdout=subprocess.PIPE, env=ENVIRONMENT, cwd=ROOT)
        assert server.stdout is not None
        server.stdout.readline()
        argv = ["keepalived", "--dont-fork", "--vrrp", "--use-file", str(self._directory / f"{node}.conf")]
        argv += ["--pid", str(self._directory / f"{node}.pid")]
        argv += ["--vrrp_pid", str(self._directory / f"{node}-vrrp.pid")]
        for name in (f"{node}.pid", f"{node}-vrrp.pid"):
            # What a killed one left; its number may be another process's by now.
            (self._directory / name).unlink(missing_ok=True)
        log = (self._directory / f"{node}.log").open("ab")
        with log:
            daemon = self.lab.spawn(node, [*argv, "--log-console"], stdout=log, stderr=log)
        self._of[node] = [server, daemon]

    def _wait(self) -> None:
        deadline = time.monotonic() + 30
        while [has_address(self.lab, node, self.address) for node in NODES].count(True) != 1:
            if time.monotonic() > deadline:
                logs = [path.read_text()[-1000:] for path in self._directory.glob("*.log")]
                raise RuntimeError("keepalived: not exactly one node has the address", logs)
            time.sleep(0.05)
