"""A switchover moves PostgreSQL and its address to the other node; the client notices a short pause and no loss."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.cluster.command import environment
from tests.cluster.deployment import other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import KUBECONFIG, REPOSITORY
from tests.e2e.conftest import Deploy
from tests.figures import figure

PLUGIN = REPOSITORY / "operator/twinhull_operator/plugin/kubectl-twinhull"
LONGEST_INTERRUPTION = 5.0


@pytest.mark.timeout(600)
def test_switchover_by_the_kubectl_plugin(postgres: Deploy, client: Callable[[], RowsClient]) -> None:
    module = postgres()
    rows = client()
    before = module.wait_in_sync()
    begin = time.monotonic()
    ordered = subprocess.run(
        [sys.executable, PLUGIN, "switchover", module.name],
        env=environment() | {"KUBECONFIG": str(KUBECONFIG)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ordered.returncode == 0, ordered.stdout + ordered.stderr
    assert module.wait_in_sync() == other(before)
    rows.wait_for_commit(time.monotonic())
    interruption = rows.rows().longest_gap(begin)
    figure(f"kubectl twinhull switchover: interruption seen by the client: {interruption:.2f} s")
    assert interruption < LONGEST_INTERRUPTION
    assert rows.judge() == []
