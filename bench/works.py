"""The pieces of work that are measured: each takes a place to run in and returns one figure.

Every figure is "higher is better". Load is bounded by time and size; the processes run where the system under
test is mounted (``Place.prefix`` enters that node's namespaces).
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

FILE_MIB = 256
"""Size of the file that the random writes hit, MiB."""
POSTGRES_BIN = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] or [Path("/usr/bin")]


@dataclass(frozen=True)
class Place:
    """Where a system under test is reachable: a directory, and the command prefix that sees it."""

    directory: Path
    prefix: tuple[str, ...] = ()

    def run(self, *argv: str, timeout: float = 300.0, user: str | None = None) -> str:
        """Run a command there and return its standard output. RuntimeError with its last output."""
        drop = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups") if user else ()
        command = [*self.prefix, *drop, *argv]
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
        if done.returncode != 0:
            tail = (done.stdout + done.stderr)[-2000:]
            raise RuntimeError(f"{' '.join(argv[:3])}... exited {done.returncode}: {tail}")
        return done.stdout


def _fio(place: Place, seconds: int, *options: str) -> dict[str, float]:
    out = place.run(
        "fio", "--name=job", f"--directory={place.directory}", "--filename=fio.dat", "--ioengine=psync",
        "--output-format=json", f"--size={FILE_MIB}m", "--randrepeat=0", *options,
        *(("--time_based", f"--runtime={seconds}") if seconds else ()), timeout=240.0,
    )  # fmt: skip
    write = json.loads(out[out.index("{") :])["jobs"][0]["write"]
    return {"iops": float(write["iops"]), "mib": float(write["bw_bytes"]) / 1e6}


def random_write_fsync(place: Place, seconds: int) -> float:
    """4 KiB random writes, an fsync after each; operations per second."""
    return _fio(place, seconds, "--rw=randwrite", "--bs=4k", "--fsync=1")["iops"]


def random_write(place: Place, seconds: int) -> float:
    """4 KiB random writes without fsync; operations per second."""
    return _fio(place, seconds, "--rw=randwrite", "--bs=4k")["iops"]


def sequential_write(place: Place, seconds: int) -> float:
    """1 MiB sequential writes with one fsync at the end; MB/s."""
    return _fio(place, 0, "--rw=write", "--bs=1m", "--end_fsync=1")["mib"]


_SMALL_FILES = """
import os, sys, time
top, seconds, sync = sys.argv[1], float(sys.argv[2]), sys.argv[3] == "sync"
data = b"x" * 4096
os.makedirs(top)
end = time.monotonic() + seconds
start, count = time.monotonic(), 0
while time.monotonic() < end and count < 200_000:
    fd = os.open(f"{top}/{count:06d}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    os.write(fd, data)
    if sync:
        os.fsync(fd)
    os.close(fd)
    count += 1
print(count / (time.monotonic() - start))
"""


def _small_files(place: Place, seconds: int, mode: str) -> float:
    top = place.directory / "small"
    try:
        out = place.run(sys.executable, "-c", _SMALL_FILES, str(top), str(seconds), mode)
    finally:
        place.run("rm", "-rf", str(top))
    return float(out)


def small_files(place: Place, seconds: int) -> float:
    """Create, write 4 KiB, close; files per second."""
    return _small_files(place, seconds, "plain")


def small_files_fsync(place: Place, seconds: int) -> float:
    """Create, write 4 KiB, fsync, close; files per second."""
    return _small_files(place, seconds, "sync")


_PGBENCH = """
set -e
bin=$1 data=$2 seconds=$3 sock=$4
if [ ! -e "$data/ready" ]; then
    rm -rf "$data/db"
    "$bin/initdb" -D "$data/db" -A trust -U postgres --no-instructions >/dev/null
    printf "listen_addresses=''\\nmax_wal_size=2GB\\nshared_buffers=64MB\\n" >>"$data/db/postgresql.conf"
fi
"$bin/pg_ctl" -D "$data/db" -w -t 60 -l "$data/log" -o "-k $sock" start >/dev/null
trap '"$bin/pg_ctl" -D "$data/db" -m fast -w stop >/dev/null' EXIT
if [ ! -e "$data/ready" ]; then
    "$bin/createdb" -h "$sock" -U postgres bench
    "$bin/pgbench" -h "$sock" -U postgres -i -q -s 10 bench >/dev/null 2>&1
    touch "$data/ready"
fi
"$bin/psql" -h "$sock" -U postgres -qc checkpoint bench
"$bin/pgbench" -h "$sock" -U postgres -n -c 4 -T "$seconds" bench
"""


def pgbench(place: Place, seconds: int) -> float:
    """pgbench, scale 10, 4 clients, its own default transaction; transactions per second."""
    data = place.directory / "pg"
    place.run("install", "-d", "-o", "postgres", "-g", "postgres", "-m", "0700", str(data))
    with tempfile.TemporaryDirectory(prefix="twinhull-pg-") as sock:
        Path(sock).chmod(0o777)  # the server runs as another user; the folder lives for this run only
        out = place.run(
            "sh", "-c", _PGBENCH, "pgbench", str(POSTGRES_BIN[0]), str(data), str(seconds), sock,
            user="postgres", timeout=600.0,
        )  # fmt: skip
    found = re.search(r"tps = ([0-9.]+)", out)
    if found is None:
        raise RuntimeError(f"pgbench printed no tps: {out[-500:]}")
    return float(found.group(1))


@dataclass(frozen=True)
class Work:
    """A named piece of work with its unit, as it stands in ``build/bench.json``."""

    name: str
    unit: str
    run: Callable[[Place, int], float]


WORKS = (
    Work("4 KiB random write + fsync", "1/s", random_write_fsync),
    Work("4 KiB random write", "1/s", random_write),
    Work("1 MiB sequential write", "MB/s", sequential_write),
    Work("create 4 KiB files", "1/s", small_files),
    Work("create 4 KiB files + fsync", "1/s", small_files_fsync),
    Work("pgbench scale 10, 4 clients", "1/s", pgbench),
)
