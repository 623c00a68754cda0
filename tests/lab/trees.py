"""Both nodes' trees must be equal once they are in sync (M3), except for the engine's own marks."""

from __future__ import annotations

import time

from tests.lab.pair import Pair
from twinhull_sidecar._mirrorfs import compare_trees


def assert_trees_equal(pair: Pair, timeout: float = 5) -> None:
    """Compare the backing directories; the load must be stopped. What is under way gets ``timeout`` s."""
    first, second = (node.backing for node in pair.nodes.values())
    deadline = time.monotonic() + timeout
    while True:
        differences = compare_trees(str(first), str(second))
        if not differences:
            return
        assert time.monotonic() < deadline, differences[:20]
        time.sleep(0.2)
