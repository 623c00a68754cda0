"""Holding a module's virtual addresses on this node, leased in the kernel (DESIGN.md section 5).

What the kernel is given ends by itself: an address by its valid lifetime, a map element by its timeout.
Both are renewed only while the role decision renews its lease; a sidecar that dies or freezes leaves
nothing that answers.

Kernel calls run in one thread of their own, because they may wait for the kernel's network lock for as long
as other programs hold it; the event loop never does.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import logging
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from twinhull_sidecar.config import ModuleConfig
from twinhull_sidecar.urgency import hurry
from twinhull_sidecar.vip import addresses, conntrack, forwarding, lan
from twinhull_sidecar.vip.frames import Claim
from twinhull_sidecar.vip.placement import Network, Placement, Problem, Target, place

log = logging.getLogger(__name__)

T = TypeVar("T")

#: Announcements after the first one, in seconds: the kernel of a neighbour ignores a second change of an
#: entry within one second (arp(7), locktime).
ANNOUNCE_GAP = 1.1
ANNOUNCE_TIMES = 5
#: After these, for as long as the addresses are held: neighbours that were on the other side of a partition,
#: where the peer held them, have heard none of the announcements.
REFRESH_GAP = 5.0


class VipError(OSError):
    """The addresses cannot be held; the text says why and what to do."""


@dataclass(frozen=True)
class AddressState:
    """One virtual address as the status shows it; ``problem``: why it cannot be held here, or empty."""

    address: str
    interface: str
    held: bool
    problem: str


class VipHolder:
    """The virtual addresses of one module on one node.

    ``pod_ip``: where the ports lead (several addresses: separated by commas), None when the application
    runs on the node itself. ``lease``: for how many seconds one renewal lets the node hold the addresses.
    The network namespace is the one that the calling thread is in; what an earlier life of the module left
    in it is removed by the first call.
    """

    def __init__(self, config: ModuleConfig, node: str, pod_ip: str | None, lease: float) -> None:
        self._config = config
        self._node = node
        self._pod_ip = pod_ip
        self._lease = lease
        self._lifetime = kernel_lifetime(lease, config.detection_timeout)
        self._table = forwarding.table_name(config.module)
        self._kernel = ThreadPoolExecutor(max_workers=1, thread_name_prefix="vip", initializer=hurry)
        # The thread starts now, so that it is in the namespace of the caller whatever happens later.
        self._kernel.submit(int).result()
        self._placements: list[Placement] = []
        self._problems: list[Problem] = []
        #: What the last probe was answered.
        self._claims: dict[addresses.IPAddress, Claim] = {}
        self._installed: tuple[Target, ...] | None = None
        self._active = False
        self._cleaned = False
        self._closed = False
        #: What is held in the kernel, as far as known; empty: nothing.
        self._taken: list[Placement] = []
        self._leased_until = 0.0
        self._renewed_at = 0.0
        self._renewal: Future[None] | None = None
        self._renewal_error = ""
        self._announcing: asyncio.Task[None] | None = None
        #: When the first announcement since the last :meth:`hold` went out (CLOCK_BOOTTIME).
        self.announced_at: float | None = None

    async def check(self) -> list[Problem]:
        """Compare the configured addresses with this node's network; what is wrong, with its mend."""
        return await self._call(self._check)

    async def probe(self, timeout: float) -> list[str]:
        """The addresses that another station answers for, or probes for itself, within ``timeout`` seconds.

        Raises OSError when an address cannot be probed (no interface, no carrier).
        """
        placements = await self._call(self._placed)
        with contextlib.closing(lan.Probe(placements)) as probe:
            await self._call(probe.open)
            claims = await probe.run(timeout)
        self._tell(claims)
        return [str(claim.address) for claim in claims]

    def _tell(self, claims: Sequence[Claim]) -> None:
        """Log what has changed since the last probe: it is repeated several times a second while it is answered."""
        known, self._claims = self._claims, {claim.address: claim for claim in claims}
        for address, claim in self._claims.items():
            if known.get(address) != claim:
                verb = "is probed for" if claim.probing else "is in use"
                log.warning("virtual address %s %s by %s", address, verb, claim.mac.hex(":"))
        for address in known.keys() - self._claims.keys():
            log.info("virtual address %s is not in use any more", address)

    async def hold(self) -> None:
        """Hold the addresses for one lease, forward their ports and announce them. Raises VipError."""
        self._stop_announcing()
        try:
            await self._call(self._take)
            self._active = True
            await self._call(lambda: lan.announce(self._taken))
            # What was sent to the former holder shall find its way here with the next packet.
            self._kernel.submit(_forget, self._taken)
        except OSError:
            self._active = False
            await self._call(self._drop)
            raise
        self.announced_at = _now()
        self._announcing = asyncio.create_task(self._announce_again())

    def renew(self, until: float) -> None:
        """Prolong the hold to ``until`` (CLOCK_BOOTTIME). Cheap: the kernel is asked now and then, by the thread.

        An expired hold is not revived: somebody else may have the addresses by now.
        """
        now = _now()
        if not self._active or (self._renewal is not None and not self._renewal.done()):
            return
        if now >= self._leased_until:
            self._active = False
            self._stop_announcing()
            self._renewal = self._kernel.submit(self._drop_quietly)
        elif now - self._renewed_at >= self._lease / 4:
            self._renewed_at = now
            self._renewal = self._kernel.submit(self._prolong, until)

    def held(self) -> bool:
        """Whether the addresses are this node's now."""
        return self._active and _now() < self._leased_until

    async def withdraw(self) -> None:
        """Take the addresses off this node and end the forwarding. Raises OSError."""
        self._stop_announcing()
        self._active = False
        await self._call(self._drop)

    def states(self) -> list[AddressState]:
        """Every configured address, for the status."""
        held = {str(one.address) for one in self._taken} if self.held() else set()
        interfaces = {one.field: one.interface.name for one in self._placements}
        found = []
        for number, virtual in enumerate(self._config.virtual_ips):
            prefix = f"virtual_ips[{number}]"
            problems = [
                f"{one.message}; {one.mend}" for one in self._problems if one.field.startswith(prefix)
            ]
            name = interfaces.get(f"{prefix}.address", virtual.interface or "")
            found.append(
                AddressState(virtual.address, name, virtual.address in held, problems[0] if problems else "")
            )
        return found

    async def close(self) -> None:
        """Withdraw, remove the module's table, end the thread. May be called twice."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(OSError):
            await self.withdraw()
        if self._installed is not None:
            with contextlib.suppress(OSError):
                await self._call(lambda: forwarding.uninstall(self._table))
        self._kernel.shutdown(wait=False)

    # --- in the thread -----------------------------------------------------------------------------------

    def _check(self) -> list[Problem]:
        try:
            self._place()
            problems = list(self._problems)
            problems += self._forwarding_problems()
        except OSError as error:
            mend = "run the sidecar privileged, in the node's network namespace"
            problems = [Problem("virtual_ips", f"the node's network cannot be read ({error})", mend)]
        self._problems = problems
        return problems

    def _forwarding_problems(self) -> list[Problem]:
        targets = self._targets(self._placements)
        problems = []
        if targets:
            try:
                self._install(targets)
            except OSError as error:
                mend = "install nftables 1.0 or later; the kernel needs nf_tables with NAT and maps"
                problems.append(Problem("virtual_ips", f"the forwarding table is refused: {error}", mend))
        pods = {one.target.version for one in targets if one.target != one.address}
        for version, key in ((4, "net/ipv4/ip_forward"), (6, "net/ipv6/conf/all/forwarding")):
            if version in pods and Path("/proc/sys", key).read_text().strip() == "0":
                message = f"the node does not forward IPv{version}, so the pod cannot be reached"
                problems.append(Problem("virtual_ips", message, f"sysctl -w {key.replace('/', '.')}=1"))
        return problems

    def _place(self) -> None:
        self._clean()
        virtual = {one.address for one in self._config.virtual_ips}
        # An address with an end is one that this module (or its earlier life) has put there.
        assigned = [one for one in addresses.assigned() if one.permanent or str(one.address) not in virtual]
        network = Network(addresses.interfaces(), assigned)
        self._placements, self._problems = place(self._config, self._node, self._pod_ip, network)

    def _placed(self) -> list[Placement]:
        """Every address that can be held: a wrong one does not cost the others. Raises VipError without any."""
        self._place()
        if self._problems and not self._placements:
            raise VipError(errno.EADDRNOTAVAIL, "; ".join(map(str, self._problems)))
        return self._placements

    def _clean(self) -> None:
        """Remove what an earlier life of the module left, once."""
        if self._cleaned:
            return
        virtual = {one.address for one in self._config.virtual_ips}
        for one in addresses.assigned():
            if str(one.address) in virtual and not one.permanent:
                log.info("removing %s, left by an earlier life of the module", one.address)
                addresses.remove(one.index, one.address, one.prefix)
        with contextlib.suppress(OSError):
            # Without nft there is no table; _install complains where one is needed.
            forwarding.uninstall(self._table)
        self._cleaned = True

    def _install(self, targets: tuple[Target, ...], anew: bool = False) -> None:
        if anew or self._installed != targets:
            forwarding.install(self._table, targets)
            self._installed = targets

    def _take(self) -> None:
        placements = self._placed()
        targets = self._targets(placements)
        if targets:
            self._install(targets)
        began = _now()
        if began >= self._leased_until:
            self._leased_until = 0.0
        self._taken = placements
        self._grant(began + self._lease)

    def _prolong(self, until: float) -> None:
        if _now() >= self._leased_until:
            return
        try:
            self._grant(until)
        except OSError as error:
            if str(error) != self._renewal_error:
                log.warning("the virtual addresses cannot be renewed: %s", error)
            self._renewal_error = str(error)
        else:
            self._renewal_error = ""

    def _grant(self, until: float) -> None:
        """Lease everything to ``until``; what came too late is taken back."""
        began = _now()
        expiring = self._leased_until
        targets = self._targets(self._taken)
        if targets:
            try:
                forwarding.lease(self._table, targets, until - began)
            except OSError as error:
                if error.errno != errno.ENOENT:
                    raise
                # Somebody flushed the ruleset (a firewall's restart does).
                log.warning("the table %s is gone and made anew", self._table)
                self._install(targets, anew=True)
                forwarding.lease(self._table, targets, until - began)
        for one in self._taken:
            addresses.lease(one.interface.index, one.address, one.prefix, self._lifetime)
        # If this process was frozen between the look at the clock and the kernel's doing it, the peer may
        # have taken over meanwhile.
        if _now() >= until or (expiring and _now() >= expiring):
            self._drop()
            raise VipError(errno.ETIMEDOUT, "the lease ended while it was renewed")
        self._leased_until = until

    def _drop(self) -> None:
        self._leased_until = 0.0
        errors = []
        for one in self._taken:
            try:
                addresses.remove(one.interface.index, one.address, one.prefix)
            except OSError as error:
                errors.append(error)
        targets = self._targets(self._taken)
        if targets:
            forwarding.end(self._table, targets)
        if errors:
            raise errors[0]
        # After, and apart: it walks the kernel's whole table of connections.
        self._kernel.submit(_forget, self._taken)
        self._taken = []

    def _drop_quietly(self) -> None:
        log.warning("the hold of the virtual addresses was not renewed in time and has ended")
        try:
            self._drop()
        except OSError as error:
            log.warning("the virtual addresses cannot be withdrawn: %s", error)

    def _announce(self) -> None:
        """Announce again what the kernel has at this very moment, and nothing else."""
        here = {(one.index, one.address) for one in addresses.assigned()}
        still = [one for one in self._taken if (one.interface.index, one.address) in here]
        if self.held():
            lan.announce(still)

    @staticmethod
    def _targets(placements: Sequence[Placement]) -> tuple[Target, ...]:
        return tuple(target for placement in placements for target in placement.targets)

    # --- in the event loop -------------------------------------------------------------------------------

    async def _announce_again(self) -> None:
        for number in itertools.count(1):
            await asyncio.sleep(ANNOUNCE_GAP if number < ANNOUNCE_TIMES else REFRESH_GAP)
            if not self.held():
                return
            try:
                await self._call(self._announce)
            except OSError as error:
                log.warning("the virtual addresses cannot be announced: %s", error)

    def _stop_announcing(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()
            self._announcing = None

    async def _call(self, function: Callable[[], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._kernel, function)


def kernel_lifetime(lease: float, detection_timeout: float) -> int:
    """The valid lifetime of an address, in the kernel's unit of whole seconds, for a lease of ``lease`` seconds.

    As near to the lease as can be, but over before the peer may take the address.
    """
    lifetime = max(1, round(lease))
    while lifetime > 1 and lifetime >= detection_timeout - 0.5:
        lifetime -= 1
    return lifetime


def _forget(placements: Sequence[Placement]) -> None:
    for one in placements:
        try:
            conntrack.forget(one.address)
        except OSError as error:
            # Not worth losing the address for: only a client on this node or in its pods may be slower to
            # follow.
            log.warning("the tracked connections of %s cannot be ended: %s", one.address, error)


def _now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)
