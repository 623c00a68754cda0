"""A change of the template: secondary first, one switchover, then the former primary; the client sees one pause."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise

import pytest

from tests.cluster import kind, power
from tests.cluster.command import CommandError
from tests.cluster.deployment import HOLDER_OF_API, Module, move_to, other
from tests.cluster.rows import RowsClient
from tests.cluster.topology import Node
from tests.e2e.conftest import Deploy
from tests.figures import figure

LONGEST_INTERRUPTION = 10.0


def change_template(module: Module, value: str) -> None:
    """Another environment variable of PostgreSQL's container: every pod has to be made anew."""
    entry = {"name": "ROLLED", "value": value}
    patch = [{"op": "add", "path": "/spec/template/spec/containers/0/env/-", "value": entry}]
    kind.kubectl("patch", "mirrormodule", module.name, "--type=json", "-p", json.dumps(patch))


def rollout(module: Module) -> tuple[str, str]:
    """Status and message of the condition UpToDate, of the specification as it is; empty before that."""
    shown = json.loads(kind.kubectl("get", "mirrormodule", module.name, "-o", "json"))
    status = shown.get("status", {})
    if status.get("observedGeneration") != shown["metadata"]["generation"]:
        return "", ""
    found = next(c for c in status["conditions"] if c["type"] == "UpToDate")
    return found["status"], found["message"]


def has_variable(node: Node, module: Module, value: str) -> bool:
    """Whether the module's pod on this node was made with it."""
    pods = json.loads(
        kind.kubectl("get", "pods", f"--selector=twinhull.dev/module={module.name}", "-o", "json")
    )
    for pod in pods["items"]:
        if pod["spec"].get("nodeName") == node.name:
            env = pod["spec"]["containers"][0]["env"]
            return {"name": "ROLLED", "value": value} in env
    return False


@pytest.mark.timeout(900)
def test_the_client_of_a_rolling_change_sees_one_switchover(
    postgres: Deploy, client: Callable[[], RowsClient]
) -> None:
    module = postgres()
    rows = client()
    before = module.wait_in_sync()
    begin = time.monotonic()
    change_template(module, "first")
    served = [before]

    def rolled() -> bool:
        now = module.serving_node()
        if now is not None and now != served[-1]:
            served.append(now)
        return rollout(module)[0] == "True"

    module.wait("all pods run the changed template", rolled, 300)
    assert module.wait_in_sync() == other(before)
    assert served == [before, other(before)]
    assert all(has_variable(node, module, "first") for node in served)
    rows.wait_for_commit(time.monotonic())
    times = sorted(at for at in rows.rows().acknowledged.values() if at >= begin)
    gaps = sorted((later - earlier for earlier, later in pairwise(times)), reverse=True)
    figure(
        f"rolling change of a template: {time.monotonic() - begin:.0f} s in all; the client's longest pauses "
        + ", ".join(f"{gap:.2f} s" for gap in gaps[:3])
    )
    assert gaps[0] < LONGEST_INTERRUPTION
    assert rows.judge() == []


@pytest.mark.timeout(900)
def test_nothing_is_rolled_while_the_other_node_is_down_unless_told(postgres: Deploy) -> None:
    module = postgres()
    move_to(module, HOLDER_OF_API)
    power.cut(other(HOLDER_OF_API))
    module.wait("alone", lambda: module.status(HOLDER_OF_API)["role"] == "Alone", 60)
    change_template(module, "second")

    def refused() -> bool:
        try:
            status, message = rollout(module)
        except CommandError:
            return False
        return status == "False" and "waits until both sidecars answer" in message

    # The operator may have been on the node that is gone.
    module.wait("the rollout waits", refused, 120)
    generation = json.loads(kind.kubectl("get", "mirrormodule", module.name, "-o", "json"))["metadata"][
        "generation"
    ]
    assert not has_variable(HOLDER_OF_API, module, "second")
    kind.kubectl("annotate", "mirrormodule", module.name, f"twinhull.dev/roll-unprotected={generation}")

    def serves_changed() -> bool:
        state = module.status(HOLDER_OF_API)
        ready = state["role"] == "Alone" and bool(state["application"]["ready"])
        return ready and has_variable(HOLDER_OF_API, module, "second")

    module.wait("replaced in place, serving alone", serves_changed, 180)
