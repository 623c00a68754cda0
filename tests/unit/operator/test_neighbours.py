"""One look at the cluster for all reconcilers that want one."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.unit.operator.samples import NODES as SAMPLES
from tests.unit.operator.samples import resource
from twinhull_operator.kube import MODULES, NODES, PODS, Resource
from twinhull_operator.neighbours import Neighbours


class Cluster:
    """Counts what it is asked; each answer takes a moment."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str | None]] = []

    async def list(self, kind: Resource, namespace: str | None = None, *_: Any) -> list[dict[str, Any]]:
        """See kube.Kube."""
        self.asked.append((kind.plural, namespace))
        await asyncio.sleep(0.01)
        if kind is MODULES["MirrorModule"]:
            return [resource(), {**resource("broken", "other"), "spec": {}}]
        if kind is PODS:
            labels = {"twinhull.dev/module": "postgres"}
            return [{"metadata": {"name": "p", "uid": "u", "labels": labels}, "spec": {"nodeName": "node-a"}}]
        return list(SAMPLES.values()) if kind is NODES else []


def neighbours(clock: list[float]) -> tuple[Neighbours, Cluster]:
    """Of an operator that keeps modules in two namespaces."""
    cluster = Cluster()
    return Neighbours(cluster, lambda: {"db", "web"}, lambda: clock[0]), cluster  # type: ignore[arg-type]


async def test_two_hundred_that_look_at_once_share_one_look() -> None:
    around, cluster = neighbours([5.0])
    looks = await asyncio.gather(*(around.look(0.0) for _ in range(200)))
    assert len({id(look) for look in looks}) == 1
    assert sorted(cluster.asked) == [
        *(("farmmodules", None), ("mirrormodules", None), ("nodes", None)),
        *(("pods", "db"), ("pods", "web")),
    ]
    (look,) = {id(look): look for look in looks}.values()
    assert set(look.nodes) == set(SAMPLES)
    assert [module.key for module in look.modules.values()] == ["db/postgres"]
    assert len(look.resources) == 2
    assert [pod.node for pod in look.pods["db", "postgres"]] == ["node-a"]


async def test_an_older_look_will_do_until_it_is_too_old_or_something_changed() -> None:
    clock = [100.0]
    around, cluster = neighbours(clock)
    first = await around.look(20.0)
    clock[0] = 119.0
    assert await around.look(20.0) is first
    # After a change only a look that begins now tells the truth.
    assert await around.look(0.0) is not first
    clock[0] = 140.0
    await around.look(20.0)
    assert [plural for plural, _ in cluster.asked].count("nodes") == 3
