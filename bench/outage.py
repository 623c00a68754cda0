"""What a return after an outage costs: bytes on the wire, seconds, and how much slower writes are meanwhile.

Two nodes with a veth between them and an ext4 each, as for the other works. While one node is away, 1 MiB changes
at random places of a large file, and 100 of many small files. The wire's bytes are the kernel's own count of the
veth, both ways, with all headers and acknowledgements.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import report
from bench.nodes import Node, open_nodes
from tests.lab.mirrorfs_pair import EngineProcess, wait_for

PORT = 7431
BLOCK = 4096
CHANGED_BLOCKS, CHANGED_FILES = 256, 100
CHANGED_BYTES = (CHANGED_BLOCKS + CHANGED_FILES) * BLOCK
SMALL_FILES = 50_000
GIB = 1 << 30
#: Seconds of each half of the comparison of latencies.
LATENCY_SECONDS = 8.0

_GROW = """
import os, sys
path, size = sys.argv[1], int(sys.argv[2])
with open(path, "ab") as file:
    while file.tell() < size:
        file.write(os.urandom(1 << 20))
    file.flush()
    os.fsync(file.fileno())
"""

_SMALL = """
import os, sys
top, count = sys.argv[1], int(sys.argv[2])
for number in range(count):
    folder = f"{top}/{number // 500:03d}"
    if number % 500 == 0:
        os.mkdir(folder)
    with open(f"{folder}/{number:05d}", "wb") as file:
        file.write(os.urandom(4096))
os.sync()
"""

_CHANGE = """
import os, random, sys
top, blocks, files, small, seed = sys.argv[1], *map(int, sys.argv[2:])
choice = random.Random(seed)
with open(f"{top}/large", "r+b", buffering=0) as file:
    size = os.fstat(file.fileno()).st_size
    for block in choice.sample(range(size // 4096), blocks):
        os.pwrite(file.fileno(), os.urandom(4096), block * 4096)
    os.fsync(file.fileno())
for number in choice.sample(range(small), files):
    with open(f"{top}/{number // 500:03d}/{number:05d}", "r+b") as file:
        file.write(os.urandom(4096))
        os.fsync(file.fileno())
"""

_LATENCY = """
import json, os, random, sys, time
path, seconds = sys.argv[1], float(sys.argv[2])
data, taken = os.urandom(4096), []
file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
os.truncate(file, 64 << 20)
end = time.monotonic() + seconds
while (began := time.monotonic()) < end:
    os.pwrite(file, data, random.randrange(16384) * 4096)
    taken.append(time.monotonic() - began)
    time.sleep(0.0005)
os.close(file)
print(json.dumps(taken))
"""


class Pair:
    """Both nodes' engines."""

    def __init__(self, nodes: tuple[Node, Node]) -> None:
        self.nodes = dict(zip("ab", nodes, strict=True))
        self.engines: dict[str, EngineProcess] = {}
        for (name, node), peer in zip(self.nodes.items(), "ba", strict=True):
            base = node.disk / "outage"
            engine = EngineProcess(base, name, peer, 0, 0, prefix=node.prefix)
            engine.config |= {
                "listen": [f"{node.address}:{PORT}"],
                "connect": [f"{self.nodes[peer].address}:{PORT}"],
                "connect_timeout_ms": 3000,
                "peer_timeout_ms": 10000,
                "window_bytes": 32 << 20,
                "window_ops": 4096,
                "threads": 4,
            }
            self.engines[name] = engine
        for node in nodes:
            for folder in ("state", "volumes/data", "mnt/data", "quarantine"):
                node.run("mkdir", "-p", str(node.disk / "outage" / folder))

    def start(self) -> None:
        """``a`` is the first primary, with ``b`` in sync."""
        for engine in self.engines.values():
            engine.start()
        self.engines["a"].call("initialise")
        self.lead("a")
        self.engines["b"].call("start_secondary")
        self.in_sync("a")

    def lead(self, name: str) -> None:
        """Make an idle node the primary, alone."""
        self.engines[name].call("start_primary", True)
        self.engines[name].call("lease", 5.0)

    def in_sync(self, primary: str, timeout: float = 300.0) -> None:
        """Wait until both nodes say so."""
        both = self.engines.values()
        wait_for("in sync", lambda: all(engine.status()["in_sync"] for engine in both), timeout)
        assert self.engines[primary].status()["connected"]

    def syncing(self) -> bool:
        """Whether ``a`` brings ``b`` level."""
        return bool(self.engines["a"].status()["syncing"])

    def on(self, name: str, program: str, *arguments: str, timeout: float = 300.0) -> str:
        """Run a Python program on a node; its first argument is a path below the mount."""
        path = self.nodes[name].disk / "outage/mnt/data" / arguments[0]
        return self.nodes[name].run(sys.executable, "-c", program, str(path), *arguments[1:], timeout=timeout)

    def wire(self) -> int:
        """Bytes that have passed between the nodes, both ways, with all headers."""
        told = self.nodes["a"].run("ip", "-s", "-json", "link", "show", "dev", "th-bench")
        counts = json.loads(told)[0]["stats64"]
        return int(counts["rx"]["bytes"]) + int(counts["tx"]["bytes"])

    def close(self) -> None:
        """End both processes."""
        for engine in self.engines.values():
            engine.stop()


@contextmanager
def _pair() -> Iterator[Pair]:
    with ExitStack() as stack:
        pair = Pair(open_nodes(stack))
        stack.callback(pair.close)
        pair.start()
        yield pair


def measure(options: argparse.Namespace) -> bool:
    """Every figure of this module; whether one could not be measured."""
    runs: list[report.Run] = []
    try:
        with _pair() as pair:
            pair.on("a", _SMALL, "", str(SMALL_FILES))
            for size in (1, 4):
                pair.on("a", _GROW, "large", str(size * GIB), timeout=600)
                for turn in range(options.runs):
                    runs += _return(pair, f"return after an outage, {size} GiB", turn)
                    runs += _return_of_the_primary(pair, f"return of a killed primary, {size} GiB", turn)
                    report.write(runs, options.output)
            runs += _latencies(pair, options.runs)
    except (AssertionError, RuntimeError) as failed:
        print(f"outage FAILED: {failed}", file=sys.stderr)
        return True
    finally:
        report.write(runs, options.output)
    print("\nreturn after an outage (1 MiB of a large file, 100 of 50,000 small files changed):\n")
    print(_table(runs))
    return False


def _return(pair: Pair, work: str, turn: int) -> list[report.Run]:
    """The secondary goes, the primary changes, the secondary returns."""
    pair.engines["b"].call("stop_secondary")
    pair.engines["a"].call("go_alone")
    pair.on("a", _CHANGE, "", *map(str, (CHANGED_BLOCKS, CHANGED_FILES, SMALL_FILES, turn)))
    return _bring_back(pair, work, "a", "b")


def _return_of_the_primary(pair: Pair, work: str, turn: int) -> list[report.Run]:
    """The primary dies, the secondary goes on and changes, the former primary returns; then the roles are as before."""
    a, b = pair.engines["a"], pair.engines["b"]
    a.kill()
    a.stop()
    b.call("stop_secondary")
    pair.lead("b")
    pair.on("b", _CHANGE, "", *map(str, (CHANGED_BLOCKS, CHANGED_FILES, SMALL_FILES, 1000 + turn)))
    a.start()
    runs = _bring_back(pair, work, "b", "a")
    b.call("lease", 0)
    assert b.call("stop_primary", 10.0)["clean"]
    a.call("stop_secondary")
    pair.lead("a")
    b.call("start_secondary")
    pair.in_sync("a")
    return runs


def _bring_back(pair: Pair, work: str, primary: str, returning: str) -> list[report.Run]:
    before, began = pair.wire(), time.monotonic()
    pair.engines[returning].call("start_secondary")
    pair.in_sync(primary)
    took, crossed = time.monotonic() - began, pair.wire() - before
    kind = pair.engines[primary].status()["resync_kind"]
    assert kind == "incremental", pair.engines[primary].status()["resync_reason"]
    print(f"{work}: {crossed / CHANGED_BYTES:.2f} x the changed blocks on the wire, {took:.2f} s", flush=True)
    return [
        report.Run(work, "bytes on the wire", "x the changed", crossed / CHANGED_BYTES),
        report.Run(work, "time", "s", took),
    ]


def _latencies(pair: Pair, turns: int) -> list[report.Run]:
    """4 KiB writes in sync, and during a full resynchronisation of everything."""
    runs = []
    for _ in range(turns):
        for state in ("in sync", "during a full resync"):
            if state != "in sync":
                pair.engines["a"].call("resync")
                wait_for("the resynchronisation begins", pair.syncing, 20)
            taken = sorted(json.loads(pair.on("a", _LATENCY, "latency", str(LATENCY_SECONDS))))
            if state != "in sync" and not pair.syncing():
                print("the resynchronisation ended before the writes did", flush=True)
            pair.in_sync("a")
            for name, value in (("median", statistics.median(taken)), ("p99", taken[int(len(taken) * 0.99)])):
                runs.append(report.Run(f"4 KiB write, {name}", state, "us", value * 1e6))
            print(f"4 KiB write {state}: p99 {runs[-1].value:.0f} us", flush=True)
    return runs


def _table(runs: list[report.Run]) -> str:
    lines = ["| work | what | median | unit |", "|---|---|---|---|"]
    for row in report.rows(runs):
        lines.append(f"| {row['work']} | {row['system']} | {row['median']:.2f} | {row['unit']} |")
    return "\n".join(lines)
