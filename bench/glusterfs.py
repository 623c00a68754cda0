"""GlusterFS replica 2 on the two nodes: what a user without a kernel module would pick instead."""

from __future__ import annotations

import shutil
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from bench.nodes import Node
from bench.works import Place

PRIVATE = ("/var/lib/glusterd", "/var/log/glusterfs", "/run")
"""Folders that a GlusterFS daemon takes for its own; each node gets private ones."""


def _end(node: Node, name: str) -> None:
    """End the daemons of that name in the node's network namespace, by pid."""
    here = Path(f"/proc/{node.pid}/ns/net").readlink()
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or (entry / "ns/net").readlink() != here:
                continue
            if (entry / "comm").read_text().strip() == name:
                subprocess.run(["kill", "-9", entry.name], check=False)
        except OSError:
            continue


def start(stack: ExitStack, nodes: tuple[Node, Node]) -> Place:
    """Start both daemons, make the volume, mount it on the first node. Raises RuntimeError with what failed."""
    if shutil.which("glusterd") is None:
        raise RuntimeError("glusterd is not installed: apt-get install glusterfs-server glusterfs-client")
    for node in nodes:
        for private in PRIVATE:
            own = node.disk / "gluster" / private.strip("/")
            own.mkdir(parents=True, exist_ok=True)
            node.run("mkdir", "-p", private, str(own))
            node.run("mount", "--bind", str(own), private)
        node.run("mkdir", "-p", "/run/gluster")
        for daemon in ("glusterfs", "glusterfsd", "glusterd"):
            stack.callback(_end, node, daemon)
        node.run("glusterd", f"--log-file={node.disk}/gluster/glusterd.log", "--log-level", "WARNING")
    a, b = nodes
    _until(lambda: a.run("gluster", "--mode=script", "peer", "probe", b.address))
    _until(lambda: _require(a.run("gluster", "--mode=script", "peer", "status"), "(Connected)"))
    bricks = [f"{node.address}:{node.disk}/brick" for node in nodes]
    for node in nodes:
        node.run("mkdir", "-p", f"{node.disk}/brick")
    a.run("gluster", "--mode=script", "volume", "create", "bench", "replica", "2", *bricks, "force")
    a.run("gluster", "--mode=script", "volume", "start", "bench")
    mounted = a.disk / "gluster-mount"
    a.run("mkdir", "-p", str(mounted))
    _until(lambda: _mount(a, mounted))
    return Place(mounted, a.prefix)


def _mount(node: Node, mounted: Path) -> None:
    node.run("glusterfs", f"--volfile-server={node.address}", "--volfile-id=bench", str(mounted))
    time.sleep(1.0)
    node.run("mountpoint", "-q", str(mounted))
    node.run("touch", f"{mounted}/.ready")


def _require(text: str, part: str) -> None:
    if part not in text:
        raise RuntimeError(f"waiting for {part!r}, have: {text}")


def _until(action: object, tries: int = 20) -> None:
    assert callable(action)
    for left in range(tries, 0, -1):
        try:
            action()
            return
        except RuntimeError:
            if left == 1:
                raise
            time.sleep(1.0)
