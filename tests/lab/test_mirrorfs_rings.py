"""Requests through io_uring where the kernel's administrator allows it, and by /dev/fuse everywhere else."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.lab.mirrorfs_pair import EngineProcess, engine_pair, wait_for
from tests.lab.mirrorfs_work import every_kind_of_operation

PARAMETER = Path("/sys/module/fuse/parameters/enable_uring")
WRITERS = 8

pytestmark = pytest.mark.skipif(not PARAMETER.exists(), reason="this kernel has no FUSE over io_uring")


@pytest.fixture
def allowed() -> Iterator[None]:
    """New mounts may use io_uring during the test; the machine's own setting comes back afterwards."""
    before = PARAMETER.read_text()
    PARAMETER.write_text("Y")
    yield
    PARAMETER.write_text(before)


@pytest.fixture
def forbidden() -> Iterator[None]:
    """New mounts may not use io_uring during the test."""
    before = PARAMETER.read_text()
    PARAMETER.write_text("N")
    yield
    PARAMETER.write_text(before)


def threads(node: EngineProcess, name: str) -> int:
    """How many of the node's threads have that name."""
    assert node.process is not None
    names = Path(f"/proc/{node.process.pid}/task").glob("*/comm")
    found = 0
    for comm in names:
        # A thread may end between the look at the directory and the look at its name.
        with contextlib.suppress(OSError):
            found += comm.read_text().strip() == name
    return found


def work_and_stop(directory: Path, **options: object) -> int:
    """Serve, work, stop; returns how many threads waited at rings meanwhile."""
    with engine_pair(directory, **options) as pair:
        pair.serve()
        pair.in_sync()
        rings = threads(pair.a, "mirrorfs-ring")
        every_kind_of_operation(pair.a.mount / "work")
        (pair.a.mount / "large").write_bytes(os.urandom(5 << 20))
        pair.assert_equal()
        assert pair.a.call("stop_primary", 5.0)["clean"]
        # They have let go of the volume when the call returns; the kernel may need a moment more for their end.
        wait_for(
            "no thread of the mount is left",
            lambda: threads(pair.a, "mirrorfs-ring") == threads(pair.a, "mirrorfs") == 0,
        )
        return rings


@pytest.mark.usefixtures("allowed")
def test_requests_come_through_rings_where_the_kernel_allows_it(tmp_path: Path) -> None:
    assert work_and_stop(tmp_path) >= 4 * (os.cpu_count() or 1)


@pytest.mark.usefixtures("allowed")
def test_rings_can_be_switched_off(tmp_path: Path) -> None:
    assert work_and_stop(tmp_path, io_uring=False) == 0


@pytest.mark.usefixtures("forbidden")
def test_without_the_kernels_permission_requests_come_by_the_device(tmp_path: Path) -> None:
    assert work_and_stop(tmp_path) == 0


@pytest.mark.usefixtures("allowed")
def test_blocked_writes_hold_back_no_reads_of_their_cpu_and_end_with_the_mount(tmp_path: Path) -> None:
    cpu = min(os.sched_getaffinity(0))
    with engine_pair(tmp_path) as pair:
        pair.serve()
        pair.in_sync()
        (pair.a.mount / "readable").write_bytes(b"r" * 4096)
        files = [os.open(pair.a.mount / f"written-{i}", os.O_CREAT | os.O_WRONLY) for i in range(WRITERS)]
        reader = os.open(pair.a.mount / "readable", os.O_RDONLY)
        os.posix_fadvise(reader, 0, 0, os.POSIX_FADV_DONTNEED)
        pair.relays["b"].stalled = True
        failures: list[OSError] = []

        def write(file: int) -> None:
            os.sched_setaffinity(0, {cpu})
            try:
                os.write(file, b"w")
            except OSError as error:
                failures.append(error)

        writers = [threading.Thread(target=write, args=(file,)) for file in files]
        for writer in writers:
            writer.start()
        backing = [pair.a.backing / f"written-{i}" for i in range(WRITERS)]
        wait_for("all writes have reached the disk here", lambda: all(f.stat().st_size == 1 for f in backing))
        cpus = os.sched_getaffinity(0)
        os.sched_setaffinity(0, {cpu})
        started = time.monotonic()
        read = os.pread(reader, 4096, 0)
        waited = time.monotonic() - started
        os.sched_setaffinity(0, cpus)
        assert (read, all(writer.is_alive() for writer in writers)) == (b"r" * 4096, True)
        assert waited < 1.0
        pair.a.call("abort_primary")
        for writer in writers:
            writer.join(10)
        assert len(failures) == WRITERS
        # They have let go of the volume when the call returns; the kernel may need a moment more for their end.
        wait_for(
            "no thread of the mount is left",
            lambda: threads(pair.a, "mirrorfs-ring") == threads(pair.a, "mirrorfs") == 0,
        )
        for file in (*files, reader):
            os.close(file)
