"""Carrying a farm's decision out on this node, leased in the kernel as the mirror's addresses are.

The same rules as :mod:`twinhull_sidecar.vip.holder`: what the kernel is given ends by itself, an expired hold
is not revived, kernel calls run in a thread of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import time
from collections.abc import Callable, Collection
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TypeVar

from twinhull_sidecar.farm.effects import Kernel
from twinhull_sidecar.farm.settings import FarmSettings
from twinhull_sidecar.farm.ways import Way
from twinhull_sidecar.vip.holder import ANNOUNCE_GAP, ANNOUNCE_TIMES, REFRESH_GAP, AddressState
from twinhull_sidecar.vip.placement import Problem

log = logging.getLogger(__name__)

T = TypeVar("T")


class FarmError(OSError):
    """The addresses cannot be held; the text says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What the node is to do: the decision, and what it needs of the peer's message.

    ``peer_macs``: by virtual address; ``peer_pods``: by IP version (``"4"``, ``"6"``).
    """

    hold: bool
    announce: bool
    way: Way | None
    peer_macs: dict[str, str] = field(default_factory=dict)
    peer_pods: dict[str, str] = field(default_factory=dict)


NOTHING = Wanted(hold=False, announce=False, way=None)


class FarmHolder:
    """The addresses and rules of one farm on one node.

    ``pod_ip``: where the ports lead (several addresses: separated by commas), None when the application
    listens on the addresses themselves. The network namespace is the one that the calling thread is in.
    """

    def __init__(self, settings: FarmSettings, pod_ip: str | None) -> None:
        self._settings = settings
        self._lease = settings.lease
        self._kernel = Kernel(settings, pod_ip)
        # Threads start now, so that they are in the namespace of the caller whatever happens later.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="farm")
        self._thread.submit(int).result()
        self._slow = ThreadPoolExecutor(max_workers=1, thread_name_prefix="farm-forget")
        self._slow.submit(int).result()
        self._wanted = NOTHING
        self._active = False
        self._closed = False
        self._leased_until = 0.0
        self._renewed_at = 0.0
        self._renewal: Future[None] | None = None
        self._complaint = ""
        self._announcing: asyncio.Task[None] | None = None
        #: When the first announcement since this node began to announce went out (CLOCK_BOOTTIME).
        self.announced_at: float | None = None

    async def check(self) -> list[Problem]:
        """Compare the settings with this node's network and kernel; what is wrong, with its mend."""
        return await self._call(self._kernel.check)

    @property
    def capable(self) -> bool:
        """Whether this node can divide clients, as the last :meth:`check` found."""
        return self._kernel.capable

    @property
    def lan(self) -> bool:
        """Whether the addresses' interfaces had a carrier when last looked at."""
        return self._kernel.lan

    def macs(self) -> dict[str, str]:
        """This node's Ethernet address for each virtual address, for the message to the peer."""
        return self._kernel.macs()

    def pods(self) -> dict[str, str]:
        """Where the application listens, by IP version, for the message to the peer."""
        return self._kernel.pods()

    def held(self) -> bool:
        """Whether what was applied is in force now."""
        return self._active and _now() < self._leased_until

    async def probe(self, timeout: float, peer_macs: Collection[str]) -> list[str]:
        """The addresses that a stranger answers for within ``timeout`` seconds; the peer may. Raises OSError."""
        made = await self._call(lambda: self._kernel.probing(peer_macs))
        with contextlib.closing(made) as probe:
            await self._call(probe.open)
            claims = await probe.run(timeout)
        return [str(one.address) for one in claims if not one.probing]

    async def apply(self, wanted: Wanted) -> None:
        """Carry a decision out, for one lease from now. Raises FarmError; nothing is held then."""
        begins = wanted.announce and not (self._wanted.announce and self.held())
        if not wanted.announce:
            self._stop_announcing()
        if not wanted.hold and wanted.way is None:
            await self.withdraw()
            return
        try:
            await self._call(lambda: self._take(wanted))
        except OSError as error:
            await self.withdraw()
            raise FarmError(error.errno or errno.EIO, str(error)) from error
        if self._kernel.stale or (wanted.way is not None and not wanted.way.known_here):
            # The application that had the connections is gone; a steady stream of datagrams shall move.
            self._slow.submit(self._kernel.forget)
        if begins:
            self._stop_announcing()
            with contextlib.suppress(OSError):
                await self._call(self._kernel.announce)
            self.announced_at = _now()
            self._announcing = asyncio.create_task(self._announce_again())

    def renew(self, until: float) -> None:
        """Prolong what was applied to ``until`` (CLOCK_BOOTTIME); call it at each turn of the control loop.

        Cheap: the kernel is asked now and then, by the thread. Looks at the carrier, too.
        """
        now = _now()
        if self._closed or (self._renewal is not None and not self._renewal.done()):
            return
        if self._active and now >= self._leased_until:
            log.warning("the hold of the farm's addresses was not renewed in time and has ended")
            self._active = False
            self._stop_announcing()
            self._renewal = self._thread.submit(self._drop_quietly)
        elif now - self._renewed_at >= self._lease / 4:
            self._renewed_at = now
            self._renewal = self._thread.submit(self._prolong, until)

    async def withdraw(self) -> None:
        """End everything that is leased, now."""
        self._stop_announcing()
        self._active = False
        self._wanted = NOTHING
        await self._call(self._drop_quietly)

    def states(self) -> list[AddressState]:
        """Every configured address, for the status."""
        return self._kernel.states(self.held() and self._wanted.hold)

    async def close(self) -> None:
        """Withdraw, remove the farm's tables, end the threads. May be called twice."""
        if self._closed:
            return
        self._closed = True
        await self.withdraw()
        with contextlib.suppress(OSError):
            await self._call(self._kernel.uninstall)
        self._thread.shutdown(wait=False)
        self._slow.shutdown(wait=False)

    # --- in the thread -----------------------------------------------------------------------------------

    def _take(self, wanted: Wanted) -> None:
        began = _now()
        self._kernel.prepare(wanted.peer_macs, wanted.peer_pods)
        ready = _now()
        if ready - began >= self._lease:
            # The tables are there now; what was decided may be true no more.
            raise FarmError(errno.ETIMEDOUT, "making the tables took longer than a lease")
        if ready >= self._leased_until:
            self._leased_until = 0.0
        self._wanted = wanted
        self._active = True
        self._grant(ready + self._lease)

    def _prolong(self, until: float) -> None:
        try:
            self._kernel.look()
            if self._active and _now() < self._leased_until:
                self._grant(until)
        except OSError as error:
            if str(error) != self._complaint:
                log.warning("the farm's addresses cannot be renewed: %s", error)
            self._complaint = str(error)
        else:
            self._complaint = ""

    def _grant(self, until: float) -> None:
        wanted, expiring = self._wanted, self._leased_until
        self._kernel.lease(wanted.way, wanted.announce, wanted.hold, until - _now())
        # If this process was frozen meanwhile, the peer may have taken over.
        if _now() >= until or (expiring and _now() >= expiring):
            self._drop()
            raise FarmError(errno.ETIMEDOUT, "the lease ended while it was renewed")
        self._leased_until = until

    def _drop(self) -> None:
        self._leased_until = 0.0
        self._kernel.drop()

    def _drop_quietly(self) -> None:
        try:
            self._drop()
        except OSError as error:
            log.warning("the farm's addresses cannot be withdrawn: %s", error)

    def _announce(self) -> None:
        if self.held() and self._wanted.announce:
            self._kernel.announce()

    # --- in the event loop -------------------------------------------------------------------------------

    async def _announce_again(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(ANNOUNCE_GAP if number < ANNOUNCE_TIMES else REFRESH_GAP)
            if not self.held():
                return
            try:
                await self._call(self._announce)
            except OSError as error:
                log.warning("the farm's addresses cannot be announced: %s", error)

    def _stop_announcing(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
            self._announcing = None

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
