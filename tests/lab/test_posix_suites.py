"""Suites that others wrote, on a really mounted and replicated volume; afterwards both nodes hold the same.

What they skip, and why, stands in docs/semantics.md. Longer: ``TWINHULL_LONG=1``, as ``make suites`` sets it.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.lab.mirrorfs_pair import EnginePair, engine_pair

LONG = bool(os.environ.get("TWINHULL_LONG"))
SUITES = Path(os.environ.get("TWINHULL_CACHE", Path.home() / ".cache" / "twinhull")) / "suites" / "bin"

PJDFSTEST = """
[features]
posix_fallocate = {}
utimensat = {}
utime_now = {}
rename_ctime = {}
[settings]
naptime = 0.02
allow_remount = false
[dummy_auth]
entries = [["nobody", "nogroup"], ["daemon", "daemon"]]
"""
#: Tests of pjdfstest that are skipped: no second mount of the volume that could be read-only, no LINK_MAX of FUSE.
SKIPPED = re.compile(r".*::erofs_\w+|link::link_count_max")

#: stress-ng's stressors that work on files below --temp-path; the second list takes more than a second each.
STRESSORS = [
    *(
        "access",
        "chattr",
        "chmod",
        "chown",
        "copy-file",
        "dentry",
        "dirmany",
        "fallocate",
        "fcntl",
        "filename",
    ),
    *(
        "flock",
        "fpunch",
        "fsize",
        "getdent",
        "hdd",
        "handle",
        "io",
        "lease",
        "locka",
        "lockf",
        "lockofd",
        "mknod",
    ),
    *("open", "rename", "sync-file", "touch", "utime", "xattr"),
]
MORE_STRESSORS = [
    *(
        "chdir",
        "dir",
        "dirdeep",
        "dnotify",
        "dup",
        "fanotify",
        "file-ioctl",
        "fstat",
        "inode-flags",
        "inotify",
    ),
    *("iomix", "link", "symlink"),
]


@pytest.fixture
def pair() -> Iterator[EnginePair]:
    # A short path, for the sockets of pjdfstest, and one that users without rights can follow.
    with TemporaryDirectory(prefix="suites-") as directory, engine_pair(Path(directory)) as pair:
        Path(directory).chmod(0o755)
        pair.serve()
        pair.in_sync()
        yield pair
        pair.in_sync()
        pair.assert_equal()


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnginePair]:
    with engine_pair(tmp_path_factory.mktemp("stress")) as pair:
        pair.serve()
        pair.in_sync()
        yield pair


def run(*command: str | Path, timeout: float = 900.0) -> str:
    """What the suite said; it must have succeeded."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=timeout, check=False, errors="replace"
    )
    assert done.returncode == 0, (command, (done.stdout + done.stderr)[-4000:])
    return done.stdout + done.stderr


def test_pjdfstest(pair: EnginePair, tmp_path: Path) -> None:
    configuration = tmp_path / "pjdfstest.toml"
    configuration.write_text(PJDFSTEST)
    said = run(SUITES / "pjdfstest", "-c", configuration, "-p", pair.a.mount, "-s", "/dev/shm")
    summary = re.search(r"(\d+) failed, (\d+) skipped, (\d+) passed", said)
    assert summary is not None
    failed, _, passed = map(int, summary.groups())
    skipped = re.findall(r"^(\S+)\s+skipped$", said, re.MULTILINE)
    assert failed == 0
    assert passed >= 380
    assert [name for name in skipped if not SKIPPED.fullmatch(name)] == []


@pytest.mark.parametrize("seed", range(1, 21) if LONG else [1, 2])
def test_fsx(pair: EnginePair, seed: int) -> None:
    run(SUITES / "fsx", "-S", str(seed), "-N", "20000" if LONG else "2000", pair.a.mount / "fsx")


def test_fio_verify(pair: EnginePair) -> None:
    size = "512m" if LONG else "32m"
    job = ["--name=verify", f"--size={size}", "--bsrange=512-128k", "--verify=crc32c", "--randseed=7"]
    job += ["--verify_state_save=0"]
    job += ["--ioengine=psync", "--rw=randwrite", "--numjobs=2", "--group_reporting"]
    run("fio", f"--directory={pair.a.mount}", "--fsync=64", *job)
    # What the other node's disk has.
    pair.in_sync()
    run("fio", f"--directory={pair.b.backing}", "--verify_only", *job)


@pytest.mark.parametrize("stressor", STRESSORS + MORE_STRESSORS if LONG else STRESSORS)
def test_stress_ng(shared: EnginePair, stressor: str) -> None:
    seconds = "30" if LONG else "1"
    said = run(
        "stress-ng",
        *(f"--{stressor}", "1", "--timeout", seconds, "--verify", "--temp-path", shared.a.mount),
    )
    assert "skipped" not in said
    shared.in_sync()
    shared.assert_equal()
