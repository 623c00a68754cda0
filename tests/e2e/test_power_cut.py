"""The main job: the node with the primary and the API server loses power; PostgreSQL goes on, nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cluster import data, power
from tests.cluster.deployment import HOLDER_OF_API, move_to, other
from tests.cluster.failover import cut_serving_node
from tests.cluster.rows import RowsClient
from tests.e2e.conftest import Deploy
from tests.figures import figure

DETECTION_TIMEOUT = 3.0
CUTS = 5


@pytest.mark.timeout(1200)
def test_node_with_primary_and_api_server_loses_power(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    module = postgres()
    rows = client()
    for _ in range(CUTS):
        move_to(module, HOLDER_OF_API)
        failover = cut_serving_node(module, rows)
        figure(str(failover))

        # The virtual IP is announced at most half a second after the detection timeout.
        assert failover.victim == HOLDER_OF_API
        assert failover.vip_announced <= DETECTION_TIMEOUT + 0.5, failover
        assert module.status(other(HOLDER_OF_API))["role"] == "Alone"
        rows.stop()
        assert rows.judge() == []

        # The node returns under commits, resynchronises, and both copies are equal.
        rows.start()
        power.restore(HOLDER_OF_API)
        assert module.wait_in_sync() == other(HOLDER_OF_API)
        rows.wait_for_commit(time.monotonic())
        rows.stop()
        assert data.differences(module, "data") == []
        rows.start()
    assert rows.judge() == []
