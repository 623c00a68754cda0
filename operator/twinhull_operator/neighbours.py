"""What surrounds every module: the nodes, all modules, their pods. Read once for all reconcilers, not once for each.

With many modules the API server is asked as often as with one: reconcilers that want to look at the same time share
one look.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from twinhull_operator.constants import LABEL_MODULE, Kind
from twinhull_operator.kube import MODULES, NODES, PODS, ApiError, Kube
from twinhull_operator.module import Module, Object, read_module
from twinhull_operator.rollout import Pod, read_pod

Key = tuple[Kind, str, str]
"""Kind, namespace, name."""


@dataclass(frozen=True)
class Look:
    """One look at the cluster. ``pods`` by namespace and module's name; ``modules`` those that can be read."""

    nodes: Mapping[str, Object]
    modules: Mapping[Key, Module]
    resources: Mapping[Key, Object] = field(default_factory=dict)
    pods: Mapping[tuple[str, str], tuple[Pod, ...]] = field(default_factory=dict)


class Neighbours:
    """``namespaces``: those whose modules this operator keeps. The clock is in seconds."""

    def __init__(
        self,
        kube: Kube,
        namespaces: Callable[[], Iterable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kube = kube
        self._namespaces = namespaces
        self._clock = clock
        self._lock = asyncio.Lock()
        self._look: Look | None = None
        self._begun = 0.0

    async def look(self, max_age: float) -> Look:
        """A look that was begun at most ``max_age`` seconds before this call (0: after it). Raises ApiError."""
        oldest = self._clock() - max_age
        async with self._lock:
            if self._look is None or self._begun < oldest:
                begun = self._clock()
                self._look = await read_look(self._kube, set(self._namespaces()))
                self._begun = begun
            return self._look


async def read_look(kube: Kube, namespaces: Iterable[str]) -> Look:
    """Ask the API server. Raises ApiError."""
    nodes = {node["metadata"]["name"]: node for node in await kube.list(NODES)}
    resources: dict[Key, Object] = {}
    for kind in MODULES:
        for found in await _list_modules(kube, kind):
            metadata = found["metadata"]
            resources[kind, metadata["namespace"], metadata["name"]] = found
    pods: dict[tuple[str, str], list[Pod]] = {}
    for namespace in sorted(namespaces):
        for pod in await kube.list(PODS, namespace, LABEL_MODULE):
            name = pod["metadata"]["labels"][LABEL_MODULE]
            pods.setdefault((namespace, name), []).append(read_pod(pod))
    return Look(
        nodes=nodes,
        modules={key: module for key, found in resources.items() if (module := _try_read(found)) is not None},
        resources=resources,
        pods={key: tuple(found) for key, found in pods.items()},
    )


async def _list_modules(kube: Kube, kind: Kind) -> list[Object]:
    try:
        return await kube.list(MODULES[kind])
    except ApiError as error:
        # Helm leaves definitions alone when it upgrades: a kind may not be there yet.
        if error.status != 404:
            raise
        return []


def _try_read(resource: Object) -> Module | None:
    try:
        return read_module(resource)
    except (ValueError, KeyError):
        return None
