"""The lab's client, outside both nodes: sends numbered records to the virtual IP, logs attempts and answers.

Started as ``python3 ledger_client.py ADDRESS PORT CLIENTS SEED HISTORY``; runs until SIGTERM. Each of CLIENTS
concurrent clients sends one request after the other; after an error or two seconds of silence it dials again
and goes on with its *next* number, so that each number is sent once at most. HISTORY gets a line before each
request, ``try CLIENT NUMBER OP FSYNC TIME``, and ``ack CLIENT NUMBER TIME`` after its answer; started again
with the same HISTORY, the clients go on with their next numbers.
"""

# ruff: noqa: PTH123

import asyncio
import json
import random
import signal
import sys
import time

ANSWER_TIMEOUT = 2.0
DIAL_TIMEOUT = 0.5
OPERATIONS = ("append", "append", "overwrite", "replace")


class History:
    """The log, and the last number that each client has used."""

    def __init__(self, path: str, clients: int) -> None:
        self.last = dict.fromkeys(range(clients), 0)
        with open(path) as lines:
            for line in lines:
                client, number = line.split()[1:3]
                self.last[int(client)] = max(self.last[int(client)], int(number))
        self._file = open(path, "a", buffering=1)  # noqa: SIM115

    def note(self, *words: object) -> None:
        self._file.write(" ".join(map(str, words)) + f" {time.time():.6f}\n")


async def talk(
    client: int, target: tuple[str, int], seed: int, history: "History", stop: asyncio.Event
) -> None:
    number = history.last[client]
    random_ = random.Random(f"{seed} {client} {number}")
    writer = None
    while not stop.is_set():
        try:
            async with asyncio.timeout(DIAL_TIMEOUT):
                reader, writer = await asyncio.open_connection(*target)
            while not stop.is_set():
                number += 1
                operation, fsync = random_.choice(OPERATIONS), random_.random() < 0.3
                request = {"client": client, "id": number, "op": operation, "fsync": fsync}
                history.note("try", client, number, operation, int(fsync))
                writer.write(json.dumps(request).encode() + b"\n")
                async with asyncio.timeout(ANSWER_TIMEOUT):
                    line = await reader.readline()
                answer = json.loads(line) if line else {}
                if answer.get("id") != number:
                    raise ConnectionError(answer.get("error", "closed"))
                history.note("ack", client, number)
        except (OSError, TimeoutError, ValueError):
            await asyncio.sleep(0.02)
        finally:
            if writer is not None:
                writer.transport.abort()
                writer = None


async def main() -> None:
    address, path = sys.argv[1], sys.argv[5]
    port, clients, seed = (int(text) for text in sys.argv[2:5])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    history = History(path, clients)
    await asyncio.gather(*(talk(client, (address, port), seed, history, stop) for client in range(clients)))


if __name__ == "__main__":
    asyncio.run(main())
