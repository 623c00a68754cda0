"""One replication engine as a process of its own: ``python -m bench.engine_node primary|alone|secondary``.

Reads EngineConfig JSON from standard input up to a line ``end``, prints ``ready`` when it serves (a primary that is
not alone: when the peer is in sync), and runs until standard input closes.
"""

from __future__ import annotations

import json
import sys
import threading
import time

from twinhull_sidecar._mirrorfs import Engine

LEASE_NS = 5_000_000_000


def _renew(engine: Engine, over: threading.Event) -> None:
    while not over.wait(0.5):
        engine.renew_lease(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + LEASE_NS)


def main() -> int:
    """Entry point; exit status 1 when the pair is not in sync within 60 s."""
    role = sys.argv[1]
    text = "".join(iter(sys.stdin.readline, "end\n"))
    engine = Engine(text)
    over = threading.Event()
    try:
        if role == "secondary":
            engine.start_secondary()
        else:
            engine.renew_lease(time.clock_gettime_ns(time.CLOCK_BOOTTIME) + LEASE_NS)
            threading.Thread(target=_renew, args=(engine, over), daemon=True).start()
            engine.initialise()
            engine.start_primary(alone=True)
            for _ in range(600):
                if role == "alone" or json.loads(engine.status())["in_sync"]:
                    break
                time.sleep(0.1)
            else:
                print(f"not in sync after 60 s: {engine.status()}", file=sys.stderr)
                return 1
        print("ready", flush=True)
        sys.stdin.read()
        print(engine.status(), file=sys.stderr)
    finally:
        over.set()
        engine.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
