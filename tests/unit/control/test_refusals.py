"""A sidecar that is given something wrong stays up, waits, says so over its socket, and goes on once it is mended."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from tests.lab.pki import Authority, make_tls_dir
from tests.unit.control.doubles import module
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import ModuleConfig, render
from twinhull_sidecar.control.assembly import make_directories

PATIENCE = 20.0


class Sidecar:
    """A real ``twinhull-sidecar run`` process on loopback."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config = module(str(directory / "base"))
        self.path = directory / "module.json"
        self.tls = directory / "tls"
        make_tls_dir(self.tls, ["a", "b"], self.config.uid)
        self.process: subprocess.Popen[bytes] | None = None

    def write(self, config: ModuleConfig) -> None:
        self.path.write_text(render(config))

    def start(self) -> None:
        argv = [sys.executable, "-m", "twinhull_sidecar.main", "run", "--config", str(self.path)]
        argv += ["--node", "a", "--tls-dir", str(self.tls), "--gate-binary", "/nowhere"]
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
        self.process = subprocess.Popen(argv, env=environment)

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def status(self) -> pb.Status:
        target = f"unix:{self.directory / 'base' / 'control.sock'}"
        with grpc.insecure_channel(target, options=[("grpc.default_authority", "localhost")]) as channel:
            call = channel.unary_unary(
                "/twinhull.v1.Sidecar/GetStatus",
                request_serializer=pb.StatusRequest.SerializeToString,
                response_deserializer=pb.Status.FromString,
            )
            answer: pb.Status = call(pb.StatusRequest(), timeout=2)
            return answer

    def wait_problem(self, field: str) -> pb.Status:
        """Wait until a problem with that field is shown."""
        deadline = time.monotonic() + PATIENCE
        last = "no answer"
        while time.monotonic() < deadline:
            assert self.process is not None
            assert self.process.poll() is None, "the sidecar ended"
            with contextlib.suppress(grpc.RpcError):
                status = self.status()
                if any(field in problem.field for problem in status.problems):
                    return status
                last = f"{status.role}: {status.reason}"
            time.sleep(0.1)
        raise AssertionError(f"no problem with {field}; {last}")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[Sidecar]:
    made = Sidecar(tmp_path)
    make_directories(tmp_path / "base")
    yield made
    if made.process is not None and made.process.poll() is None:
        made.process.kill()
        made.process.wait()


def test_a_wrong_field_is_shown_and_its_mending_is_noticed(sidecar: Sidecar) -> None:
    sidecar.write(replace(sidecar.config, durability="sometimes"))  # type: ignore[arg-type]
    sidecar.start()
    status = sidecar.wait_problem("durability")
    assert status.role == "Waiting"
    assert status.reason_code == "Refused"
    assert "choose one of write, commit" in status.reason
    assert [event.type for event in status.events] == ["Warning"]
    ready = [sys.executable, "-m", "twinhull_sidecar.main", "ready", "--config", str(sidecar.path)]
    assert subprocess.run(ready, check=False).returncode == 0

    # The next thing that is wrong is shown after the first was mended.
    sidecar.write(replace(sidecar.config, nodes=("c", "d"), links=()))
    assert "links" in sidecar.wait_problem("links").reason
    assert sidecar.stop() == 0


def test_a_wrong_node_is_refused(sidecar: Sidecar) -> None:
    links = tuple(
        replace(link, addresses={"x": "127.0.0.1", "y": "127.0.0.2"}) for link in sidecar.config.links
    )
    sidecar.write(replace(sidecar.config, nodes=("x", "y"), links=links))
    sidecar.start()
    assert "run the sidecar on one of the module's nodes" in sidecar.wait_problem("nodes").reason
    assert sidecar.stop() == 0


def test_a_wrong_certificate_is_refused(sidecar: Sidecar) -> None:
    good = (sidecar.tls / "ca.crt").read_bytes()
    Authority("another").issue(sidecar.tls, "a", sidecar.config.uid)
    (sidecar.tls / "ca.crt").write_bytes(good)
    sidecar.write(sidecar.config)
    sidecar.start()
    status = sidecar.wait_problem("tls-dir a.crt")
    assert status.module == "shop/orders"
    assert status.peer.node == "b"
    assert sidecar.stop() == 0


def test_an_order_to_a_waiting_sidecar_is_refused_with_the_reason(sidecar: Sidecar) -> None:
    sidecar.path.write_text("{")
    sidecar.path.write_text('{"base_dir": "%s"}' % (sidecar.directory / "base"))
    sidecar.start()
    sidecar.wait_problem("version")
    socket = str(sidecar.directory / "base" / "control.sock")
    ctl = [sys.executable, "-m", "twinhull_sidecar.ctl", "--socket", socket]
    done = subprocess.run([*ctl, "force-primary"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "version" in done.stderr
    shown = subprocess.run([*ctl, "status"], capture_output=True, text=True, check=False)
    assert shown.returncode == 0
    assert "role         Waiting: refused: version" in shown.stdout
    assert sidecar.stop() == 0


def test_ready_fails_without_a_sidecar(tmp_path: Path) -> None:
    ready = [sys.executable, "-m", "twinhull_sidecar.main", "ready", "--config", str(tmp_path / "none")]
    done = subprocess.run(ready, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "/run/twinhull/control.sock" in done.stderr


def test_the_gate_is_installed_whole(tmp_path: Path) -> None:
    binary = tmp_path / "source"
    binary.write_bytes(b"\x7fELF gate")
    target = tmp_path / "target"
    target.mkdir()
    command = [sys.executable, "-m", "twinhull_sidecar.main", "install-gate", str(target)]
    assert subprocess.run([*command, "--gate-binary", str(binary)], check=False).returncode == 0
    assert (target / "gate").read_bytes() == b"\x7fELF gate"
    assert (target / "gate").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in target.iterdir()] == ["gate"]
    missing = subprocess.run(
        [*command, "--gate-binary", "/nowhere"], capture_output=True, text=True, check=False
    )
    assert missing.returncode == 1
    assert "/nowhere" in missing.stderr
