"""A client of PostgreSQL outside the cluster: commits numbered rows through the virtual IP, one after the other.

Started as ``python rows_client.py ADDRESS PASSWORD TABLE LOG``, runs until SIGTERM.  After an error or a second of
silence it connects anew and goes on with the *next* number, so each number is sent once at most: what the table then
holds tells lost rows from doubled ones.  LOG gets a line ``try N TIME`` before each commit and ``ack N TIME`` after its
answer; TIME is CLOCK_MONOTONIC in seconds, one clock for everything on this machine.  Started again with the same LOG
it goes on with the next number.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql

ANSWER_TIMEOUT = 1.0
CONNECT_TIMEOUT = 0.4
PAUSE = 0.005
"""Between rows: some 100 commits a second tell an interruption to the hundredth, and leave the processors to others."""

_CREATE = "CREATE TABLE IF NOT EXISTS {} (position bigserial PRIMARY KEY, number bigint NOT NULL)"
_INSERT = "INSERT INTO {} (number) VALUES (%s)"


async def commit_rows(address: str, password: str, table: str, log: Path, stop: asyncio.Event) -> None:
    """Commits rows until ``stop`` is set."""
    number = last_number(log)
    create, insert = (sql.SQL(text).format(sql.Identifier(table)) for text in (_CREATE, _INSERT))
    with log.open("a", buffering=1) as lines:
        while not stop.is_set():
            connection = None
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    connection = await psycopg.AsyncConnection.connect(
                        host=address, user="postgres", password=password, dbname="postgres", autocommit=True
                    )
                await answered(connection.execute(create))
                while not stop.is_set():
                    number += 1
                    lines.write(f"try {number} {time.monotonic():.6f}\n")
                    await answered(connection.execute(insert, (number,)))
                    lines.write(f"ack {number} {time.monotonic():.6f}\n")
                    await asyncio.sleep(PAUSE)
            except (TimeoutError, OSError, psycopg.Error) as failure:
                lines.write(f"err {type(failure).__name__} {time.monotonic():.6f}\n")
                await asyncio.sleep(0.02)
            finally:
                if connection is not None:
                    # Not `close()`: it would wait for a server that may have no power.
                    connection.pgconn.finish()


async def answered(request: Coroutine[Any, Any, object]) -> None:
    """Awaits an answer of the server.

    Not by ``asyncio.timeout``: psycopg answers its cancellation with a cancel request to the server that is silent.

    Raises:
        TimeoutError: no answer within a second; the connection is of no more use.
    """
    task = asyncio.ensure_future(request)
    done, _ = await asyncio.wait({task}, timeout=ANSWER_TIMEOUT)
    if not done:
        _abandoned.add(task)
        task.add_done_callback(_forget)
        raise TimeoutError
    await task


_abandoned: set[asyncio.Future[object]] = set()


def _forget(task: asyncio.Future[object]) -> None:
    _abandoned.discard(task)
    if not task.cancelled():
        task.exception()


def last_number(log: Path) -> int:
    """The last number that was ever sent."""
    if not log.exists():
        return 0
    tries = [line.split()[1] for line in log.read_text().splitlines() if line.startswith("try ")]
    return int(tries[-1]) if tries else 0


async def main() -> None:
    """Parses the command line and runs until SIGTERM."""
    # It warns about connections that broke, which is what this client is for.
    logging.getLogger("psycopg").setLevel(logging.ERROR)
    address, password, table, log = sys.argv[1:5]
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    await commit_rows(address, password, table, Path(log), stop)


if __name__ == "__main__":
    asyncio.run(main())
