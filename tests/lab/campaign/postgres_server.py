"""PostgreSQL's server on a node: Debian's, as its own user, in IPC and process namespaces that end with it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.lab.campaign.postgres_client import CREATE
from tests.lab.mirrorfs_pair import wait_for

#: Small, and everything that must be flushed is.
SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    "listen_addresses": "",
    "shared_buffers": "4MB",
    "max_connections": "8",
    "max_wal_size": "8MB",
    "min_wal_size": "2MB",
    "checkpoint_timeout": "30s",
    "autovacuum_naptime": "1s",
    "max_wal_senders": "0",
    "wal_level": "minimal",
    "dynamic_shared_memory_type": "mmap",
    "log_min_messages": "fatal",
}


def binary(name: str) -> str:
    """Debian keeps these out of the path. Raises FileNotFoundError with what to install."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    if not found:
        raise FileNotFoundError(f"{name} is not there: run `make setup`, which installs Debian's postgresql")
    return str(found[-1])


def as_postgres(*argv: str) -> list[str]:
    """The server refuses to run as root."""
    return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *argv]


def make_template(directory: Path) -> None:
    """A cluster with the campaign's tables, to be copied for each case. Takes about two seconds."""
    directory.mkdir(mode=0o700)
    shutil.chown(directory, "postgres", "postgres")
    initdb = [binary("initdb"), "--pgdata", str(directory), "--username=postgres", "--auth=trust"]
    initdb += ["--encoding=UTF8", "--no-locale", "--wal-segsize=1", "--no-sync", "--data-checksums"]
    _run(as_postgres(*initdb))
    with (directory / "postgresql.conf").open("a") as file:
        file.writelines(f"{name} = '{value}'\n" for name, value in SETTINGS.items())
    single = as_postgres(binary("postgres"), "--single", "-j", "-D", str(directory), "postgres")
    _run(single, CREATE.strip().replace("\n", " ").replace("; ", ";\n\n") + "\n\n")


def _run(argv: list[str], text: str = "") -> None:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=120, cwd="/")
    if done.returncode != 0 or "ERROR" in done.stderr:
        raise RuntimeError(f"{argv}: {done.stderr}")


class Server:
    """A running server; ``directory`` is its data directory, its socket lies in ``socket``."""

    def __init__(self, directory: Path, socket: Path, log: Path) -> None:
        socket.mkdir(exist_ok=True)
        shutil.chown(socket, "postgres", "postgres")
        self.socket = socket
        self._log = log.open("ab")
        unshare = ["unshare", "--ipc", "--pid", "--fork", "--kill-child=SIGKILL"]
        self._process = subprocess.Popen(
            [*unshare, *as_postgres(binary("postgres"), "-D", str(directory), "-k", str(socket))],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            cwd="/",
        )
        self._inner: int | None = None

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def _first(self) -> int | None:
        """The first process of its namespace."""
        if self._inner is None:
            children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
            try:
                self._inner = int(children.read_text().split()[0])
            except (OSError, IndexError):
                return None
        return self._inner

    def kill(self) -> None:
        """All its processes, at once. They may hang in the mount until that is gone: :meth:`wait_gone` waits."""
        self._first()
        self._process.send_signal(signal.SIGKILL)

    def wait_gone(self) -> None:
        """After :meth:`kill`: the first process of the namespace is gone when all are."""
        self._process.wait(30)
        inner = self._inner
        if inner is not None:
            wait_for("PostgreSQL's processes end", lambda: not _exists(inner), 30)
        self._log.close()

    def stop(self) -> None:
        """In order: a checkpoint, then the end."""
        inner = self._first()
        if inner is not None:
            os.kill(inner, signal.SIGINT)
        code = self._process.wait(60)
        self._log.close()
        assert code == 0, f"PostgreSQL ended with {code}"


def _exists(process: int) -> bool:
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
