"""With the API server frozen (not dead, so nothing notices), a switchover and a failover work all the same."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from tests.cluster import power
from tests.cluster.deployment import HOLDER_OF_API, move_to, other
from tests.cluster.failover import cut_serving_node
from tests.cluster.rows import RowsClient
from tests.e2e.conftest import Deploy
from tests.figures import figure


@pytest.mark.timeout(600)
def test_switchover_by_the_local_socket(postgres: Deploy, client: Callable[[], RowsClient]) -> None:
    module = postgres()
    move_to(module, HOLDER_OF_API)
    rows = client()
    with power.frozen_api():
        module.control(HOLDER_OF_API, "switchover")
        assert module.wait_in_sync() == other(HOLDER_OF_API)
        rows.wait_for_commit(time.monotonic())
        module.control(other(HOLDER_OF_API), "switchover")
        assert module.wait_in_sync() == HOLDER_OF_API
        rows.wait_for_commit(time.monotonic())
    assert rows.judge() == []


@pytest.mark.timeout(600)
def test_failover_of_the_node_without_the_api_server(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    module = postgres()
    move_to(module, other(HOLDER_OF_API))
    rows = client()
    with power.frozen_api():
        failover = cut_serving_node(module, rows)
        figure(str(failover))
        assert module.status(HOLDER_OF_API)["role"] == "Alone"
    power.restore(failover.victim)
    module.wait_in_sync()
    assert rows.judge() == []
