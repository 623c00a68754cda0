"""Two engines on loopback, each in a process of its own, with a relay between them that can cut and corrupt."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.lab.mirrorfs_relay import Relay
from twinhull_sidecar._mirrorfs import compare_trees

ROOT = Path(__file__).parents[2]
KEY = "00112233445566778899aabbccddeeff"


class EngineError(Exception):
    """The engine refused an order."""


def free_port() -> int:
    """A port of loopback that nobody listens on now. It lies below the ports that the kernel gives to clients: one
    who dials a port of those over and over while nobody listens ends up connected to itself."""
    for port in random.sample(range(20_000, 32_000), 1000):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no port is free between 20000 and 32000")


def wait_for(what: str, condition: Callable[[], bool], timeout: float = 20.0) -> None:
    """Poll until the condition holds; fails with ``what``."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout} s: {what}"
        time.sleep(0.02)


class EngineProcess:
    """One node. ``options`` go into its configuration; ``prefix`` enters other namespaces."""

    def __init__(
        self,
        base: Path,
        name: str,
        peer: str,
        listen: int,
        connect: int,
        *,
        prefix: tuple[str, ...] = (),
        **options: Any,
    ) -> None:
        self.name = name
        self.prefix = prefix
        self.base = base
        self.backing = base / "volumes" / "data"
        self.mount = base / "mnt" / "data"
        self.backing.mkdir(parents=True, exist_ok=True)
        self.config = {
            "module": "test/module",
            "uid": "5f0c1c1e-1ab0-4b0e-9d5e-0123456789ab",
            "node": name,
            "peer": peer,
            "state_dir": str(base / "state"),
            "volumes": [{"name": "data", "backing": str(self.backing), "mountpoint": str(self.mount)}],
            "quarantine_dir": str(base / "quarantine"),
            "listen": [f"127.0.0.1:{listen}"],
            "connect": [f"127.0.0.1:{connect}"],
            "key_hex": KEY,
            "durability": "write",
            "connect_timeout_ms": 500,
            "peer_timeout_ms": 1000,
        } | options
        self.process: subprocess.Popen[str] | None = None
        self._answers: dict[int, queue.Queue[dict[str, Any]]] = {}
        self._next = 0
        self._lock = threading.Lock()

    def start(self) -> EngineProcess:
        """Start the process; it reads the record and is idle."""
        environment = os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}
        self.process = subprocess.Popen(
            [*self.prefix, sys.executable, "-m", "tests.lab.mirrorfs_node", json.dumps(self.config)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        threading.Thread(target=self._read, args=(self.process,), daemon=True).start()
        return self

    def _read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            answer = json.loads(line)
            self._answers[answer["id"]].put(answer)
        for waiting in list(self._answers.values()):
            waiting.put({"error": "the process has ended"})

    def begin(self, name: str, *args: Any) -> queue.Queue[dict[str, Any]]:
        """Send an order; its answer comes through the queue."""
        assert self.process is not None
        assert self.process.stdin is not None
        with self._lock:
            self._next += 1
            answers: queue.Queue[dict[str, Any]] = queue.Queue()
            self._answers[self._next] = answers
            self.process.stdin.write(json.dumps({"id": self._next, "call": name, "args": args}) + "\n")
            self.process.stdin.flush()
        return answers

    def call(self, name: str, *args: Any, timeout: float = 30.0) -> Any:
        """Call the engine's method; JSON answers are decoded. Raises EngineError."""
        answer = self.begin(name, *args).get(timeout=timeout)
        if "error" in answer:
            raise EngineError(answer["error"])
        value = answer["value"]
        return json.loads(value) if isinstance(value, str) else value

    def status(self) -> dict[str, Any]:
        """The engine's status."""
        value: dict[str, Any] = self.call("status")
        return value

    def kill(self) -> None:
        """End the process without any order; what it mounted stays behind, dead."""
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(10)

    def _detach(self) -> None:
        argv = [*self.prefix, "umount", "-l", str(self.mount)]
        subprocess.run(argv, capture_output=True, check=False)

    def stop(self) -> None:
        """An orderly end of the process."""
        if self.process is None or self.process.poll() is not None:
            self._detach()
            return
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
            self._detach()


class EnginePair:
    """Nodes ``a`` and ``b``. Streams go through a relay each, named by the node that is dialled."""

    def __init__(self, directory: Path, **options: Any) -> None:
        ports = {name: free_port() for name in "ab"}
        self.relays = {name: Relay(ports[name]) for name in "ab"}
        self.a = EngineProcess(directory / "a", "a", "b", ports["a"], self.relays["b"].port, **options)
        self.b = EngineProcess(directory / "b", "b", "a", ports["b"], self.relays["a"].port, **options)

    def nodes(self) -> Iterator[EngineProcess]:
        """Both."""
        yield self.a
        yield self.b

    def serve(self) -> None:
        """``a`` becomes the first primary, alone; ``b`` its secondary."""
        self.a.start()
        self.b.start()
        self.a.call("initialise")
        self.a.call("start_primary", True)
        self.a.call("lease", 5.0)
        self.b.call("start_secondary")

    def in_sync(self, primary: EngineProcess | None = None, timeout: float = 30.0) -> None:
        """Wait until the primary's peer is in sync, and knows it."""
        first = primary or self.a
        second = self.b if first is self.a else self.a
        wait_for("in sync", lambda: bool(first.status()["in_sync"] and second.status()["in_sync"]), timeout)

    def assert_equal(self) -> None:
        """Both backing trees are equal (M3). The load must have stopped and been acknowledged."""
        differences = compare_trees(str(self.a.backing), str(self.b.backing))
        assert not differences, differences[:20]

    def close(self) -> None:
        """Stop everything and leave no mount behind."""
        for relay in self.relays.values():
            relay.close()
        for node in self.nodes():
            node.stop()


@contextmanager
def engine_pair(directory: Path, **options: Any) -> Iterator[EnginePair]:
    """A pair that is closed at the end."""
    pair = EnginePair(directory, **options)
    try:
        yield pair
    finally:
        pair.close()
