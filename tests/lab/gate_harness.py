"""A lease server that a test plays the sidecar with, and gates started against it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
CRATE = REPOSITORY / "sidecar" / "gate"
Line = dict[str, Any]


@functools.cache
def gate_binary() -> Path:
    """The gate, built from the sources beside the tests (nothing to do when it is up to date)."""
    cache = Path(os.environ.get("TWINHULL_CACHE", Path.home() / ".cache" / "twinhull"))
    target = cache / "target-gate"
    command = ["cargo", "build", "--release", "--quiet", "--locked"]
    subprocess.run(command, cwd=CRATE, env={**os.environ, "CARGO_TARGET_DIR": str(target)}, check=True)
    return target / "x86_64-unknown-linux-gnu" / "release" / "gate"


def eventually(condition: Callable[[], bool], what: str, timeout: float = 5.0) -> None:
    """Wait until ``condition`` holds, or fail naming ``what``."""
    end = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < end, f"not within {timeout} s: {what}"
        time.sleep(0.01)


class LeaseServer:
    """One gate's sidecar: orders out, states in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._listener = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)
        self._listener.bind(str(path))
        self._listener.listen(4)
        self._connection: socket.socket | None = None
        self._buffer = b""

    def accept(self, timeout: float = 5.0) -> Line:
        """Take the next connection; returns its hello."""
        self.drop()
        self._listener.settimeout(timeout)
        self._connection, _ = self._listener.accept()
        hello: Line = self.read(timeout)["hello"]
        return hello

    def drop(self) -> None:
        """Close the connection, not the socket."""
        if self._connection is not None:
            self._connection.close()
        self._connection, self._buffer = None, b""

    def close(self) -> None:
        self.drop()
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def send(self, value: Line | bytes) -> None:
        assert self._connection is not None
        data = value if isinstance(value, bytes) else json.dumps(value).encode() + b"\n"
        self._connection.sendall(data)

    def run(self, epoch: int, ttl_ms: int = 1500, **more: Any) -> None:
        self.send({"run": {"epoch": epoch, "ttl_ms": ttl_ms, "restart": "gate", **more}})

    def stop(self, epoch: int, grace_ms: int) -> None:
        self.send({"stop": {"epoch": epoch, "grace_ms": grace_ms}})

    def read(self, timeout: float = 5.0) -> Line:
        """The next line. Raises EOFError when the gate has closed the connection."""
        assert self._connection is not None
        self._connection.settimeout(timeout)
        while b"\n" not in self._buffer:
            data = self._connection.recv(65536)
            if not data:
                raise EOFError
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        value: Line = json.loads(line)
        return value

    def wait_for(self, state: str, timeout: float = 5.0, **more: Any) -> Line:
        """Read states until one matches."""
        end = time.monotonic() + timeout
        seen: list[Line] = []
        while time.monotonic() < end:
            try:
                line = self.read(max(0.01, end - time.monotonic()))
            except TimeoutError:
                break
            seen.append(line)
            if line.get("state") == state and all(line.get(key) == value for key, value in more.items()):
                return line
        raise AssertionError(f"no state {state} {more} within {timeout} s; seen {seen[-3:]}")

    @contextlib.contextmanager
    def renewing(self, epoch: int, ttl_ms: int = 1000) -> Iterator[None]:
        """Renew in the background, as a sidecar does."""
        done = threading.Event()

        def renew() -> None:
            while not done.wait(ttl_ms / 5000):
                try:
                    self.run(epoch, ttl_ms)
                except OSError:
                    return

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Gate:
    """A running ``gate run``, as PID 1 of a namespace of its own or as a plain process."""

    def __init__(
        self,
        socket_path: Path,
        command: Sequence[str],
        *,
        init: bool = True,
        options: Sequence[str] = (),
        output: Path | None = None,
    ) -> None:
        self.init = init
        self.socket = socket_path
        prefix = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"] if init else []
        own = [] if "--container" in options else ["--container", "app"]
        words = ["run", *own, "--socket", str(socket_path), *options, "--", *command]
        self._output = output.open("wb") if output is not None else None
        self.process = subprocess.Popen(
            [*prefix, gate_binary(), *words],
            stdin=subprocess.DEVNULL,
            stdout=self._output,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The gate's own pid, seen from here."""
        if not self.init:
            return self.process.pid
        found: list[int] = []

        def look() -> bool:
            found[:] = children(self.process.pid)
            return bool(found)

        eventually(look, "the gate behind unshare")
        return found[0]

    def probe(self, *words: str, timeout: float = 10.0) -> subprocess.CompletedProcess[str]:
        """``gate probe`` inside the gate's namespaces, as kubelet would have it run."""
        kind, *rest = words
        enter = ["nsenter", f"--target={self.pid}", "--pid", "--mount"] if self.init else []
        own = ["probe", kind, "--container", "app", "--socket", str(self.socket)]
        command = [*enter, str(gate_binary()), *own, *rest]
        return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def wait(self, timeout: float = 5.0) -> int:
        return self.process.wait(timeout)

    def close(self) -> None:
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError, AssertionError):
                os.kill(self.pid, signal.SIGKILL)
            self.process.kill()
            self.process.wait()
        if self._output is not None:
            self._output.close()


def children(pid: int) -> list[int]:
    """Direct children of a process, from /proc."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == pid:
                    found.append(int(entry.name))
    return found


def with_argument(mark: str) -> list[int]:
    """Pids of all processes that have ``mark`` among their arguments (zombies have none)."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if mark.encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


#: Starts a gate with the given command; it ends with the test.
StartGate = Callable[..., Gate]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[LeaseServer]:
    """The sidecar's end of the lease."""
    instance = LeaseServer(tmp_path / "lease.sock")
    yield instance
    instance.close()


@pytest.fixture(params=[True, False], ids=["pid-1", "plain"])
def start(request: pytest.FixtureRequest, server: LeaseServer) -> Iterator[StartGate]:
    """Start gates against ``server``, once as first process of a PID namespace and once as an ordinary one."""
    gates: list[Gate] = []

    def run(*command: str, **more: object) -> Gate:
        gates.append(Gate(server.path, command, init=request.param, **more))  # type: ignore[arg-type]
        return gates[-1]

    yield run
    for gate in gates:
        gate.close()
