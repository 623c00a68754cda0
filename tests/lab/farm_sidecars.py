"""A farm in the laboratory run by two real sidecars, each with the process adapter.

The application is :mod:`tests.lab.farm_server`, which listens in the node's own namespace; a small control file
of each node makes it answer its HTTP check with an error (see :func:`SERVER`).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import grpc

from tests.lab.farm_harness import PORT, FarmLab
from tests.lab.netns import LINKS, NODES, Lab
from tests.lab.pair import gate_binary
from tests.lab.pki import make_tls_dir
from tests.lab.vip_harness import ROOT
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import (
    Application,
    Checker,
    Farm,
    Link,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    render,
)

T = TypeVar("T")

UID = "0c1d4f52-77b8-4a3c-8a39-fa2f00000001"
CHECK_PORT = 8099
OTHER = {"a": "b", "b": "a"}
CHECKERS = (
    Checker("port", "tcp", PORT, interval=0.2),
    Checker("health", "http", CHECK_PORT, "/health", interval=0.2, rise=2, fall=2),
)
#: Listens for checks: answers 200 unless the file ``unwell`` is there.
CHECKED = """
import http.server, pathlib, subprocess, sys
name, port, directory, check_port = sys.argv[1:]
server = subprocess.Popen([sys.executable, "-m", "tests.lab.farm_server", name, port])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if pathlib.Path(directory, "unwell").exists() else 200)
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("127.0.0.1", int(check_port)), Handler).serve_forever()
"""


class Node:
    """One node: its namespace, its directory, its sidecar and what that starts."""

    def __init__(self, farm: SidecarFarm, name: str) -> None:
        self.name = name
        self._farm = farm
        self.directory = farm.directory / name
        self.directory.mkdir()
        self.base = self.directory / "module"
        self.config_path = self.directory / "module.json"
        self.log_path = farm.directory / f"{name}.log"
        self.sidecar: subprocess.Popen[Any] | None = None

    @property
    def socket(self) -> Path:
        """The sidecar's control socket."""
        return self.base / "control.sock"

    def start(self) -> None:
        """Write the configuration and start the sidecar."""
        config = self._farm.config
        argv = (sys.executable, "-c", CHECKED, self.name, str(PORT), str(self.directory), str(CHECK_PORT))
        application = replace(config.application, argv=argv, cwd=str(ROOT))
        self.config_path.write_text(render(replace(config, base_dir=str(self.base), application=application)))
        command = [sys.executable, "-m", "twinhull_sidecar.main", "run", "--config", str(self.config_path)]
        command += ["--node", self.name, "--tls-dir", str(self._farm.directory / "tls")]
        command += ["--gate-binary", str(gate_binary())]
        with self.log_path.open("ab") as log:
            # What a killed sidecar leaves among the temporary files goes with the farm.
            env = {**os.environ, "TMPDIR": str(self._farm.directory)}
            self.sidecar = self._farm.lab.spawn(self.name, command, stderr=log, stdout=log, env=env)

    def signal(self, number: int) -> float:
        """Send the sidecar alone a signal; when it was (CLOCK_BOOTTIME)."""
        assert self.sidecar is not None
        self.sidecar.send_signal(number)
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def ended(self, timeout: float) -> int:
        """The exit code of the sidecar, which ends within ``timeout`` seconds."""
        assert self.sidecar is not None
        return self.sidecar.wait(timeout)

    def pids(self) -> list[int]:
        """Every process in this node's network namespace."""
        argv = ["ip", "netns", "pids", self._farm.lab.namespace(self.name)]
        text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
        return [int(pid) for pid in text.split()]

    def kill_everything(self) -> None:
        """SIGKILL to every process of the node, until there is none."""
        deadline = time.monotonic() + 10
        while pids := self.pids():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if self.sidecar is not None:
                self.sidecar.poll()
            assert time.monotonic() < deadline, f"processes of {self.name} do not end: {pids}"
            time.sleep(0.005)
        if self.sidecar is not None:
            self.sidecar.wait(5)
            self.sidecar = None

    def status(self) -> pb.Status:
        """The sidecar's status. Raises grpc.RpcError when it does not answer."""
        options = [("grpc.default_authority", "localhost")]
        with grpc.insecure_channel(f"unix:{self.socket}", options=options) as channel:
            call = channel.unary_unary(
                "/twinhull.v1.Sidecar/GetStatus",
                request_serializer=pb.StatusRequest.SerializeToString,
                response_deserializer=pb.Status.FromString,
            )
            answer: pb.Status = call(pb.StatusRequest(), timeout=2)
            return answer

    def ctl(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``twinhullctl`` on this node."""
        argv = [sys.executable, "-m", "twinhull_sidecar.ctl", "--socket", str(self.socket), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout)

    def events(self) -> list[str]:
        """The codes of its events, oldest first."""
        return [event.code for event in self.status().events]

    def unwell(self, is_unwell: bool) -> None:
        """Let the application's HTTP check fail or pass."""
        path = self.directory / "unwell"
        if is_unwell:
            path.touch()
        else:
            path.unlink()

    def left_behind(self) -> list[str]:
        """Addresses, rules and processes of the module that are in the node's namespace now."""
        lab, found = self._farm.lab, []
        addresses = lab.run(self.name, "ip", "-o", "addr", "show")
        found += [one for one in self._farm.addresses if f" {one}/" in addresses]
        found += [line for line in lab.run(self.name, "nft", "list", "tables").splitlines() if line]
        return [*found, *map(str, self.pids())]


class SidecarFarm:
    """Use as a context manager; everything is gone afterwards. ``changes`` of the module's configuration."""

    def __init__(self, lab: Lab, *, checkers: tuple[Checker, ...] = CHECKERS, **changes: Any) -> None:
        self.lab = lab
        # A short path: a Unix socket's has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="twinhull-farm-"))
        self.addresses = [lab.virtual_ip(), lab.virtual_ip(version=6)]
        ports = (ServicePort("tcp", PORT, PORT), ServicePort("udp", PORT, PORT, "UDP"))
        config = ModuleConfig(
            kind="FarmModule",
            farm=Farm(checkers=checkers),
            namespace="shop",
            name="front",
            uid=UID,
            nodes=("a", "b"),
            links=tuple(Link(link, {node: lab.address(node, link) for node in NODES}) for link in LINKS),
            ports=Ports(7400, 7400, 7401),
            base_dir="/replaced/for/each/node",
            application=Application(adapter="process", argv=("replaced",), stop_grace=5.0),
            virtual_ips=tuple(VirtualIP(one, ports=ports) for one in self.addresses),
            detection_timeout=1.0,
        )
        self.config = replace(config, **changes)
        make_tls_dir(self.directory / "tls", [*NODES, "operator"], UID)
        self.nodes = {name: Node(self, name) for name in NODES}

    def __enter__(self) -> SidecarFarm:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is not None:
                self.show_logs()
        finally:
            for node in self.nodes.values():
                node.kill_everything()
            shutil.rmtree(self.directory)

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    @property
    def address(self) -> str:
        """The first virtual address."""
        return self.addresses[0]

    def up(self) -> SidecarFarm:
        """Start both and wait until both serve."""
        for node in self.nodes.values():
            node.start()
        self.wait_both()
        return self

    def wait_both(self, timeout: float = 30) -> None:
        """Wait until both nodes are Up, each with its share, and one announces."""

        def both() -> bool:
            states = [self.status(name) for name in NODES]
            if any(one is None or one.role != "Up" or not 0 < one.farm.share < 1 for one in states):
                return False
            return [one.farm.announcing for one in states if one is not None].count(True) == 1

        self.wait("both serve", both, timeout)

    def announcer(self) -> str:
        """The node that announces."""
        return next(name for name in NODES if self.nodes[name].status().farm.announcing)

    def status(self, name: str) -> pb.Status | None:
        """A node's status; None: it does not answer."""
        try:
            return self.nodes[name].status()
        except grpc.RpcError:
            return None

    def wait(self, what: str, condition: Callable[[], T | None], timeout: float = 15) -> T:
        """Wait until ``condition`` is true; the result is what it gave."""
        deadline = time.monotonic() + timeout
        while not (found := condition()):
            if time.monotonic() > deadline:
                told = {name: _describe(self.status(name)) for name in NODES}
                raise AssertionError(f"after {timeout:g} s still not: {what}; {told}")
            time.sleep(0.03)
        return found

    def wait_status(self, name: str, what: Callable[[pb.Status], object], timeout: float = 15) -> pb.Status:
        """Wait until ``what`` holds of a node's status."""

        def found() -> pb.Status | None:
            status = self.status(name)
            return status if status is not None and what(status) else None

        return self.wait(f"the state of {name}", found, timeout)

    def wait_alone(self, name: str, timeout: float = 15) -> pb.Status:
        """Wait until a node serves every client."""
        return self.wait_status(
            name, lambda one: one.role == "Up" and one.farm.share == 1 and one.farm.announcing, timeout
        )

    def show_logs(self) -> None:
        """Print the sidecars' logs, for a failed test."""
        for node in self.nodes.values():
            if node.log_path.exists():
                print(f"--- log of {node.name}")
                print("\n".join(_readable(line) for line in node.log_path.read_text().splitlines()[-60:]))


def _describe(status: pb.Status | None) -> str:
    if status is None:
        return "no answer"
    problems = "; ".join(f"{item.field}: {item.message}" for item in status.problems)
    farm = f"share {status.farm.share} announcing {status.farm.announcing}"
    return f"{status.role}: {status.reason} [{status.application.phase}] {farm} {problems}"


def _readable(line: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    text = f"{fields.get('time', '')[11:]} {fields.get('level')} {fields.get('message')}"
    return text + (f"\n{fields['exception']}" if "exception" in fields else "")


@contextlib.contextmanager
def farm_of_sidecars(**changes: Any) -> Iterator[SidecarFarm]:
    """A laboratory with a farm in it."""
    with FarmLab() as lab, SidecarFarm(lab, **changes) as farm:
        yield farm
