"""A lowered detection timeout has come to the secondary only, and the primary, with the longer leases, freezes."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import replace

from tests.lab.pair import pair_of_nodes
from tests.lab.report import figure
from tests.lab.test_dead_sidecar import runs_application

LONG, SHORT = 6.0, 0.6


def test_the_secondary_outwaits_the_frozen_primarys_leases() -> None:
    # Without an address nothing but the wait keeps the secondary back.
    with pair_of_nodes(detection_timeout=LONG, virtual_ips=()) as pair:
        pair.start()
        old = pair.wait_redundant()
        new = pair.other(old)
        follower, leader = pair[new].sidecar, pair[old].sidecar
        assert follower is not None
        assert leader is not None
        follower.terminate()
        follower.wait(10)
        pair[new].use(replace(pair.config, detection_timeout=SHORT))
        pair[new].start()
        assert pair.wait_redundant() == old
        # Heartbeats and stream go on as the shorter timeout needs.
        time.sleep(2 * LONG)
        events = [event for event in pair[new].status().events if event.code in {"PeerSilent", "PeerUnknown"}]
        assert not events, events

        moment = time.monotonic()
        os.kill(leader.pid, signal.SIGSTOP)
        ended = pair.wait("the frozen node runs nothing", lambda: not runs_application(pair, old), LONG)
        assert ended
        without = time.monotonic() - moment
        assert pair[new].status().role == "Secondary"
        pair.wait_serving(new, 2 * LONG)
        taken = time.monotonic() - moment
        figure(
            f"{LONG} s and {SHORT} s: application gone after {without:.2f} s, taken over after {taken:.2f} s"
        )
        assert without < taken <= LONG + 1.5

        os.kill(leader.pid, signal.SIGCONT)
        assert pair.wait_redundant(30) == new
