"""The primary's sidecar freezes or dies while its node lives: leases end what it held, nothing acknowledged is lost.

One deadline bounds everything that the old primary may still do (DESIGN.md section 5): mirrorfs' write lease, the
gate's lease on the application and the kernel's on the virtual address.
"""

from __future__ import annotations

import os
import signal
import time

from tests.lab.load import load
from tests.lab.pair import Pair, pair_of_nodes
from tests.lab.report import figure, show_timeline
from tests.lab.trees import assert_trees_equal


def holds_address(pair: Pair, name: str) -> bool:
    return f"inet {pair.vip}/" in pair.lab.run(name, "ip", "-4", "addr", "show")


def runs_application(pair: Pair, name: str) -> bool:
    for pid in pair[name].pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:  # noqa: PTH123
                command = file.read()
        except FileNotFoundError:
            continue
        # The gate carries the application's command line as its own arguments.
        if b"ledger_server.py" in command and b"gate" not in command.split(b"\0")[0]:
            return True
    return False


def wait_given_up(pair: Pair, name: str, moment: float) -> None:
    """Neither address nor application are left on the node."""
    limit = pair.config.detection_timeout
    pair.wait(f"{name} has no address left", lambda: not holds_address(pair, name), limit + 1)
    without_address = time.time() - moment
    pair.wait(f"{name} runs nothing", lambda: not runs_application(pair, name), limit + 1)
    figure(f"address gone after {without_address:.2f} s, application after {time.time() - moment:.2f} s")


def test_a_frozen_primary_loses_everything_and_yields_when_it_wakes_up() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            old = pair.wait_redundant()
            new = pair.other(old)
            sidecar = pair[old].sidecar
            assert sidecar is not None

            moment = time.time()
            os.kill(sidecar.pid, signal.SIGSTOP)
            wait_given_up(pair, old, moment)
            status = pair.wait_serving(new, 15)
            clients.wait_for_more(20)
            show_timeline("frozen sidecar", moment, status, clients.history())

            os.kill(sidecar.pid, signal.SIGCONT)
            assert pair.wait_redundant(30) == new
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)


def test_a_short_freeze_is_survived() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            primary = pair.wait_redundant()
            sidecar = pair[primary].sidecar
            assert sidecar is not None
            os.kill(sidecar.pid, signal.SIGSTOP)
            time.sleep(pair.config.detection_timeout / 4)
            os.kill(sidecar.pid, signal.SIGCONT)
            clients.wait_for_more(50)
            assert pair.wait_redundant(30) == primary
            clients.check()
            assert_trees_equal(pair)


def test_a_killed_primary_sidecar_is_succeeded_sooner_than_a_dead_node() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            old = pair.wait_redundant()
            new = pair.other(old)
            sidecar = pair[old].sidecar
            assert sidecar is not None

            moment = time.time()
            os.kill(sidecar.pid, signal.SIGKILL)
            sidecar.wait(5)
            wait_given_up(pair, old, moment)
            status = pair.wait_serving(new, 15)
            clients.wait_for_more(20)
            announced = show_timeline("killed sidecar", moment, status, clients.history())
            # The peer's kernel closed the connection: the leases have run out before the detection timeout.
            assert announced <= pair.config.detection_timeout

            pair[old].start()
            assert pair.wait_redundant(30) == new
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)


def test_a_killed_secondary_sidecar_comes_back() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            primary = pair.wait_redundant()
            sidecar = pair[pair.other(primary)].sidecar
            assert sidecar is not None
            os.kill(sidecar.pid, signal.SIGKILL)
            sidecar.wait(5)
            pair[pair.other(primary)].start()
            clients.wait_for_more(50)
            assert pair.wait_redundant(30) == primary
            clients.check()
            assert_trees_equal(pair)
