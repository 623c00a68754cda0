"""What a farm's loop asks of this node's network beside the holder: which links run over it, who has the addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

from twinhull_sidecar.config import Farm, ModuleConfig, VirtualIP
from twinhull_sidecar.control.status import Problem
from twinhull_sidecar.farm import Affinity, FarmSettings
from twinhull_sidecar.farm.plan import find
from twinhull_sidecar.vip import addresses, lan
from twinhull_sidecar.vip.frames import Claim
from twinhull_sidecar.vip.placement import Network, Placement
from twinhull_sidecar.vip.placement import Problem as PlacementProblem

NUMBERED = re.compile(r"virtual_ips\[(\d+)\]")


@dataclass(frozen=True)
class Surroundings:
    """``placements``: where the addresses can be held; ``lan_links``: the links over the same interfaces.

    ``refusals``: how many addresses cannot be held.
    """

    placements: tuple[Placement, ...] = ()
    lan_links: tuple[str, ...] = ()
    refusals: int = 0


def settings(config: ModuleConfig, node: str) -> FarmSettings:
    """The data path's part of the configuration; ``lan_links`` are known after :func:`look` only."""
    farm = config.farm or Farm()
    return FarmSettings(
        module=config.module,
        nodes=config.nodes,
        node=node,
        addresses=config.virtual_ips,
        affinity=Affinity(farm.affinity),
        weights=farm.weights,
        detection_timeout=config.detection_timeout,
        links=config.links,
    )


def without(whole: FarmSettings, addresses_: Collection[str]) -> FarmSettings:
    """The same farm without some of its addresses."""
    return replace(whole, addresses=tuple(one for one in whole.addresses if one.address not in addresses_))


def look(whole: FarmSettings, pod_ip: str | None) -> Surroundings:
    """Look at this node's network now. Blocks; raises OSError."""
    virtual = {one.address for one in whole.addresses}
    # A virtual address with an end is one that this module has put there.
    assigned = [one for one in addresses.assigned() if one.permanent or str(one.address) not in virtual]
    network = Network(addresses.interfaces(), assigned)
    placements, problems = find(whole, pod_ip, network)
    return Surroundings(tuple(placements), lan_links(whole, placements, network), len(problems))


def lan_links(whole: FarmSettings, placements: Sequence[Placement], network: Network) -> tuple[str, ...]:
    """The links whose own address is on an interface that has a virtual address, too."""
    used = {one.interface.index for one in placements}
    own = {str(one.address) for one in network.assigned if one.index in used}
    return tuple(
        link.name for link in whole.links if str(ipaddress.ip_address(link.addresses[whole.node])) in own
    )


async def claimed(
    placements: Sequence[Placement], peer_macs: Mapping[str, str], timeout: float
) -> dict[str, str]:
    """Which addresses a station that is not the peer has, with its Ethernet address. Raises OSError."""
    asked = [one for one in placements if one.interface.carrier]
    if not asked:
        return {}

    def of_a_stranger(claim: Claim) -> bool:
        # The peer probes, too, when both nodes start.
        return not claim.probing and claim.mac.hex(":") != peer_macs.get(str(claim.address))

    probe = lan.Probe(asked, of_a_stranger)
    try:
        await asyncio.to_thread(probe.open)
        return {str(claim.address): claim.mac.hex(":") for claim in await probe.run(timeout)}
    finally:
        await asyncio.to_thread(probe.close)


def taken(virtual: Sequence[VirtualIP], stations: Mapping[str, str], held: Collection[str]) -> list[Problem]:
    """The problems of addresses that another station has."""
    found = []
    for number, one in enumerate(virtual):
        if (mac := stations.get(one.address)) is not None:
            message = f"another station on the LAN has {one.address} ({mac})"
            what = "it is held here all the same" if one.address in held else "it is tried again"
            mend = f"remove it there, or give the module another; {what}"
            found.append(Problem(f"virtual_ips[{number}].address", message, mend))
    return found


def numbered(
    found: Sequence[PlacementProblem], kept: Sequence[VirtualIP], whole: Sequence[VirtualIP]
) -> list[Problem]:
    """Problems that name an address by its place among ``kept``, with its place in the configuration."""
    places = [one.address for one in whole]

    def place(match: re.Match[str]) -> str:
        return f"virtual_ips[{places.index(kept[int(match[1])].address)}]"

    return [Problem(NUMBERED.sub(place, one.field), one.message, one.mend) for one in found]
