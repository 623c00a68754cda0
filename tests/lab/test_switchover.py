"""Orderly changes: switchover by an administrator on either node, and the end of a sidecar by SIGTERM."""

from __future__ import annotations

import signal

import pytest

from tests.lab.load import load
from tests.lab.pair import pair_of_nodes
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal

LONGEST_INTERRUPTION = 5.0


@pytest.mark.parametrize("ask_primary", [True, False], ids=["on the primary", "on the secondary"])
def test_a_switchover_loses_nothing_and_needs_no_resync(ask_primary: bool) -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            old = pair.wait_redundant()
            new = pair.other(old)

            done = pair[old if ask_primary else new].ctl("switchover")
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith("switchover: done")
            assert pair.wait_redundant() == new

            clients.wait_for_more(20)
            history = clients.check()
            assert_trees_equal(pair)
            figure(f"switchover: longest gap {history.longest_gap():.2f} s")
            assert history.longest_gap() < LONGEST_INTERRUPTION


def test_a_switchover_to_a_node_that_is_away_is_refused() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        primary = pair.wait_redundant()
        pair.power_cut(pair.other(primary))
        pair.wait_role(primary, "Alone", 15)
        done = pair[primary].ctl("switchover")
        assert done.returncode == 1
        assert done.stdout.startswith("switchover: failed: Cannot switch over")
        assert pair.other(primary) in done.stdout
        assert pair[primary].role() == "Alone"


def test_a_primary_that_is_told_to_end_hands_over_first() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            old = pair.wait_redundant()
            new = pair.other(old)

            sidecar = pair[old].sidecar
            assert sidecar is not None
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.wait(20) == 0
            pair.wait_serving(new, 10)
            clients.wait_for_more(20)
            history = clients.check()
            figure(f"end of the primary's sidecar: longest gap {history.longest_gap():.2f} s")
            assert history.longest_gap() < LONGEST_INTERRUPTION
            assert pair[old].pids() == []

            clients.resume()
            pair[old].start()
            assert pair.wait_redundant() == new
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)


def test_a_secondary_that_is_told_to_end_leaves_the_primary_alone_at_once() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            primary = pair.wait_redundant()
            sidecar = pair[pair.other(primary)].sidecar
            assert sidecar is not None
            sidecar.send_signal(signal.SIGTERM)
            assert sidecar.wait(20) == 0
            clients.wait_for_more(50)
            history = clients.check()
            figure(f"end of the secondary's sidecar: longest gap {history.longest_gap():.2f} s")
            # Less than the detection timeout: nothing waited for the peer to be found lost.
            assert history.longest_gap() < pair.config.detection_timeout * 0.8
            assert pair[primary].role() == "Alone"


def test_stop_and_start_on_either_node() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        primary = pair.wait_redundant()
        done = pair[pair.other(primary)].ctl("stop")
        assert done.returncode == 0, done.stderr
        pair.wait_role("a", "Stopped", 20)
        pair.wait_role("b", "Stopped", 20)
        done = pair[primary].ctl("start")
        assert done.returncode == 0, done.stderr
        pair.wait_redundant()
        assert_trees_equal(pair)
