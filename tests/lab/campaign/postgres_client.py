"""Two clients of PostgreSQL: ``python -m tests.lab.campaign.postgres_client write|check SOCKET_DIRECTORY NEXT NEXT``.

Each transaction adds a row to the client's table and to a total that both share.
"""

from __future__ import annotations

import sys
import threading
import time

import psycopg

from tests.lab.campaign.client import acknowledge, found, payload, ready, stopped

CLIENTS = 2
CREATE = """
CREATE EXTENSION amcheck;
CREATE TABLE entry (client int, number bigint, payload bytea, touched bigint, PRIMARY KEY (client, number));
CREATE INDEX touched ON entry (touched);
CREATE TABLE total (value bigint);
INSERT INTO total VALUES (0);
"""
DAMAGE = """
SELECT r.relname, (verify_heapam(c.oid)).msg FROM pg_class c JOIN pg_class r ON r.oid = c.oid
WHERE c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p'
"""
INDEXES = """
SELECT bt_index_parent_check(i.indexrelid, true) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
JOIN pg_am m ON m.oid = c.relam WHERE m.amname = 'btree' AND i.indisvalid AND i.indisready
"""


def connect(directory: str) -> psycopg.Connection[tuple[int, ...]]:
    """Wait until the server has recovered; it gives up when the server's process ends."""
    while True:
        try:
            return psycopg.connect(host=directory, user="postgres", dbname="postgres", autocommit=True)
        except psycopg.OperationalError:
            time.sleep(0.03)


def write(directory: str, client: int, number: int, ending: threading.Event) -> None:
    """Commit transactions from ``number`` on until told to stop."""
    with connect(directory) as connection:
        while not ending.is_set():
            with connection.transaction():
                connection.execute(
                    "INSERT INTO entry VALUES (%s, %s, %s, 0)", (client, number, payload(number, client))
                )
                connection.execute(
                    "UPDATE entry SET touched = %s WHERE client = %s AND number = %s",
                    (number, client, number * 7 % number or 1),
                )
                connection.execute("UPDATE total SET value = value + %s", (number,))
            acknowledge(client, number)
            number += 1


def check(directory: str) -> None:
    """amcheck on everything, then all rows; fails when something is damaged, missing among others, or there in part."""
    with connect(directory) as connection:
        damaged = connection.execute(DAMAGE).fetchall()
        assert not damaged, damaged
        connection.execute(INDEXES)
        last = dict.fromkeys(range(CLIENTS), 0)
        rows = connection.execute("SELECT client, number, payload FROM entry ORDER BY client, number")
        for client, number, content in rows:
            assert number == last[client] + 1, f"row {last[client] + 1} of client {client} is missing"
            assert bytes(content) == payload(number, client)
            last[client] = number
        total = connection.execute("SELECT value FROM total").fetchall()
        assert total == [(sum(number * (number + 1) // 2 for number in last.values()),)], (total, last)
    found(last)


def main() -> None:
    """See the module's documentation."""
    order, directory = sys.argv[1], sys.argv[2]
    if order == "check":
        check(directory)
        return
    ending = threading.Event()
    # Whoever finds the server gone ends the process: its exit code is looked at when that was no power cut.
    failures: list[BaseException] = []

    def client(index: int) -> None:
        try:
            write(directory, index, int(sys.argv[3 + index]), ending)
        except BaseException as error:
            failures.append(error)
            ending.set()

    connect(directory).close()
    ready()
    threads = [threading.Thread(target=client, args=(index,)) for index in range(CLIENTS)]
    for thread in threads:
        thread.start()
    while not stopped() and not ending.is_set():
        time.sleep(0.01)
    ending.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


if __name__ == "__main__":
    main()
