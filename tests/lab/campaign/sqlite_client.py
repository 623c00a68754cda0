"""SQLite, synchronous=FULL: ``python -m tests.lab.campaign.sqlite_client write|check DIRECTORY JOURNAL_MODE NEXT``.

Each transaction adds a row, changes an older one and a total, so that a transaction that is there in part shows.
"""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path

from tests.lab.campaign.client import acknowledge, found, payload, ready, stopped


def connect(directory: Path, journal_mode: str) -> sqlite3.Connection:
    """Open, which recovers after a cut."""
    database = sqlite3.connect(directory / "database", isolation_level=None, timeout=30)
    (mode,) = database.execute(f"PRAGMA journal_mode={journal_mode}").fetchone()
    assert mode.upper() == journal_mode, f"journal mode {mode} instead of {journal_mode}"
    database.execute("PRAGMA synchronous=FULL")
    # Checkpoints come often enough to be cut as well.
    database.execute("PRAGMA wal_autocheckpoint=40")
    return database


def create(directory: Path, journal_mode: str) -> None:
    """An empty database."""
    database = connect(directory, journal_mode)
    database.execute("CREATE TABLE entry (number INTEGER PRIMARY KEY, payload BLOB, touched INTEGER)")
    database.execute("CREATE INDEX touched ON entry (touched)")
    database.execute("CREATE TABLE total (value INTEGER)")
    database.execute("INSERT INTO total VALUES (0)")
    database.close()


def write(directory: Path, journal_mode: str, number: int) -> None:
    """Commit transactions from ``number`` on until told to stop."""
    database = connect(directory, journal_mode)
    ready()
    while not stopped():
        database.execute("BEGIN IMMEDIATE")
        database.execute("INSERT INTO entry VALUES (?, ?, 0)", (number, payload(number)))
        database.execute("UPDATE entry SET touched = ? WHERE number = ?", (number, number * 7 % number or 1))
        database.execute("UPDATE total SET value = value + ?", (number,))
        database.execute("COMMIT")
        acknowledge(0, number)
        number += 1
    database.close()


def check(directory: Path, journal_mode: str) -> None:
    """Fails when the database is damaged or a transaction is there in part."""
    database = connect(directory, journal_mode)
    answer = database.execute("PRAGMA integrity_check").fetchall()
    assert answer == [("ok",)], answer
    rows = database.execute("SELECT number, payload FROM entry ORDER BY number").fetchall()
    assert [number for number, _ in rows] == list(range(1, len(rows) + 1)), "a row is missing among others"
    assert all(content == payload(number) for number, content in rows)
    (total,) = database.execute("SELECT value FROM total").fetchone()
    assert total == len(rows) * (len(rows) + 1) // 2, f"total {total} with {len(rows)} rows"
    database.close()
    found({0: len(rows)})


def main() -> None:
    """See the module's documentation."""
    order, directory, journal_mode = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
    if order == "create":
        create(directory, journal_mode)
    elif order == "write":
        write(directory, journal_mode, int(sys.argv[4]))
    else:
        check(directory, journal_mode)


if __name__ == "__main__":
    main()
