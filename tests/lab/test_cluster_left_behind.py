"""What an earlier run that was killed leaves of the test cluster."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from tests.cluster import kind
from tests.cluster.command import run, succeeds
from tests.cluster.topology import APP_IMAGE, CONTROL_PLANE


def test_node_whose_processes_were_killed_with_their_watcher() -> None:
    """podman goes on holding the node for running; ``kind.up`` waited in vain for its API server."""
    kind.configure_podman()
    node = replace(CONTROL_PLANE, name="twinhull-test-left-behind")
    try:
        command = (f"--name={node.name}", "--network=none", "--entrypoint=sleep", APP_IMAGE, "600")
        run("podman", "run", "--detach", *command)
        assert not kind.is_orphaned(node)
        pids = run("podman", "inspect", "--format={{.State.ConmonPid}} {{.State.Pid}}", node.name).split()
        for pid in map(int, pids):
            os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 10
        while not kind.is_orphaned(node) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert kind.is_orphaned(node)
    finally:
        succeeds("podman", "rm", "--force", "--time=0", node.name)
    assert not succeeds("podman", "container", "exists", node.name)
