"""A two-node pair in the laboratory: two sidecars with the process adapter, each on a disk of its own.

Everything real: FUSE, ext4 on loop devices, network namespaces, the gate, the virtual address. A node is

- its network namespace (see :mod:`tests.lab.netns`), its disk, its sidecar and what that starts;
- ``power_cut``: its links fall silent, everything of it is killed, its disk loses what was not flushed;
- ``boot``: its disk is mounted again, its links are back, its sidecar starts.
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

from tests.lab.disk import Disk
from tests.lab.netns import LINKS, NODES, Lab
from tests.lab.pki import make_tls_dir
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import (
    Application,
    Link,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    Volume,
    render,
)

T = TypeVar("T")

UID = "5f0c1c1e-1ab0-4b0e-9d5e-0123456789ab"
SERVICE_PORT = 5000
DISK_MEGABYTES = 256
SERVER = Path(__file__).with_name("ledger_server.py")


def gate_binary() -> Path:
    """The gate built by ``make setup``; its place can be given in TWINHULL_GATE."""
    cache = os.environ.get("TWINHULL_CACHE") or f"{Path.home()}/.cache/twinhull"
    given = os.environ.get("TWINHULL_GATE")
    return Path(given or f"{cache}/target-gate/x86_64-unknown-linux-gnu/release/gate")


class Node:
    """One node of the pair. Use the pair's methods to act on it."""

    def __init__(self, pair: Pair, name: str) -> None:
        self.name = name
        self._pair = pair
        self._directory = pair.directory / name
        self.disk = Disk(pair.directory / f"{name}.img", self._directory, DISK_MEGABYTES)
        self.base = self._directory / "module"
        self.config_path = pair.directory / f"{name}.json"
        self.log_path = pair.directory / f"{name}.log"
        self.tls_dir = pair.directory / "tls"
        self.sidecar: subprocess.Popen[Any] | None = None

    @property
    def socket(self) -> Path:
        """The sidecar's control socket."""
        return self.base / "control.sock"

    @property
    def mount(self) -> Path:
        """Where the volume is mounted on the primary."""
        return self.base / "mnt" / "data"

    @property
    def backing(self) -> Path:
        """The volume's backing directory."""
        return self.base / "volumes" / "data"

    def use(self, config: ModuleConfig) -> None:
        """Write the sidecar's configuration file: ``config`` with this node's own directory."""
        application = config.application
        if application.argv == _LEDGER:
            argv = (sys.executable, "-SEI", str(SERVER), str(self.mount), str(SERVICE_PORT))
            application = replace(application, argv=argv)
        config = replace(config, base_dir=str(self.base), application=application)
        self.config_path.write_text(render(config))

    def start(self) -> None:
        """Start the sidecar."""
        if not self.config_path.exists():
            self.use(self._pair.config)
        argv = [sys.executable, "-m", "twinhull_sidecar.main", "run", "--config", str(self.config_path)]
        argv += ["--node", self.name, "--tls-dir", str(self.tls_dir), "--gate-binary", str(gate_binary())]
        with self.log_path.open("ab") as log:
            # What a killed sidecar leaves among the temporary files goes with the pair.
            env = {**os.environ, "TMPDIR": str(self._pair.directory)}
            self.sidecar = self._pair.lab.spawn(self.name, argv, stderr=log, stdout=log, env=env)

    def pids(self) -> list[int]:
        """Every process in this node's network namespace."""
        text = subprocess.run(
            ["ip", "netns", "pids", self._pair.lab.namespace(self.name)],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
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
            if time.monotonic() > deadline:
                raise RuntimeError(f"processes of {self.name} do not end: {pids}")
            time.sleep(0.005)
        if self.sidecar is not None:
            self.sidecar.wait(5)
            self.sidecar = None

    def status(self) -> pb.Status:
        """The sidecar's status. Raises grpc.RpcError when it does not answer."""
        with grpc.insecure_channel(
            f"unix:{self.socket}", options=[("grpc.default_authority", "localhost")]
        ) as channel:
            call = channel.unary_unary(
                "/twinhull.v1.Sidecar/GetStatus",
                request_serializer=pb.StatusRequest.SerializeToString,
                response_deserializer=pb.Status.FromString,
            )
            answer: pb.Status = call(pb.StatusRequest(), timeout=2)
            return answer

    def role(self) -> str:
        """Its role, empty when it does not answer."""
        try:
            return self.status().role
        except grpc.RpcError:
            return ""

    def ctl(self, *arguments: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``twinhullctl`` on this node."""
        argv = [sys.executable, "-m", "twinhull_sidecar.ctl", "--socket", str(self.socket), *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=timeout)


_LEDGER = ("ledger",)


class Pair:
    """Use as a context manager; everything is gone afterwards."""

    def __init__(self, lab: Lab, **changes: Any) -> None:
        self.lab = lab
        # A short path: a Unix socket's has 107 bytes at most.
        self.directory = Path(tempfile.mkdtemp(prefix="twinhull-lab-"))
        self.vip = lab.virtual_ip()
        links = tuple(Link(link, {node: lab.address(node, link) for node in NODES}) for link in LINKS)
        config = ModuleConfig(
            namespace="lab",
            name="ledger",
            uid=UID,
            nodes=NODES,
            links=links,
            ports=Ports(7400, 7400, 7401),
            base_dir="/replaced/for/each/node",
            application=Application(adapter="process", argv=_LEDGER, stop_grace=5.0),
            volumes=(Volume("data"),),
            virtual_ips=(
                VirtualIP(
                    self.vip, 24, lab.interface("lan"), (ServicePort("ledger", SERVICE_PORT, SERVICE_PORT),)
                ),
            ),
        )
        self.config = replace(config, **changes)
        make_tls_dir(self.directory / "tls", [*NODES, "operator"], UID)
        self.nodes = {name: Node(self, name) for name in NODES}

    def __enter__(self) -> Pair:
        try:
            for node in self.nodes.values():
                node.disk.mount()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            self.show_logs()
        self.close()

    def __getitem__(self, name: str) -> Node:
        return self.nodes[name]

    def close(self) -> None:
        """Kill both nodes, unmount, remove everything."""
        failures = []
        for node in self.nodes.values():
            try:
                node.kill_everything()
                node.disk.unmount()
            except (OSError, RuntimeError, subprocess.SubprocessError) as error:
                failures.append(error)
        if failures:
            raise ExceptionGroup("the pair could not be removed", failures)
        shutil.rmtree(self.directory)

    def show_logs(self) -> None:
        """Print the sidecars' logs, for a failed test."""
        for node in self.nodes.values():
            if node.log_path.exists():
                print(f"--- log of {node.name}")
                for line in node.log_path.read_text().splitlines()[-60:]:
                    print(_readable(line))

    # --- acts ---

    def start(self) -> None:
        """Start both and wait until one serves and the other is in sync."""
        for node in self.nodes.values():
            node.start()
        self.wait_redundant(60)

    def power_cut(self, name: str) -> float:
        """Cut the power of a node; the result is the moment (Unix seconds)."""
        node = self.nodes[name]
        moment = time.time()
        self.lab.cut_off(name)
        node.kill_everything()
        node.disk.cut()
        node.disk.unmount()
        # What a power cut does not leave behind in the network namespace: addresses and rules of the sidecar.
        self.lab.run(name, "nft", "flush", "ruleset")
        with contextlib.suppress(RuntimeError):
            self.lab.run(name, "ip", "addr", "del", f"{self.vip}/24", "dev", self.lab.interface("lan"))
        return moment

    def boot(self, name: str) -> None:
        """Give a node its power back."""
        self.nodes[name].disk.mount()
        for link in LINKS:
            self.lab.heal(link, name)
        self.nodes[name].start()

    # --- waiting ---

    def serving(self) -> str | None:
        """The node that is Primary or Alone with a running application; None: neither or both."""
        found = [name for name, node in self.nodes.items() if node.role() in ("Primary", "Alone")]
        return found[0] if len(found) == 1 else None

    def wait(self, what: str, condition: Callable[[], T | None], timeout: float) -> T:
        """Wait until ``condition`` is true; the result is what it gave. Fails the test with ``what``."""
        deadline = time.monotonic() + timeout
        while True:
            found = condition()
            if found:
                return found
            if time.monotonic() > deadline:
                roles = {name: _describe(node) for name, node in self.nodes.items()}
                raise AssertionError(f"after {timeout:g} s still not: {what}; {roles}")
            time.sleep(0.05)

    def wait_redundant(self, timeout: float = 60) -> str:
        """Wait until one node is Primary, its application ready and the other Secondary in sync."""

        def redundant() -> str | None:
            try:
                states = {name: node.status() for name, node in self.nodes.items()}
            except grpc.RpcError:
                return None
            for name, other in (NODES, NODES[::-1]):
                first, second = states[name], states[other]
                if first.role == "Primary" and second.role == "Secondary":
                    synced = first.in_sync and second.in_sync and first.application.ready
                    return name if synced else None
            return None

        return self.wait("one Primary, one Secondary in sync", redundant, timeout)

    def wait_serving(self, name: str, timeout: float) -> pb.Status:
        """Wait until ``name`` serves and its application is ready."""

        def serves() -> pb.Status | None:
            try:
                status = self.nodes[name].status()
            except grpc.RpcError:
                return None
            return status if status.role in ("Primary", "Alone") and status.application.ready else None

        return self.wait(f"{name} serves", serves, timeout)

    def wait_role(self, name: str, role: str, timeout: float) -> pb.Status:
        """Wait for a role."""
        self.wait(f"{name} is {role}", lambda: self.nodes[name].role() == role, timeout)
        return self.nodes[name].status()

    @staticmethod
    def other(name: str) -> str:
        """The other node."""
        return NODES[1] if name == NODES[0] else NODES[0]


def _describe(node: Node) -> str:
    try:
        status = node.status()
    except grpc.RpcError as error:
        return f"no answer ({error})"
    problems = "; ".join(f"{item.field}: {item.message}" for item in status.problems)
    return f"{status.role}: {status.reason} [{status.application.phase}] {problems}"


def _readable(line: str) -> str:
    try:
        fields = json.loads(line)
    except ValueError:
        return line
    text = f"{fields.get('time', '')[11:]} {fields.get('level')} {fields.get('message')}"
    return text + (f"\n{fields['exception']}" if "exception" in fields else "")


@contextlib.contextmanager
def pair_of_nodes(**changes: Any) -> Iterator[Pair]:
    """A laboratory with a pair in it; ``changes`` of the module's configuration."""
    with Lab() as lab, Pair(lab, **changes) as pair:
        yield pair
