"""The modules that this operator keeps: one reconciler each, as long as the resource exists."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from twinhull_operator.constants import Kind
from twinhull_operator.kube import Kube
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.module import Module
from twinhull_operator.neighbours import Neighbours
from twinhull_operator.reconcile_module import ModuleReconciler
from twinhull_operator.settings import Settings
from twinhull_sidecar.api import sidecar_pb2 as pb


@dataclass
class _Kept:
    uid: str
    generation: int
    reconciler: ModuleReconciler


class Modules:
    """Starts, wakes and stops reconcilers as the resources come, change and go."""

    def __init__(self, kube: Kube, settings: Settings, term: Callable[[], int] = lambda: 1) -> None:
        """``term``: see Leadership. An operator that does not act looks, shows and passes orders on."""
        self._kube = kube
        self._settings = settings
        self._term = term
        self._allotment = asyncio.Lock()
        self._neighbours = Neighbours(kube, lambda: {namespace for _, namespace, _ in self._kept})
        self._kept: dict[tuple[Kind, str, str], _Kept] = {}

    async def observe(self, kind: Kind, namespace: str, name: str, uid: str, generation: int) -> None:
        """The resource is there, with this generation. Our own writes to its status change nothing here."""
        kept = self._kept.get((kind, namespace, name))
        if kept is not None and kept.uid != uid:
            await self.forget(kind, namespace, name)
            kept = None
        if kept is None:
            reconciler = ModuleReconciler(
                self._kube,
                self._settings,
                kind,
                namespace=namespace,
                name=name,
                allotment=self._allotment,
                neighbours=self._neighbours,
                term=self._term,
            )
            self._kept[kind, namespace, name] = _Kept(uid, generation, reconciler)
        elif kept.generation != generation:
            kept.generation = generation
            kept.reconciler.wake()

    async def forget(self, kind: Kind, namespace: str, name: str) -> None:
        """The resource is gone. Its objects go by their owner references; the data on the nodes stays."""
        kept = self._kept.pop((kind, namespace, name), None)
        if kept is not None:
            await kept.reconciler.close()
        # What it claimed (addresses, directory) is free now; another module may have waited for that.
        self.wake()

    def wake(self) -> None:
        """This operator begins or ceases to act."""
        for kept in self._kept.values():
            kept.reconciler.wake()

    def views(self) -> list[ModuleView]:
        """What is known of each module that could be read."""
        found = (kept.reconciler.view() for kept in self._kept.values())
        return [view for view in found if view is not None]

    def views_of_leader(self) -> list[ModuleView]:
        """The same, but nothing while another operator acts: of two replicas one shows a module in its metrics."""
        return self.views() if self._term() else []

    async def order(
        self,
        module: Module,
        node: str,
        action: str,
        user: str,
        identifier: str,
        *,
        discard_peer: bool = False,
    ) -> pb.OrderReply:
        """Pass an administrator's order on to a sidecar. Raises LookupError when the module is gone,
        grpc.aio.AioRpcError when the sidecar cannot be asked.
        """
        kept = self._kept[module.kind, module.namespace, module.name]
        if kept.uid != module.uid:
            raise LookupError(module.key)
        return await kept.reconciler.order(node, action, user, identifier, discard_peer=discard_peer)

    async def close(self) -> None:
        """Stop all reconcilers; the modules go on without the operator."""
        for kept in self._kept.values():
            await kept.reconciler.close()
        self._kept.clear()
        await self._kube.close()
