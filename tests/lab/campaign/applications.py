"""The applications as the campaign sees them: start, stop, lose power, and be judged by what was acknowledged."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from tests.lab.campaign.case import Case
from tests.lab.campaign.ledger import Ledger
from tests.lab.campaign.postgres_client import CLIENTS
from tests.lab.campaign.postgres_server import Server, make_template
from tests.lab.campaign.raw import Tree, judge_restarted, judge_survivor
from tests.lab.mirrorfs_pair import ROOT, wait_for

#: Recovery of a database on a busy machine.
PATIENCE = 60.0


@dataclass(frozen=True)
class Survival:
    """What the node that the application now runs on went through since the application was last judged."""

    #: It kept its power, and with it its page cache.
    kept_power: bool
    #: Whatever was acknowledged must be there, flushed or not: durability ``write``.
    every: bool


class Clients:
    """The process that works and says what was acknowledged."""

    def __init__(self, module: str, *arguments: str, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ready = threading.Event()
        self._wrong: list[str] = []
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.lab.campaign.{module}", "write", *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment(),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line == "ready\n":
                self._ready.set()
            elif line.endswith("\n"):
                client, number = line.split()
                try:
                    self._ledger.acknowledge(int(client), int(number))
                except AssertionError as error:
                    self._wrong.append(str(error))

    def wait_ready(self) -> None:
        """Until it works, at the latest after PATIENCE."""
        wait_for("the application has started", lambda: self._ready.is_set() or not self.alive(), PATIENCE)
        self.assert_well()

    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def assert_well(self) -> None:
        """Nothing has gone wrong: no error reaches an application whose node has power."""
        if not self.alive():
            assert self._process.stderr is not None
            raise AssertionError(f"the application saw an error: {self._process.stderr.read()[-2000:]}")

    def kill(self) -> None:
        """At once. It may hang in the mount until that is gone: :meth:`reap` waits."""
        self._process.kill()

    def reap(self) -> None:
        """After :meth:`kill`, when the mount is gone: what it was told until then is in the ledger."""
        self._process.wait(30)
        self._reader.join(30)
        assert not self._reader.is_alive()
        self._close()
        assert not self._wrong, self._wrong

    def stop(self) -> None:
        """It finishes what it does."""
        self.assert_well()
        assert self._process.stdin is not None
        self._process.stdin.close()
        code = self._process.wait(PATIENCE)
        self._reader.join(30)
        assert self._process.stderr is not None
        assert code == 0, f"the application ended with {code}: {self._process.stderr.read()[-2000:]}"
        self._close()
        assert not self._wrong, self._wrong

    def _close(self) -> None:
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            if stream is not None:
                # What was not sent to it does not matter any more.
                with contextlib.suppress(OSError):
                    stream.close()


class Application(Protocol):
    """One application; it runs on one mount at a time."""

    ledger: Ledger

    def create(self, directory: Path) -> None:
        """Its first data, in a directory that is not mounted yet."""

    def start(self, mount: Path) -> None:
        """Recover and work."""

    @property
    def running(self) -> bool:
        """It has been started and neither stopped nor reaped."""

    def assert_well(self) -> None:
        """It runs and has seen no error."""

    def stop(self) -> None:
        """In order."""

    def kill(self) -> None:
        """Its node has lost power."""

    def reap(self) -> None:
        """After :meth:`kill`, when the mount is gone."""

    def judge(self, mount: Path, survival: Survival) -> None:
        """Not running: nothing acknowledged is missing, nothing is damaged. Raises AssertionError."""


def environment() -> dict[str, str]:
    """In which a process of the campaign finds its modules."""
    return os.environ | {"PYTHONPATH": os.pathsep.join([*sys.path, str(ROOT)])}


def client(module: str, *arguments: str) -> str:
    """Run one of the clients' other orders; its output. Fails with what it said."""
    done = subprocess.run(
        [sys.executable, "-m", f"tests.lab.campaign.{module}", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
        cwd=ROOT,
        env=environment(),
    )
    assert done.returncode == 0, f"{module} {arguments[0]}: {done.stderr[-2000:]}"
    return done.stdout


def found(output: str) -> dict[int, int]:
    """What a check found."""
    return {int(client): last for client, last in json.loads(output).items()}


class Serverless:
    """What the applications share that are nothing but their clients."""

    _clients: Clients | None = None

    @property
    def running(self) -> bool:
        """See Application."""
        return self._clients is not None

    def assert_well(self) -> None:
        """See Application."""
        assert self._clients is not None
        self._clients.assert_well()

    def stop(self) -> None:
        """See Application."""
        assert self._clients is not None
        clients, self._clients = self._clients, None
        clients.stop()

    def kill(self) -> None:
        """See Application."""
        if self._clients is not None:
            self._clients.kill()

    def reap(self) -> None:
        """See Application."""
        if self._clients is not None:
            clients, self._clients = self._clients, None
            clients.reap()


class Database(Serverless):
    """An application that is a process with a database of its own: SQLite and LMDB."""

    def __init__(self, module: str, *options: str, forgiven: int = 0) -> None:
        self.ledger = Ledger(1)
        self._module = module
        self._options = options
        self._forgiven = forgiven

    def create(self, directory: Path) -> None:
        """See Application."""
        client(self._module, "create", str(directory), *self._options)

    def start(self, mount: Path) -> None:
        """See Application."""
        number = str(self.ledger.acknowledged[0] + 1)
        self._clients = Clients(self._module, str(mount), *self._options, number, ledger=self.ledger)
        self._clients.wait_ready()

    def judge(self, mount: Path, survival: Survival) -> None:
        """See Application."""
        there = found(client(self._module, "check", str(mount), *self._options))
        self.ledger.judge(there, 0 if survival.kept_power and survival.every else self._forgiven)


class PostgreSQL:
    """A server and two clients."""

    def __init__(self, template: Path, scratch: Path) -> None:
        self.ledger = Ledger(CLIENTS)
        self._template = template
        self._scratch = scratch
        self._server: Server | None = None
        self._clients: Clients | None = None

    @property
    def running(self) -> bool:
        """See Application."""
        return self._clients is not None

    def create(self, directory: Path) -> None:
        """See Application."""
        subprocess.run(["cp", "-a", str(self._template), str(directory / "cluster")], check=True, timeout=60)

    def _start_server(self, mount: Path) -> Server:
        # The processes of a node that lost power are gone; their numbers may belong to others now.
        (mount / "cluster" / "postmaster.pid").unlink(missing_ok=True)
        return Server(mount / "cluster", self._scratch / "socket", self._scratch / "postgresql.log")

    def start(self, mount: Path) -> None:
        """See Application."""
        self._server = self._start_server(mount)
        numbers = [str(last + 1) for _, last in sorted(self.ledger.acknowledged.items())]
        self._clients = Clients("postgres_client", str(self._server.socket), *numbers, ledger=self.ledger)
        self._clients.wait_ready()

    def assert_well(self) -> None:
        """See Application."""
        assert self._clients is not None
        assert self._server is not None
        assert self._server.alive(), "PostgreSQL has ended, see its log"
        self._clients.assert_well()

    def stop(self) -> None:
        """See Application."""
        assert self._clients is not None
        assert self._server is not None
        clients, self._clients = self._clients, None
        clients.stop()
        server, self._server = self._server, None
        server.stop()

    def kill(self) -> None:
        """See Application."""
        if self._clients is not None:
            self._clients.kill()
        if self._server is not None:
            self._server.kill()

    def reap(self) -> None:
        """See Application."""
        if self._server is not None:
            server, self._server = self._server, None
            server.wait_gone()
        if self._clients is not None:
            clients, self._clients = self._clients, None
            clients.reap()

    def judge(self, mount: Path, survival: Survival) -> None:
        """See Application."""
        self._server = self._start_server(mount)
        try:
            there = found(client("postgres_client", "check", str(self._server.socket)))
        finally:
            server, self._server = self._server, None
            server.stop()
        self.ledger.judge(there)


class Raw(Serverless):
    """Files without a database; they are judged exactly."""

    def __init__(self) -> None:
        self.ledger = Ledger(1)
        self._base: Tree = {}
        self._first = 1

    def create(self, directory: Path) -> None:
        """See Application."""
        (directory / "raw").mkdir()

    def start(self, mount: Path) -> None:
        """See Application."""
        number = str(self.ledger.acknowledged[0] + 1)
        self._clients = Clients("raw_client", str(mount / "raw"), number, ledger=self.ledger)
        self._clients.wait_ready()

    def judge(self, mount: Path, survival: Survival) -> None:
        """See Application."""
        tree = json.loads(client("raw_client", "check", str(mount / "raw")))
        now = {name: bytes.fromhex(content) for name, content in tree.items()}
        last = self.ledger.acknowledged[0]
        if survival.kept_power:
            judge_survivor(self._base, self._first, last, now, every=survival.every)
        else:
            judge_restarted(self._base, self._first, last, now)
        # One that nobody waited for may have been carried out: part of what there is now, and its number is spent.
        self._base, self._first = now, last + 2
        self.ledger.acknowledged[0] = last + 1


class Templates:
    """What is made once and copied for each case."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def postgresql(self) -> Path:
        """A cluster; made at the first call."""
        template = self._directory / "postgresql"
        if not template.exists():
            unfinished = self._directory / "postgresql.new"
            shutil.rmtree(unfinished, ignore_errors=True)
            make_template(unfinished)
            unfinished.rename(template)
        return template


def application(case: Case, templates: Templates, scratch: Path) -> Application:
    """The application of the case; ``scratch`` is a directory for its sockets and logs."""
    match case.application:
        case "sqlite-wal":
            return Database("sqlite_client", "WAL")
        case "sqlite-rollback":
            # SQLite removes the journal without a flush of its directory (that is synchronous=EXTRA): a commit with
            # journal_mode=DELETE that was the last before its node lost power may be rolled back, with any file system.
            return Database(
                "sqlite_client", case.journal_mode, forgiven=1 if case.journal_mode == "DELETE" else 0
            )
        case "postgresql":
            return PostgreSQL(templates.postgresql(), scratch)
        case "lmdb":
            return Database("lmdb_client")
        case "raw":
            return Raw()
    raise ValueError(f"no application {case.application!r}")
