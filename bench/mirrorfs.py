"""twinhull's own replication engine on the two nodes, replicating or without a peer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

from bench.nodes import Node
from bench.works import Place

PORT = 7401
KEY = "5c" * 32


def _config(node: Node, peer: Node, variant: str, durability: str) -> str:
    base = node.disk / f"mirrorfs-{variant}"
    for folder in ("state", "volumes/data", "mnt/data", "quarantine"):
        node.run("mkdir", "-p", str(base / folder))
    return json.dumps(
        {
            "module": "bench/bench", "uid": "bench", "node": node.name, "peer": peer.name,
            "state_dir": f"{base}/state", "quarantine_dir": f"{base}/quarantine", "quarantine": False,
            "volumes": [{"name": "data", "backing": f"{base}/volumes/data", "mountpoint": f"{base}/mnt/data"}],
            "listen": [f"{node.address}:{_port(variant)}"], "connect": [f"{peer.address}:{_port(variant)}"],
            "key_hex": KEY, "durability": durability, "window_bytes": 32 << 20, "window_ops": 4096, "threads": 4,
            "resync_rate": 0, "connect_timeout_ms": 3000, "peer_timeout_ms": 10000,
        }
    )  # fmt: skip


def _port(variant: str) -> int:
    return PORT + 2 * ("alone", "write", "commit").index(variant)


def _spawn(stack: ExitStack, node: Node, role: str, config: str) -> None:
    log = stack.enter_context((node.disk / f"mirrorfs-{role}.log").open("a"))
    process = subprocess.Popen(
        [*node.prefix, sys.executable, "-m", "bench.engine_node", role],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True,
        cwd=Path(__file__).parent.parent, env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
    )  # fmt: skip

    def end() -> None:
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    stack.callback(end)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(config + "\nend\n")
    process.stdin.flush()
    if process.stdout.readline().strip() != "ready":
        said = Path(log.name).read_text()[-2000:]
        raise RuntimeError(f"engine {role} on node {node.name} did not start: {said}")


def start(stack: ExitStack, nodes: tuple[Node, Node], variant: str) -> Place:
    """Start the engine: ``variant`` is *alone* (no peer), *write* or *commit* (durability, with a peer in sync)."""
    a, b = nodes
    durability = "write" if variant == "alone" else variant
    if variant != "alone":
        _spawn(stack, b, "secondary", _config(b, a, variant, durability))
    _spawn(stack, a, "alone" if variant == "alone" else "primary", _config(a, b, variant, durability))
    return Place(a.disk / f"mirrorfs-{variant}" / "mnt" / "data", a.prefix)
