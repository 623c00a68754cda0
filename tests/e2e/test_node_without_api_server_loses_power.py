"""The other node loses power while it is the primary: the cluster sees it, and its view of the module follows."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cluster import power
from tests.cluster.deployment import HOLDER_OF_API, move_to, other
from tests.cluster.failover import cut_serving_node
from tests.cluster.rows import RowsClient
from tests.e2e.conftest import Deploy
from tests.figures import figure


@pytest.mark.timeout(600)
def test_resource_shows_the_failover(postgres: Deploy, client: Callable[[], RowsClient]) -> None:
    module = postgres()
    move_to(module, other(HOLDER_OF_API))
    rows = client()
    failover = cut_serving_node(module, rows)
    figure(str(failover))

    def shown() -> bool:
        status = module.resource_status()
        return status.get("role") == "Alone" and status.get("primary") == HOLDER_OF_API.name

    # The operator may have been on the lost node: Kubernetes calls that node lost after 50 s, and starts another one.
    module.wait("the resource shows Alone on the survivor", shown, timeout=120)
    power.restore(failover.victim)
    module.wait_in_sync()
    module.wait(
        "the resource shows Primary", lambda: module.resource_status().get("role") == "Primary", timeout=30
    )
    assert rows.judge() == []
