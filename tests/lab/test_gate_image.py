"""The image's own command and stop signal, asked of a real containerd, and run by a real gate."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.gate_harness import Gate
from twinhull_sidecar.config import Container
from twinhull_sidecar.workload import WorkloadError
from twinhull_sidecar.workload.cri import ImageConfig, ImageConfigs
from twinhull_sidecar.workload.gated import boottime
from twinhull_sidecar.workload.pod import PodWorkload

IMAGE = "localhost/app:1"


def programs() -> Path:
    """Folder with containerd and ctr; unpacked from Debian's package where they are not installed."""
    installed = shutil.which("containerd")
    if installed:
        return Path(installed).parent
    cache = Path(os.environ.get("TWINHULL_CACHE", Path.home() / ".cache" / "twinhull"))
    folder = cache / "containerd"
    if not (folder / "usr/bin/containerd").exists():
        folder.mkdir(parents=True, exist_ok=True)
        if subprocess.run(["apt-get", "download", "containerd"], cwd=folder, check=False).returncode != 0:
            subprocess.run(["apt-get", "update"], check=True)
            subprocess.run(["apt-get", "download", "containerd"], cwd=folder, check=True)
        for package in folder.glob("containerd_*.deb"):
            subprocess.run(["dpkg", "-x", package, folder], check=True)
            package.unlink()
    return folder / "usr/bin"


def archive(path: Path, config: dict[str, object]) -> None:
    """A container image of one empty layer, in the form of `docker save`."""
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w"):
        pass
    image = {
        "architecture": "amd64",
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": ["sha256:" + hashlib.sha256(layer.getvalue()).hexdigest()]},
    }
    files = {
        "config.json": json.dumps(image).encode(),
        "layer.tar": layer.getvalue(),
        "manifest.json": json.dumps(
            [{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]
        ).encode(),
    }
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))


@pytest.fixture(scope="module")
def cri(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Socket of a containerd of our own that holds IMAGE and nothing else."""
    folder = tmp_path_factory.mktemp("containerd")
    socket = folder / "containerd.sock"
    config = folder / "config.toml"
    config.write_text(
        f"version = 2\nroot = '{folder}/root'\nstate = '{folder}/state'\n"
        f"[grpc]\naddress = '{socket}'\n"
        "[plugins.'io.containerd.grpc.v1.cri'.containerd]\nsnapshotter = 'native'\n"
        "[plugins.'io.containerd.grpc.v1.cri'.cni]\n"
        f"bin_dir = '{folder}/cni'\nconf_dir = '{folder}/net.d'\n"
    )
    path = f"{programs()}:{os.environ['PATH']}"
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["containerd", "--config", config], stdout=log, stderr=log, env={**os.environ, "PATH": path}
        )
        try:
            archive(
                folder / "image.tar",
                {
                    "Entrypoint": [
                        "sh",
                        "-c",
                        'echo "$@" > "$0"; trap "exit 7" INT; while :; do sleep 0.05; done',
                    ],
                    "Cmd": ["/dev/null"],
                    "StopSignal": "SIGINT",
                },
            )
            ctr = ["ctr", "--address", str(socket), "--namespace", "k8s.io"]
            end = time.monotonic() + 30
            while True:
                done = subprocess.run(
                    [*ctr, "images", "import", "--no-unpack", folder / "image.tar"],
                    env={**os.environ, "PATH": path},
                    capture_output=True,
                    text=True,
                    check=False,
                )
                if done.returncode == 0:
                    break
                assert time.monotonic() < end, done.stderr + (folder / "log").read_text()
                time.sleep(0.2)
            yield socket
        finally:
            process.terminate()
            process.wait(20)


async def known(cri: Path) -> ImageConfig:
    """The CRI plugin learns of an imported image by an event, a moment later."""
    images = ImageConfigs(cri)
    end = time.monotonic() + 10
    try:
        while True:
            try:
                return await images.get(IMAGE)
            except WorkloadError:
                if time.monotonic() > end:
                    raise
                await asyncio.sleep(0.1)
    finally:
        await images.close()


async def test_the_configuration_comes_from_the_runtime(cri: Path) -> None:
    config = await known(cri)
    assert config.entrypoint[:2] == ("sh", "-c")
    assert config.cmd == ("/dev/null",)
    assert config.stop_signal == "SIGINT"


async def test_an_image_that_is_not_here_is_named(cri: Path) -> None:
    images = ImageConfigs(cri)
    with pytest.raises(WorkloadError, match="localhost/other:1 is not on this node"):
        await images.get("localhost/other:1")
    await images.close()


async def test_a_container_without_command_runs_its_images(cri: Path, tmp_path: Path) -> None:
    await known(cri)
    out = tmp_path / "out"
    workload = PodWorkload([Container("db", image=IMAGE)], tmp_path, cri)
    await workload.open()
    options = ["--container", "db", "--image-command"]
    gate = Gate(tmp_path / "lease.sock", [str(out), "a", "b c"], options=options)
    try:
        workload.renew(boottime() + 30)
        await workload.start(1)
        end = time.monotonic() + 10
        while not (out.exists() and out.read_text()):
            assert time.monotonic() < end, workload.state()
            await asyncio.sleep(0.05)
        assert out.read_text() == "a b c\n"
        await asyncio.sleep(0.2)
        begun = time.monotonic()
        await workload.stop(20.0)
        assert time.monotonic() - begun < 10, "it ended by the image's stop signal, not after its grace"
    finally:
        await workload.close()
        gate.close()
