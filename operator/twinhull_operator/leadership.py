"""Takes part in the election of the operator that acts: the task and its requests around :mod:`.election`."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from twinhull_operator.election import HOLD, RETRY, Sighting, judge, render_claim
from twinhull_operator.kube import LEASES, ApiError, Kube
from twinhull_operator.module import Object
from twinhull_operator.settings import Election
from twinhull_operator.times import rfc3339_micro

log = logging.getLogger(__name__)

_DEADLINE = 3.0
"""Seconds for one step: one may fail before the right to act is lost."""


class Leadership:
    """``holds`` is asked before each effect.

    ``kube`` is its own connection, which it closes: what waits for the right to act must not delay the renewal of it.
    """

    def __init__(
        self,
        kube: Kube,
        election: Election,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._kube = kube
        self._election = election
        self._on_change: Callable[[], None] = lambda: None
        self._clock = clock
        self._wall = wall
        self._until = float("-inf")
        self._term = 0
        self._seen: Sighting | None = None
        self._held = False
        self._task: asyncio.Task[None] | None = None

    def holds(self) -> bool:
        """Whether this operator may act at this moment."""
        return self._clock() < self._until

    def term(self) -> int:
        """A number for each time without a break in which this operator acts; 0 while it may not."""
        return self._term if self.holds() else 0

    def start(self, on_change: Callable[[], None]) -> None:
        """Take part. ``on_change`` is called when this operator begins or ceases to act."""
        self._on_change = on_change
        self._task = asyncio.create_task(self._run(), name="leadership")

    async def close(self) -> None:
        """Give the Lease back, so that the other need not wait for its end."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        if self.holds():
            self._until = float("-inf")
            await self._release()
        await self._kube.close()

    async def _run(self) -> None:
        while True:
            await self.step()
            await asyncio.sleep(RETRY)

    async def step(self) -> None:
        """Look at the Lease once, and claim or renew it if that may be."""
        begun = self._clock()
        try:
            async with asyncio.timeout(_DEADLINE):
                if await self._claim():
                    self._term += not self.holds()
                    self._until = begun + HOLD
        except (ApiError, TimeoutError) as error:
            log.warning("the Lease %s: %s", self._election, error or "no answer in time")
        except Exception:
            # A defect here must not end the election: the other operator may be gone.
            log.exception("the Lease %s: unexpected error", self._election)
        self._tell()

    async def _claim(self) -> bool:
        """Whether the Lease is ours after this. Raises ApiError."""
        namespace, name, me = self._election.namespace, self._election.name, self._election.identity
        lease = await self._kube.get(LEASES, namespace, name)
        verdict = judge(lease, me, self._seen, self._clock())
        self._seen = verdict.sighting
        if verdict.action == "wait":
            if self._held:
                # Somebody else has it, whatever our own clock says.
                self._until = float("-inf")
            return False
        spec = render_claim(lease, me, rfc3339_micro(self._wall()))
        if lease is None:
            return await self._kube.create(LEASES, _new(namespace, name, spec))
        return await self._replace(lease, spec)

    async def _replace(self, lease: Object, spec: Object) -> bool:
        metadata = {"resourceVersion": lease["metadata"]["resourceVersion"]}
        patch = {"metadata": metadata, "spec": spec}
        try:
            await self._kube.merge(LEASES, self._election.namespace, self._election.name, patch)
        except ApiError as error:
            if error.status == 409:
                # Another one was faster.
                return False
            raise
        return True

    async def _release(self) -> None:
        me = self._election.identity
        try:
            async with asyncio.timeout(_DEADLINE):
                lease = await self._kube.get(LEASES, self._election.namespace, self._election.name)
                if lease is not None and (lease.get("spec") or {}).get("holderIdentity") == me:
                    await self._replace(lease, {"holderIdentity": None})
        except (ApiError, TimeoutError) as error:
            log.warning("the Lease %s is not given back: %s", self._election, error or "no answer in time")

    def _tell(self) -> None:
        holds = self.holds()
        if holds == self._held:
            return
        self._held = holds
        if holds:
            log.info("%s acts from now on (Lease %s)", self._election.identity, self._election)
        else:
            log.warning("%s acts no more (Lease %s)", self._election.identity, self._election)
        self._on_change()


def _new(namespace: str, name: str, spec: Object) -> Object:
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }
