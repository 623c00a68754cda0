"""One node of a mirrorfs test: an engine in a process of its own, ordered about by JSON lines on stdin.

A line is ``{"id": n, "call": name, "args": [...]}``; the answer is ``{"id": n, "value": ...}`` or
``{"id": n, "error": text}``. Calls run in threads, so that a blocking one does not keep another waiting.
``lease`` (seconds, 0: none) says how long a lease to renew over and over, as a control loop does.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

from twinhull_sidecar._mirrorfs import Engine


def boottime_ns() -> int:
    """The clock of leases."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Node:
    """The engine and its lease."""

    def __init__(self, config: str) -> None:
        self.engine = Engine(config)
        self.lease = 0.0
        self._output = threading.Lock()
        threading.Thread(target=self._renew, daemon=True).start()

    def _renew(self) -> None:
        while True:
            if self.lease:
                self.engine.renew_lease(boottime_ns() + int(self.lease * 1e9))
            time.sleep(0.05)

    def answer(self, order: dict[str, Any]) -> None:
        """Carry out one order and write the answer."""
        reply: dict[str, Any] = {"id": order["id"]}
        try:
            if order["call"] == "lease":
                self.lease = order["args"][0]
                if self.lease:
                    self.engine.renew_lease(boottime_ns() + int(self.lease * 1e9))
                reply["value"] = None
            else:
                reply["value"] = getattr(self.engine, order["call"])(*order["args"])
        except Exception as error:
            reply["error"] = str(error)
        with self._output:
            sys.stdout.write(json.dumps(reply) + "\n")
            sys.stdout.flush()


def main() -> None:
    """Serve until stdin ends; then leave no mount behind."""
    node = Node(sys.argv[1])
    for line in sys.stdin:
        order = json.loads(line)
        threading.Thread(target=node.answer, args=(order,), daemon=True).start()
    node.engine.close()


if __name__ == "__main__":
    main()
