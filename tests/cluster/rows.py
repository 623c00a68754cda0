"""Runs the row client in the namespace outside the cluster, and judges its log against the table."""

from __future__ import annotations

import secrets
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

from tests.cluster.command import environment, run
from tests.cluster.topology import VIRTUAL_IP

_PROGRAM = Path(__file__).with_name("rows_client.py")


@dataclass(frozen=True)
class Rows:
    """What the client saw: the numbers it sent, and when (CLOCK_MONOTONIC) each was acknowledged."""

    sent: dict[int, float]
    acknowledged: dict[int, float]

    @classmethod
    def read(cls, log: Path) -> Rows:
        """Reads a log that may still be written to: an unfinished last line is left out."""
        sent: dict[int, float] = {}
        acknowledged: dict[int, float] = {}
        for line in log.read_text().split("\n")[:-1]:
            kind, what, moment = line.split()
            if kind == "try":
                sent[int(what)] = float(moment)
            elif kind == "ack":
                acknowledged[int(what)] = float(moment)
        return cls(sent, acknowledged)

    def first_commit_after(self, moment: float) -> float | None:
        """When the first row that was sent after a moment was acknowledged."""
        later = (at for number, at in self.acknowledged.items() if self.sent[number] > moment)
        return min(later, default=None)

    def longest_gap(self, begin: float = 0.0) -> float:
        """The longest time between two acknowledgements since ``begin``, in seconds."""
        times = sorted(at for at in self.acknowledged.values() if at >= begin)
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def judge(self, table: list[int]) -> list[str]:
        """What is wrong with the table's numbers (in the order of insertion); empty when nothing is.

        A row whose acknowledgement was lost may be there or not; one that was acknowledged must be, once; the order
        is that of sending.
        """
        wrong = []
        lost = sorted(set(self.acknowledged) - set(table))
        if lost:
            wrong.append(f"{len(lost)} acknowledged rows lost: {lost[:10]}")
        doubled = sorted(number for number, times in Counter(table).items() if times > 1)
        if doubled:
            wrong.append(f"{len(doubled)} rows there twice: {doubled[:10]}")
        foreign = sorted(set(table) - set(self.sent))
        if foreign:
            wrong.append(f"{len(foreign)} rows that nobody sent: {foreign[:10]}")
        if any(later < earlier for earlier, later in pairwise(table)):
            wrong.append("rows out of order")
        return wrong


class RowsClient:
    """The running client; ``stop`` and ``start`` pause it, its numbers go on."""

    def __init__(self, namespace: str, password: str, log: Path, address: IPv4Address = VIRTUAL_IP) -> None:
        # Of its own: the module may hold the rows of an earlier run.
        self._table = f"rows_{secrets.token_hex(4)}"
        program = [sys.executable, str(_PROGRAM), str(address), password, self._table, str(log)]
        self._command = ["ip", "netns", "exec", namespace, *program]
        self._namespace = namespace
        self._password = password
        self._address = address
        self._process: subprocess.Popen[bytes] | None = None
        self.log = log

    def start(self) -> None:
        """Starts to commit rows."""
        self._process = subprocess.Popen(self._command, env=environment())

    def stop(self) -> None:
        """Ends the client after the row it is at; harmless when it does not run."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(timeout=20)
            self._process = None

    def rows(self) -> Rows:
        """What it saw so far."""
        return Rows.read(self.log) if self.log.exists() else Rows({}, {})

    def wait_for_commit(self, after: float, timeout: float = 60) -> float:
        """Waits for the first acknowledged row that was sent after a moment; returns its time.

        Raises:
            TimeoutError: none came, or the client died.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            found = self.rows().first_commit_after(after)
            if found is not None:
                return found
            if self._process is None or self._process.poll() is not None:
                raise TimeoutError("the client does not run")
            time.sleep(0.05)
        raise TimeoutError(f"no row was committed through {self._address} within {timeout:.0f} s")

    def table(self) -> list[int]:
        """The numbers in the table, in the order of insertion, read through the virtual IP."""
        listed = run(
            "ip", "netns", "exec", self._namespace, "psql", f"--host={self._address}", "--username=postgres",
            "--no-align", "--tuples-only", f"--command=SELECT number FROM {self._table} ORDER BY position",
            extra={"PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": "10"}, timeout=60,
        )  # fmt: skip
        return [int(number) for number in listed.split()]

    def judge(self) -> list[str]:
        """Compares log and table; see `Rows.judge`. The client may go on meanwhile: the log is read first."""
        rows = self.rows()
        table = [number for number in self.table() if number <= max(rows.sent, default=0)]
        return rows.judge(table)


@contextmanager
def committing(
    namespace: str, password: str, log: Path, address: IPv4Address = VIRTUAL_IP
) -> Iterator[RowsClient]:
    """A client that runs for the length of the block."""
    client = RowsClient(namespace, password, log, address)
    client.start()
    try:
        yield client
    finally:
        client.stop()
