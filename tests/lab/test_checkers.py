"""A mirror's checkers: restart, then the other node, then Waiting with the reason; never back and forth."""

from __future__ import annotations

import time
from dataclasses import replace

from tests.lab.pair import Pair, pair_of_nodes
from twinhull_sidecar.config import Watch


def sick(pair: Pair, node: str) -> None:
    """From now on the check fails on ``node``: it has the mark wherever it looks."""
    (pair.directory / f"sick-{node}").touch()


def checked(pair: Pair) -> None:
    """Each node's check looks for its own mark."""
    application = replace(pair.config.application, max_restarts=1, stop_grace=1.0)
    pair.config = replace(pair.config, application=application)
    for name, node in pair.nodes.items():
        mark = pair.directory / f"sick-{name}"
        command = ("sh", "-c", f"test ! -e {mark} || {{ echo sick; false; }}")
        watch = Watch("health", "exec", 2, "Restart", interval=0.2, timeout=5.0, startup=0.0, command=command)
        node.use(replace(pair.config, checkers=(watch,)))


def test_an_application_that_fails_its_check_is_restarted_then_moved_then_stopped_with_the_reason() -> None:
    with pair_of_nodes() as pair:
        checked(pair)
        pair.start()
        first = pair.wait_redundant()
        second = pair.other(first)

        sick(pair, first)
        pair.wait_serving(second, 60)
        codes = [event.code for event in pair[first].status().events]
        assert (
            codes.index("CheckerFails") < codes.index("ApplicationRestarting") < codes.index("CheckerFailed")
        )
        assert pair.wait_redundant() == second

        sick(pair, second)
        for name in (first, second):
            status = pair.wait_role(name, "Waiting", 60)
            assert status.reason_code == "ApplicationFailedOnBoth", status.reason
        told = [event.message for event in pair[second].status().events if "here last" in event.message]
        assert any("checker health failed (sh ended with code 1: sick)" in text for text in told), told
        # It stays so.
        time.sleep(3 * pair.config.detection_timeout)
        assert [pair[name].role() for name in (first, second)] == ["Waiting", "Waiting"]

        for mark in pair.directory.glob("sick-*"):
            mark.unlink()
        assert pair[second].ctl("start").returncode == 0
        pair.wait_redundant(60)


def test_a_node_without_its_network_is_left_for_the_other() -> None:
    with pair_of_nodes() as pair:
        cable = Watch("cable", "interface", 2, "Failover", interval=0.2, interface=pair.lab.interface("lan"))
        pair.config = replace(pair.config, checkers=(cable,))
        pair.start()
        first = pair.wait_redundant()
        # Heartbeats and replication go on over the other link.
        pair.lab.unplug("lan", first)
        status = pair.wait_serving(pair.other(first), 60)
        assert status.last_failover.code == "HandedOver"
        problems = pair[first].status().problems
        assert [problem.message for problem in problems if problem.field == "checkers[0]"] == [
            f"cable fails: {cable.interface} is down or has no carrier"
        ]
