"""Lets the kernel follow a farm's decisions: one change at a time beside the loop, which goes on deciding.

Making the tables takes longer than a turn may; the application's lease is renewed meanwhile.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from twinhull_sidecar.farm import NOTHING, FarmSettings, Wanted
from twinhull_sidecar.vip import AddressState
from twinhull_sidecar.vip.placement import Problem

log = logging.getLogger(__name__)


class Holder(Protocol):
    """What is needed of :class:`~twinhull_sidecar.farm.FarmHolder`."""

    announced_at: float | None

    @property
    def capable(self) -> bool: ...
    @property
    def lan(self) -> bool: ...
    def macs(self) -> dict[str, str]: ...
    def pods(self) -> dict[str, str]: ...
    def held(self) -> bool: ...
    def states(self) -> list[AddressState]: ...
    def renew(self, until: float) -> None: ...
    async def check(self) -> list[Problem]: ...
    async def apply(self, wanted: Wanted) -> None: ...
    async def withdraw(self) -> None: ...
    async def close(self) -> None: ...


class Driver:
    """Drives the holder that ``make`` makes; ``on_end`` is called when a change has been carried out.

    ``retry``: seconds between attempts at what the kernel refuses.
    """

    def __init__(
        self,
        settings: FarmSettings,
        make: Callable[[FarmSettings], Holder],
        now: Callable[[], float],
        on_end: Callable[[], None],
        retry: float,
    ) -> None:
        self._make = make
        self._now = now
        self._on_end = on_end
        self._retry = retry
        self._lease = settings.lease
        self.settings = settings
        self.holder = make(settings)
        #: Why the last change could not be carried out; empty: it was.
        self.trouble = ""
        self._applied = NOTHING
        self._attempted_at: float | None = None
        self._stale = False
        self._began: float | None = None
        self._task: asyncio.Task[None] | None = None
        self._rebuilding = False

    @property
    def busy(self) -> bool:
        """Whether a change is being carried out."""
        return self._task is not None or self._rebuilding

    def holding(self) -> bool:
        """Whether what was decided is in force, or was given to the kernel less than a lease ago."""
        if self.holder.held():
            return True
        return self._began is not None and self._now() - self._began < self._lease

    def want(self, wanted: Wanted) -> bool:
        """Let ``wanted`` be in force, and say whether it is. What the peer said last stays true meanwhile."""
        if self.busy:
            return False
        if not wanted.peer_macs and not wanted.peer_pods:
            wanted = replace(wanted, peer_macs=self._applied.peer_macs, peer_pods=self._applied.peer_pods)
        active = wanted.hold or wanted.way is not None
        if wanted == self._applied and not self._stale and not (active and not self.holder.held()):
            return True
        if self.trouble and self._attempted_at is not None and self._now() - self._attempted_at < self._retry:
            return False
        self._began = self._now()
        self._task = asyncio.create_task(self._carry_out(wanted))
        return False

    def renew(self, until: float) -> None:
        """Prolong what is in force; see FarmHolder."""
        if not self.busy:
            self.holder.renew(until)

    def again(self) -> None:
        """The network has changed: carry out anew what is wanted."""
        self._stale = True

    async def rebuild(self, settings: FarmSettings) -> list[Problem]:
        """Go on with other addresses; what is wrong with them. What is held is withdrawn for a moment."""
        self._rebuilding = True
        try:
            await self.settle()
            await self.holder.close()
            self.settings = settings
            self.holder = self._make(settings)
            self._applied = NOTHING
            return await self.holder.check()
        finally:
            self._rebuilding = False

    async def settle(self) -> None:
        """Wait for the change under way."""
        if self._task is not None:
            await asyncio.wait({self._task})

    async def close(self) -> None:
        """Withdraw and remove everything."""
        await self.settle()
        await self.holder.close()

    async def _carry_out(self, wanted: Wanted) -> None:
        self._attempted_at, self._stale = self._now(), False
        try:
            await self.holder.apply(wanted)
        except Exception as error:
            # Whatever it was, the next turn sees that nothing is held.
            trouble = str(error) or type(error).__name__
            if trouble != self.trouble:
                log.warning("the farm's addresses cannot be held: %s", trouble)
            self.trouble = trouble
        else:
            self.trouble = ""
        self._applied = wanted
        self._began = None
        self._task = None
        self._on_end()
