"""What the kernel of one node is to hold for a farm, before it is rendered: pure data."""

from __future__ import annotations

import hashlib
import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from twinhull_sidecar.config import Application, ModuleConfig, Ports
from twinhull_sidecar.farm.settings import FarmSettings
from twinhull_sidecar.vip.addresses import IPAddress
from twinhull_sidecar.vip.placement import Network, Placement, Problem, Target, place

PROTOCOLS = {"TCP": 6, "UDP": 17}


@dataclass(frozen=True)
class Uplink:
    """An interface that carries addresses of the farm: own and peer's Ethernet address, own IP addresses.

    ``devices``: where its packets are filtered; the ports, where it is a bridge (:mod:`.devices`).
    ``index``: another one under the same name is another interface, without our hooks.
    ``own4``, ``own6``: the source of this node's own ARP requests and neighbour solicitations, instead of a
    virtual address. ``peer_mac`` None: the peer has not told it yet.
    """

    name: str
    mac: str
    own4: str | None
    own6: str | None
    peer_mac: str | None = None
    index: int = 0
    ports: tuple[str, ...] = ()

    @property
    def devices(self) -> tuple[str, ...]:
        """See above."""
        return self.ports or (self.name,)


@dataclass(frozen=True)
class Service:
    """``address:port`` of an IP protocol is the farm's."""

    address: IPAddress
    protocol: int
    port: int
    target_port: int


@dataclass(frozen=True)
class Plan:
    """Everything that the rules depend on; what is leased is not part of it."""

    table: str
    uplinks: tuple[Uplink, ...]
    services: tuple[Service, ...]
    own_range: range
    by_port: bool
    seed: int
    pods: tuple[str, ...]
    capable: bool = True

    @property
    def marker(self) -> str:
        """The name of an empty chain that tells a later life whose connections the table knows."""
        return f"pods_{hashlib.sha256(','.join(self.pods).encode()).hexdigest()[:10]}"

    def addresses(self, version: int) -> list[str]:
        """The virtual addresses of one IP version, sorted."""
        return sorted({str(one.address) for one in self.services if one.address.version == version})


def find(
    settings: FarmSettings, pod_ip: str | None, network: Network
) -> tuple[list[Placement], list[Problem]]:
    """Where this node can hold the farm's addresses, and what is wrong with those that it cannot."""
    # The rules for an address are those of every module; only these fields of the configuration matter.
    config = ModuleConfig(
        namespace="",
        name=settings.module,
        uid="",
        nodes=settings.nodes,
        links=settings.links,
        ports=Ports(0, 0, 0),
        base_dir="",
        application=Application("process"),
        virtual_ips=settings.addresses,
    )
    return place(config, settings.node, pod_ip, network)


def services(settings: FarmSettings, placements: Sequence[Placement]) -> tuple[Service, ...]:
    """Every port of the addresses that can be held here."""
    held = {one.address for one in placements}
    found = [
        Service(ipaddress.ip_address(virtual.address), PROTOCOLS[port.protocol], port.port, port.target_port)
        for virtual in settings.addresses
        for port in virtual.ports
    ]
    return tuple(one for one in found if one.address in held)


def uplinks(
    placements: Sequence[Placement],
    network: Network,
    peer_macs: Mapping[str, str],
    ports: Mapping[str, tuple[str, ...]],
) -> tuple[Uplink, ...]:
    """The interfaces of the placements, each once. ``peer_macs``: the peer's, by virtual address."""
    found: dict[str, Uplink] = {}
    for placement in placements:
        interface = placement.interface
        known = found.get(interface.name)
        peer_mac = peer_macs.get(str(placement.address)) or (known.peer_mac if known else None)
        found[interface.name] = Uplink(
            name=interface.name,
            mac=interface.mac.hex(":"),
            own4=_own(interface.index, network, 4),
            own6=_own(interface.index, network, 6),
            peer_mac=peer_mac,
            index=interface.index,
            ports=ports.get(interface.name, ()),
        )
    return tuple(found[name] for name in sorted(found))


def plan(
    settings: FarmSettings,
    placements: Sequence[Placement],
    network: Network,
    peer_macs: Mapping[str, str],
    *,
    ports: Mapping[str, tuple[str, ...]],
    capable: bool,
) -> Plan:
    """The plan for this node."""
    boundary = settings.boundary
    pods = {str(one.target) for placement in placements for one in placement.targets}
    return Plan(
        table=settings.table,
        uplinks=uplinks(placements, network, peer_macs, ports),
        services=services(settings, placements),
        own_range=range(boundary) if settings.first else range(boundary, 65536),
        by_port=settings.affinity.value == "ClientIPPort",
        seed=settings.seed,
        pods=tuple(sorted(pods - {str(one.address) for one in placements})),
        capable=capable,
    )


def remote_targets(found: Sequence[Service], peer_pods: Mapping[str, str]) -> tuple[Target, ...]:
    """Where clients on this node are sent while only the peer's pod may serve them."""
    return tuple(
        Target(one.address, one.protocol, one.port, ipaddress.ip_address(pod), one.target_port)
        for one in found
        if (pod := peer_pods.get(str(one.address.version))) is not None
    )


def _own(index: int, network: Network, version: int) -> str | None:
    """An address that the interface itself has, of its subnet rather than link-local."""
    own = [
        one.address
        for one in network.assigned
        if one.index == index and one.address.version == version and one.prefix < one.address.max_prefixlen
    ]
    own.sort(key=lambda address: (address.is_link_local, int(address)))
    return str(own[0]) if own else None
