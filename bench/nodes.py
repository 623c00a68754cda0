"""Two nodes on one machine: network and mount namespaces joined by a veth pair, one loop-mounted ext4 each.

Everything lives in the namespaces of a keeper process, so it is gone when that process is.
"""

from __future__ import annotations

import subprocess
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

DISK_MIB = 6144
ADDRESSES = {"a": "10.231.0.1", "b": "10.231.0.2"}


def sh(*argv: str, timeout: float = 120.0) -> str:
    """Run a command; its output, or RuntimeError with what it printed."""
    done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode != 0:
        raise RuntimeError(
            f"{' '.join(argv)} exited {done.returncode}: {(done.stdout + done.stderr)[-2000:]}"
        )
    return done.stdout


@dataclass(frozen=True)
class Node:
    """One node: ``prefix`` enters its namespaces, ``disk`` is its own ext4, ``address`` its end of the link."""

    name: str
    pid: int
    disk: Path
    address: str

    @property
    def prefix(self) -> tuple[str, ...]:
        return ("nsenter", "-t", str(self.pid), "-m", "-n", "--")

    def run(self, *argv: str, timeout: float = 120.0) -> str:
        """Run a command on this node."""
        return sh(*self.prefix, *argv, timeout=timeout)


def _keeper(stack: ExitStack) -> int:
    namespaces = ("unshare", "--net", "--mount", "--propagation", "private")
    keeper = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *namespaces, "sleep", "infinity"])

    def end() -> None:
        keeper.kill()
        keeper.wait()

    stack.callback(end)
    own = Path("/proc/self/ns/net").readlink()
    for _ in range(100):
        if Path(f"/proc/{keeper.pid}/ns/net").readlink() != own:
            return keeper.pid
        time.sleep(0.02)
    raise RuntimeError("unshare made no network namespace within 2 s")


def open_nodes(stack: ExitStack) -> tuple[Node, Node]:
    """Make nodes *a* and *b*; closing ``stack`` ends them."""
    folder = tempfile.TemporaryDirectory(prefix="twinhull-bench-", dir="/var/tmp", ignore_cleanup_errors=True)
    top = Path(stack.enter_context(folder))
    top.chmod(0o755)  # PostgreSQL runs as another user
    made: list[Node] = []
    for name, address in ADDRESSES.items():
        image, disk = top / f"{name}.img", top / name
        disk.mkdir()
        sh("truncate", "-s", f"{DISK_MIB}M", str(image))
        sh("mkfs.ext4", "-q", "-F", str(image))
        node = Node(name, _keeper(stack), disk, address)
        node.run("mount", "-o", "loop", str(image), str(disk))
        made.append(node)
    near, far = (f"th-bench netns {node.pid}".split() for node in made)
    sh("ip", "link", "add", *near, "type", "veth", "peer", "name", *far)
    for node in made:
        node.run("ip", "link", "set", "lo", "up")
        node.run("ip", "address", "add", f"{node.address}/24", "dev", "th-bench")
        node.run("ip", "link", "set", "th-bench", "up")
    return made[0], made[1]
