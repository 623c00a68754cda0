"""Looks at this node's network for a farm, at the start and now and then: what is wrong with its addresses.

An address that another station of the LAN has is left out from the start, and the rest of the farm goes on.
One that is held already is kept, and the administrator is told: whoever is right, clients depend on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from twinhull_sidecar.control import farm_network
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.farm_driver import Driver
from twinhull_sidecar.control.status import Problem
from twinhull_sidecar.farm import FarmSettings
from twinhull_sidecar.vip import AddressState
from twinhull_sidecar.vip import Problem as PlacementProblem

log = logging.getLogger(__name__)

#: Seconds between looks, between probes, and between probes for an address that is left out.
LOOK, PROBE, RETRY = 5.0, 30.0, 3.0
#: A station of a LAN answers within milliseconds; three probes fit in this many seconds.
LONGEST_PROBE = 0.6


class NetworkWatch:
    """``peer_macs``: the peer's Ethernet addresses by virtual address, as far as it is heard."""

    def __init__(
        self,
        driver: Driver,
        settings: FarmSettings,
        pod_ip: str | None,
        events: EventLog,
        *,
        peer_macs: Callable[[], Mapping[str, str]],
        on_change: Callable[[], None],
    ) -> None:
        self._driver = driver
        self._whole = settings
        self._pod_ip = pod_ip
        self._events = events
        self._peer_macs = peer_macs
        self._on_change = on_change
        self._stations: dict[str, str] = {}
        self._found: list[PlacementProblem] = []
        self._left_out: frozenset[str] = frozenset()
        self._probed_at: float | None = None
        #: Whether the network was looked at; nothing may be held before.
        self.looked = False
        self.around = farm_network.Surroundings()
        self.problems: tuple[Problem, ...] = ()

    def states(self) -> tuple[AddressState, ...]:
        """Every configured address, for the status."""
        held = {one.address: one for one in self._driver.holder.states()}
        wrong = {
            self._whole.addresses[number].address: f"{one.message}; {one.mend}"
            for number, one in self._numbered()
        }
        found = []
        for virtual in self._whole.addresses:
            state = held.get(virtual.address)
            if state is None:
                state = AddressState(virtual.address, virtual.interface or "", held=False, problem="")
            problem = state.problem or wrong.get(virtual.address, "")
            found.append(AddressState(state.address, state.interface, state.held, problem))
        return tuple(found)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self._look()
            except OSError as error:
                log.warning("the node's network cannot be looked at: %s", error)
            await asyncio.sleep(RETRY if self._left_out else LOOK)

    async def _look(self) -> None:
        clock = asyncio.get_running_loop()
        driver, whole = self._driver, self._whole
        around = await asyncio.to_thread(farm_network.look, whole, self._pod_ip)
        if around != self.around or not self.looked:
            # Not each time: nft, which it asks, would keep the holder's thread from renewing.
            self._found = await driver.holder.check()
        due = self._probed_at is None or clock.time() - self._probed_at >= PROBE
        if due or self._left_out:
            self._probed_at = clock.time()
            timeout = min(whole.detection_timeout / 5, LONGEST_PROBE)
            self._stations = await farm_network.claimed(around.placements, self._peer_macs(), timeout)
        left_out = frozenset(self._stations if not self.looked else self._left_out & self._stations.keys())
        if left_out != self._left_out:
            self._left_out = left_out
            self._found = await driver.rebuild(farm_network.without(whole, left_out))
        held = {one.address for one in driver.holder.states() if one.held}
        kept = driver.settings.addresses
        problems = (
            *farm_network.numbered(self._found, kept, whole.addresses),
            *farm_network.taken(whole.addresses, self._stations, held),
        )
        if problems != self.problems or around != self.around or not self.looked:
            for problem in problems:
                if problem not in self.problems:
                    code = "KernelLacksFeature" if problem.field == "kernel" else "VirtualIPRefused"
                    self._events.warning(code, f"{problem.field}: {problem.message}; {problem.mend}")
            self.looked, self.around, self.problems = True, around, problems
            driver.again()
            self._on_change()

    def _numbered(self) -> list[tuple[int, Problem]]:
        return [
            (int(match[1]), one)
            for one in self.problems
            if (match := farm_network.NUMBERED.match(one.field)) is not None
        ]
