"""What a container sees of the mirror when the mirror is mounted and unmounted, with real FUSE and mount namespaces."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.lab.disk import run
from tests.lab.gate_harness import LeaseServer, eventually, gate_binary
from tests.lab.mirrorfs_pair import EnginePair, engine_pair

EX_TEMPFAIL = 75

#: Creates a container, as the runtime does for a hostPath with HostToContainer, whose application writes to ``out``.
Create = Callable[[], subprocess.Popen[bytes]]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Path]:
    """A directory on a mount that propagates, as a node's root file system does."""
    path = tmp_path / "node"
    path.mkdir()
    run("mount", "-t", "tmpfs", "node", str(path))
    run("mount", "--make-shared", str(path))
    yield path
    run("umount", "-l", str(path))


@pytest.fixture
def pair(node: Path) -> Iterator[EnginePair]:
    with engine_pair(node) as pair:
        pair.a.start()
        pair.a.call("initialise")
        yield pair


@pytest.fixture
def create(pair: EnginePair, server: LeaseServer, tmp_path: Path) -> Iterator[Create]:
    inside = tmp_path / "container data"
    inside.mkdir()
    pair.a.mount.mkdir(parents=True, exist_ok=True)
    application = f"cat '{inside}/row' >> {tmp_path}/out; exec sleep 1000"
    gate = [str(gate_binary()), "run", "--container", "app", "--socket", str(server.path)]
    gate += ["--volume", str(inside), "--", "sh", "-c", application]
    bind = 'mount --bind "$0" "$1" && shift 1 && exec "$@"'
    enter = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", bind, str(pair.a.mount), str(inside)]
    processes: list[subprocess.Popen[bytes]] = []

    def created() -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([*enter, *gate], stdin=subprocess.DEVNULL))
        server.accept()
        server.wait_for("held")
        return processes[-1]

    yield created
    for process in processes:
        process.kill()
        process.wait()


def become_primary(pair: EnginePair) -> None:
    pair.a.call("start_primary", True)
    pair.a.call("lease", 5.0)


def has_line(path: Path, line: str) -> bool:
    return path.exists() and line in path.read_text().splitlines()


def test_a_container_from_before_the_mount_sees_every_mount(
    pair: EnginePair, server: LeaseServer, create: Create, tmp_path: Path
) -> None:
    container, out = create(), tmp_path / "out"
    for epoch in (1, 3):
        become_primary(pair)
        (pair.a.mount / "row").write_text(f"{epoch}\n")
        server.run(epoch, ttl_ms=5000)
        server.wait_for("running", epoch=epoch)
        eventually(functools.partial(has_line, out, str(epoch)), "the row was read")
        server.stop(epoch, grace_ms=1000)
        server.wait_for("held", epoch=epoch)
        pair.a.call("stop_primary", 5.0)
    assert out.read_text() == "1\n3\n"
    assert container.poll() is None


def test_a_container_bound_to_a_mount_asks_for_a_new_one_when_the_mount_ends(
    pair: EnginePair, server: LeaseServer, create: Create, tmp_path: Path
) -> None:
    become_primary(pair)
    (pair.a.mount / "row").write_text("first\n")
    container = create()
    server.run(1, ttl_ms=5000)
    server.wait_for("running", epoch=1)
    server.stop(1, grace_ms=1000)
    server.wait_for("held", epoch=1)
    pair.a.call("stop_primary", 5.0)
    assert container.wait(timeout=5) == EX_TEMPFAIL

    create()
    become_primary(pair)
    server.run(2, ttl_ms=5000)
    server.wait_for("running", epoch=2)


def test_nothing_starts_on_the_empty_directory_below_a_missing_mount(
    server: LeaseServer, create: Create, tmp_path: Path
) -> None:
    create()
    server.run(1, ttl_ms=5000)
    ended = server.wait_for("exited", epoch=1)
    assert ended["code"] == EX_TEMPFAIL
    assert "container data is not mounted in this container" in ended["reason"]
    assert not (tmp_path / "out").exists()
