"""The return to the preferred node with real sidecars: after a power cut, by itself, without a lost write."""

from __future__ import annotations

from tests.lab.load import load
from tests.lab.pair import pair_of_nodes
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal


def test_after_a_power_cut_the_module_returns_by_itself() -> None:
    with pair_of_nodes(preferred_node="a", failback="Automatic", failback_after=3.0) as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            assert pair.wait_redundant() == "a"
            pair.power_cut("a")
            pair.wait_serving("b", 20)
            clients.wait_for_more(20)
            clients.check()
            clients.resume()
            pair.boot("a")
            pair.wait_serving("a", 60)
            assert pair.wait_redundant() == "a"
            clients.wait_for_more(20)
            history = clients.check()
            figure(f"return to the preferred node: longest gap {history.longest_gap():.2f} s")
            codes = [event.code for event in pair["b"].status().events]
            assert "FailingBack" in codes
            assert_trees_equal(pair)
