"""The cluster with the chart installed, once for all scenarios; a module of its own for each of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import images, kind, power
from tests.cluster.client import outside_client
from tests.cluster.deployment import Module, chart_is_installed, example, install_chart, uninstall_chart
from tests.cluster.rows import RowsClient, committing
from tests.cluster.topology import NODES, POSTGRES_IMAGE

PASSWORD = "change-me"
Deploy = Callable[..., Module]


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """Both nodes Ready, both images loaded, the operator running.

    A cluster that was there before is left there, and so is a chart that was (in the checkout's version); what was
    made here is removed.
    """
    with kind.exclusive():
        kind.configure_podman()
        there_before = kind.exists()
        try:
            kind.up()
            images.build_postgres()
            images.load(POSTGRES_IMAGE)
            installed_before = chart_is_installed()
            install_chart()
            yield
            if there_before and not installed_before:
                uninstall_chart()
        finally:
            if not there_before:
                kind.down()


@pytest.fixture
def powered(cluster: None) -> Iterator[None]:
    """Both nodes have power again after the test, however it ends."""
    yield
    for node in NODES:
        power.restore(node)
    kind.wait_ready()


@pytest.fixture
def postgres(powered: None) -> Iterator[Deploy]:
    """Deploys ``examples/postgres-mirror.yaml`` and waits until it is in sync; deletes it with its data afterwards."""
    deployed: list[tuple[Module, list[dict[str, Any]]]] = []

    def deploy(change: Callable[[dict[str, Any]], None] | None = None) -> Module:
        documents = example("postgres-mirror.yaml", change)
        module = Module.apply(documents)
        deployed.append((module, documents))
        module.wait_in_sync()
        return module

    yield deploy
    for node in NODES:
        power.restore(node)
    kind.wait_ready()
    for module, documents in deployed:
        module.delete(documents)


@pytest.fixture
def client(powered: None, tmp_path: Path) -> Iterator[Callable[[], RowsClient]]:
    """Starts a client outside the cluster that commits rows through the virtual IP until the test ends."""
    with outside_client() as namespace:
        running: list[Any] = []

        def start() -> RowsClient:
            context = committing(namespace, PASSWORD, tmp_path / "rows.log")
            running.append(context)
            client = context.__enter__()
            client.wait_for_commit(time.monotonic())
            return client

        try:
            yield start
        finally:
            for context in running:
                context.__exit__(None, None, None)
