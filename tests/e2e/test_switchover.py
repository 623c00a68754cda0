"""The plugin on the cluster: a switchover that the client sees as a short pause, a flipped bit that is repaired."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from tests.cluster import kind
from tests.cluster.command import environment, run
from tests.cluster.deployment import Module, other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import KUBECONFIG, REPOSITORY, Node
from tests.e2e.conftest import Deploy
from tests.figures import figure

PLUGIN = REPOSITORY / "operator/twinhull_operator/plugin/kubectl-twinhull"
LONGEST_INTERRUPTION = 5.0
BLOCK = 4096
FLIPPED = 5 * BLOCK + 77


def twinhull(*arguments: str) -> subprocess.CompletedProcess[str]:
    """``kubectl twinhull`` with these arguments."""
    return subprocess.run(
        [sys.executable, PLUGIN, *arguments],
        env=environment() | {"KUBECONFIG": str(KUBECONFIG)},
        capture_output=True,
        text=True,
        check=False,
    )


def flip_a_bit(module: Module, serving: Node) -> str:
    """In a file on the other node's disk, behind the mount; its path below the volume."""
    pods = kind.kubectl(
        "get", "pods", f"--selector=twinhull.dev/module={module.name}",
        f"--field-selector=spec.nodeName={serving.name}", "-o", "name",
    ).split()  # fmt: skip
    path = f"{module.directory}/volumes/data/zeros"
    kind.kubectl(
        "exec", pods[0], "-c", "postgres", "--", "dd", "if=/dev/zero",
        "of=/var/lib/postgresql/data/zeros", "bs=64k", "count=4", "conv=fsync",
    )  # fmt: skip
    # A failing disk leaves the file's times alone.
    flip = f"printf '\\001' | dd of={path} bs=1 seek={FLIPPED} conv=notrunc"
    script = f"set -e; touch -r {path} /run/times; {flip}; touch -r /run/times {path}; rm /run/times"
    run("podman", "exec", other(serving).name, "sh", "-c", script)
    return "zeros"


@pytest.mark.timeout(600)
def test_switchover_and_repair_by_the_kubectl_plugin(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    module = postgres()
    rows = client()
    before = module.wait_in_sync()
    begin = time.monotonic()
    ordered = twinhull("switchover", module.name)
    assert ordered.returncode == 0, ordered.stdout + ordered.stderr
    assert module.wait_in_sync() == other(before)
    rows.wait_for_commit(time.monotonic())
    interruption = rows.rows().longest_gap(begin)
    figure(f"kubectl twinhull switchover: interruption seen by the client: {interruption:.2f} s")
    assert interruption < LONGEST_INTERRUPTION

    path = flip_a_bit(module, other(before))
    found = twinhull("verify", module.name)
    assert found.returncode == 1, found.stdout + found.stderr
    block = FLIPPED // BLOCK * BLOCK
    assert f"data/{path}: content at byte {block}, {BLOCK} bytes" in found.stderr
    module.wait(
        "the resource tells of it", lambda: module.resource_status().get("verify") == "Differences: 1"
    )
    begin = time.monotonic()
    repaired = twinhull("verify", module.name, "--repair")
    assert repaired.returncode == 0, repaired.stdout + repaired.stderr
    assert "1 differences, all repaired" in repaired.stdout
    figure(f"kubectl twinhull verify --repair of the example: {time.monotonic() - begin:.1f} s")
    again = twinhull("verify", module.name)
    assert again.returncode == 0, again.stdout + again.stderr
    module.wait("the resource tells of it", lambda: "lastVerifyTime" in module.resource_status())
    assert rows.judge() == []
