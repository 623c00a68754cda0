"""The module's files as each node's own disk holds them, below the mount: what must be equal after a resync."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.cluster.command import run
from tests.cluster.deployment import Module
from tests.cluster.topology import NODES, Node


def differences(module: Module, volume: str, timeout: float = 10) -> list[str]:
    """What differs between the two nodes' copies of a volume; the clients must rest.

    PostgreSQL goes on to write by itself (statistics, checkpoints), so what is under way gets ``timeout`` seconds to
    arrive: two trees that are equal once have been equal at one instant.
    """
    from twinhull_sidecar._mirrorfs import compare_trees

    first, second = (host_path(node, f"{module.directory}/volumes/{volume}") for node in NODES)
    deadline = time.monotonic() + timeout
    while True:
        found = compare_trees(str(first), str(second))
        if not found or time.monotonic() > deadline:
            return list(found)
        time.sleep(0.2)


def host_path(node: Node, path: str) -> Path:
    """Where a file below a node's ``/var`` lies on the host: kind gives each node a volume for it."""
    mounts = json.loads(run("podman", "inspect", "--format={{json .Mounts}}", node.name))
    source = next(mount["Source"] for mount in mounts if mount["Destination"] == "/var")
    return Path(source) / Path(path).relative_to("/var")
