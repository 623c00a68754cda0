"""The network between the nodes is cut, both reach the clients, and no witness is configured (DESIGN R1, R6, R7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.cluster import data, power
from tests.cluster.deployment import Module, other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import NODES
from tests.e2e.conftest import Deploy
from tests.figures import figure


@pytest.mark.timeout(600)
def test_with_the_clients_network_whole_only_the_primary_goes_on(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    """The secondary hears nothing, but its probe of the virtual IP is answered: it waits, and says why."""
    module = postgres()
    rows = client()
    primary = module.wait_in_sync()
    secondary = other(primary)
    with power.cut_between_nodes(primary, secondary, everything=False):
        begin = time.monotonic()
        module.wait(
            "the primary goes on alone", lambda: module.status(primary)["role"] == "Alone", timeout=30
        )
        rows.wait_for_commit(begin + 10)
        _assert_stands_by(module.status(secondary))
    assert module.wait_in_sync() == primary
    rows.stop()
    assert data.differences(module, "data") == []
    assert rows.judge() == []


@pytest.mark.timeout(600)
def test_cut_off_entirely_under_wait_the_secondary_waits(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    """``withoutWitness: Wait``: whoever was the primary goes on, the other one never promotes by itself."""

    def wait_policy(document: dict[str, Any]) -> None:
        document["spec"]["failover"]["withoutWitness"] = "Wait"

    module = postgres(wait_policy)
    rows = client()
    primary = module.wait_in_sync()
    secondary = other(primary)
    with power.cut_between_nodes(primary, secondary, everything=True):
        begin = time.monotonic()
        module.wait(
            "the primary goes on alone", lambda: module.status(primary)["role"] == "Alone", timeout=30
        )
        rows.wait_for_commit(begin + 10)
        _assert_stands_by(module.status(secondary))
    assert module.wait_in_sync() == primary
    assert rows.judge() == []


@pytest.mark.timeout(600)
def test_cut_off_entirely_under_continue_both_run_and_the_split_brain_is_reported(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    """``withoutWitness: Continue``, the default: both go on alone; reunited, one serves and the other waits.

    The data of both is left as it is until an administrator says whose is kept; what only the other one has then goes
    to its quarantine folder.
    """
    module = postgres()
    rows = client()
    with power.cut_between_nodes(*NODES, everything=True):
        module.wait("both run alone", lambda: _roles(module) == ["Alone", "Alone"], timeout=60)
        rows.wait_for_commit(time.monotonic())
        # PostgreSQL writes at its start on the new primary: both have data that the other lacks.
        time.sleep(3)
    module.wait("one serves, one waits", lambda: _roles(module) == ["Alone", "Waiting"], timeout=60)
    serving = module.serving_node()
    assert serving is not None
    waiting = module.status(other(serving))
    assert waiting["reason_code"] == "SplitBrain", waiting
    figure(f"the waiting node says: {waiting['reason']}")
    module.wait(
        "the resource says so too",
        lambda: "SplitBrain" in str(module.resource_status()),
        timeout=30,
    )
    module.control(serving, "force-primary", "--discard-peer")
    assert module.wait_in_sync() == serving
    rows.stop()
    assert data.differences(module, "data") == []


def _assert_stands_by(state: dict[str, Any]) -> None:
    assert state["role"] not in {"Primary", "Alone"}, state
    assert state["reason"], state
    figure(f"the secondary says: {state['role']}: {state['reason']}")
    assert not any(address["held"] for address in state["virtual_ips"])


def _roles(module: Module) -> list[str]:
    return sorted(module.status(node)["role"] for node in NODES)
