"""A held failover with real sidecars: nobody takes over unasked, over a restart too; an administrator can."""

from __future__ import annotations

from tests.lab.load import load
from tests.lab.pair import pair_of_nodes


def test_a_held_failover_waits_for_an_administrator_and_loses_nothing() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            primary = pair.wait_redundant()
            secondary = pair.other(primary)
            waited = pair[primary].status().replication_latency
            assert sum(waited.counts) > 0
            assert waited.sum_microseconds > 0
            held = pair[secondary].ctl("hold")
            assert held.returncode == 0, held.stderr
            nodes = pair.nodes.values()
            pair.wait("both know", lambda: all(node.status().failover_held for node in nodes) or None, 10)
            assert "held by order" in pair[primary].ctl("status").stdout
            # Kept over a restart of a sidecar.
            pair[secondary].kill_everything()
            pair[secondary].start()
            assert pair.wait_redundant() == primary
            assert pair[secondary].status().failover_held

            pair.power_cut(primary)
            survivor = pair[secondary]
            # On a busy machine it may first miss the window in which the other one surely has not gone on alone.
            pair.wait(
                "it says why it waits", lambda: survivor.status().reason_code == "FailoverHeld" or None, 30
            )
            waiting = survivor.status()
            assert (waiting.role, waiting.failover_held) == ("Waiting", True)

            # The other one may have served alone while failover was held: only an administrator knows better.
            forced = pair[secondary].ctl("force-primary", "--yes")
            assert forced.returncode == 0, forced.stdout + forced.stderr
            pair.wait_serving(secondary, 30)
            clients.wait_for_more(20)
            clients.check()
            assert pair[secondary].status().failover_held
            resumed = pair[secondary].ctl("resume")
            assert resumed.returncode == 0, resumed.stderr
            wanted = pair[secondary]
            pair.wait("resumed", lambda: not wanted.status().failover_held or None, 10)
