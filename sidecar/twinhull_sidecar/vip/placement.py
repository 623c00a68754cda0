"""Where this node can hold a virtual address: the decision, and what is wrong when it cannot.

Pure: the configuration and the node's interfaces and addresses in, a placement or a problem out.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass, replace

from twinhull_sidecar.config import ModuleConfig, VirtualIP
from twinhull_sidecar.vip.addresses import Assigned, Interface, IPAddress


@dataclass(frozen=True)
class Problem:
    """Something that keeps an address from being held: the field, what is wrong, what to do."""

    field: str
    message: str
    mend: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}; {self.mend}"


@dataclass(frozen=True)
class Target:
    """``address:port`` of ``protocol`` (IP protocol number) leads to ``target:target_port``."""

    address: IPAddress
    protocol: int
    port: int
    target: IPAddress
    target_port: int


@dataclass(frozen=True)
class Placement:
    """A virtual address on an interface of this node, and where its ports lead."""

    field: str
    address: IPAddress
    prefix: int
    interface: Interface
    targets: tuple[Target, ...]


@dataclass(frozen=True)
class Network:
    """What the node's kernel said of interfaces and addresses, without this module's own leased addresses."""

    interfaces: Sequence[Interface]
    assigned: Sequence[Assigned]


_PROTOCOLS = {"TCP": 6, "UDP": 17}


def place(
    config: ModuleConfig, node: str, pod_ip: str | None, network: Network
) -> tuple[list[Placement], list[Problem]]:
    """A placement for every virtual address that can be held here, a problem for every other.

    ``pod_ip``: the pod's address, or its addresses separated by commas; None: the application runs on the
    node itself and listens on the virtual address.
    """
    placements: list[Placement] = []
    problems: list[Problem] = []
    pod, complaint = _pod_addresses(pod_ip)
    if complaint is not None:
        problems.append(complaint)
    for number, virtual in enumerate(config.virtual_ips):
        field = f"virtual_ips[{number}]"
        result = _place_one(config, node, field, virtual, network)
        if isinstance(result, Placement):
            result = _with_targets(result, field, virtual, pod if pod_ip else None)
        if isinstance(result, Placement) and result.address in {one.address for one in placements}:
            result = Problem(f"{field}.address", f"{virtual.address} is given twice", "remove one of them")
        if isinstance(result, Placement):
            placements.append(result)
        else:
            problems.append(result)
    return placements, problems


def _place_one(
    config: ModuleConfig, node: str, field: str, virtual: VirtualIP, network: Network
) -> Placement | Problem:
    field = f"{field}.address"
    try:
        address = ipaddress.ip_address(virtual.address)
    except ValueError:
        return Problem(field, f"{virtual.address!r} is not an IP address", "give an IPv4 or IPv6 address")
    refusal = _refusal(config, node, address, network)
    if refusal is not None:
        return Problem(field, refusal, "give a free unicast address of the LAN")
    found = _subnet(address, virtual, network)
    if isinstance(found, str):
        return _no_subnet(field, address, virtual, network, found)
    interface, assigned = found
    if not interface.ethernet:
        return Problem(
            f"{field.removesuffix('address')}interface",
            f"{interface.name} is no Ethernet interface, so the address cannot be announced on it",
            "name an Ethernet interface (bridges, bonds and VLANs are such)",
        )
    subnet = assigned.network
    edges = (subnet.network_address, subnet.broadcast_address)
    if address.version == 4 and subnet.prefixlen < 31 and address in edges:
        return Problem(
            field, f"{address} is the network or broadcast address of {subnet}", "give a host's address"
        )
    # A full-length prefix adds no route, and the address never becomes the subnet's first, which the kernel
    # would choose as the source of the node's own connections.
    prefix = virtual.prefix if virtual.prefix is not None else address.max_prefixlen
    return Placement(field, address, prefix, interface, ())


def _refusal(config: ModuleConfig, node: str, address: IPAddress, network: Network) -> str | None:
    """Why ``address`` cannot be a virtual address on any interface; a sentence."""
    if address.is_multicast or address.is_unspecified or address.is_loopback or address.is_link_local:
        return f"{address} is not an address that clients can reach"
    names = {interface.index: interface.name for interface in network.interfaces}
    for one in network.assigned:
        if one.address == address:
            return f"{address} is node {node}'s own address (on {names.get(one.index, 'an interface')})"
    for link in config.links:
        for holder, own in link.addresses.items():
            if ipaddress.ip_address(own) == address:
                return f"{address} is node {holder}'s own address (link {link.name})"
    return None


def _subnet(address: IPAddress, virtual: VirtualIP, network: Network) -> tuple[Interface, Assigned] | str:
    """The interface with the narrowest subnet that holds ``address``; else the word for what is missing."""
    by_index = {interface.index: interface for interface in network.interfaces}
    if virtual.interface is not None and virtual.interface not in {one.name for one in network.interfaces}:
        return "interface"
    fitting = [
        (one.prefix, by_index[one.index], one)
        for one in network.assigned
        if one.index in by_index
        and one.prefix < one.address.max_prefixlen
        and not one.address.is_loopback
        and virtual.interface in {None, by_index[one.index].name}
        and one.address.version == address.version
        and address in one.network
    ]
    if not fitting:
        return "subnet"
    _prefix, interface, assigned = max(fitting, key=lambda entry: (entry[0], -entry[1].index))
    return interface, assigned


def _no_subnet(field: str, address: IPAddress, virtual: VirtualIP, network: Network, missing: str) -> Problem:
    names = ", ".join(sorted(one.name for one in network.interfaces)) or "none"
    if missing == "interface":
        field = f"{field.removesuffix('address')}interface"
        message = f"this node has no interface {virtual.interface!r}"
        return Problem(field, message, f"name one of its interfaces ({names})")
    by_index = {interface.index: interface.name for interface in network.interfaces}
    subnets = sorted(
        f"{one.network} on {by_index.get(one.index, '?')}"
        for one in network.assigned
        if one.address.version == address.version
        and one.prefix < one.address.max_prefixlen
        and not (one.address.is_loopback or one.address.is_link_local)
        and virtual.interface in {None, by_index.get(one.index)}
    )
    where = "any interface" if virtual.interface is None else virtual.interface
    if not subnets and address.version == 6:
        mend = f"give {where} an IPv6 address (sysctl disable_ipv6=0) or remove the address"
        return Problem(field, f"this node has no IPv6 subnet on {where}", mend)
    mend = f"give a free address of one of: {', '.join(subnets) or 'none there'}"
    return Problem(field, f"{address} is in no subnet of {where} of this node", mend)


def _pod_addresses(pod_ip: str | None) -> tuple[dict[int, IPAddress], Problem | None]:
    found: dict[int, IPAddress] = {}
    for text in (pod_ip or "").split(","):
        if not text.strip():
            continue
        try:
            address = ipaddress.ip_address(text.strip())
        except ValueError:
            mend = "set it from status.podIPs of the pod"
            return {}, Problem("pod-ip", f"{text!r} is not an IP address", mend)
        found.setdefault(address.version, address)
    return found, None


def _with_targets(
    placement: Placement, field: str, virtual: VirtualIP, pod: dict[int, IPAddress] | None
) -> Placement | Problem:
    address = placement.address
    targets: dict[tuple[int, int], Target] = {}
    for number, port in enumerate(virtual.ports):
        target = address if pod is None else pod.get(address.version)
        if target is None:
            message = f"the pod has no IPv{address.version} address that {address} could lead to"
            return Problem(f"{field}.address", message, "make the cluster dual-stack or remove the address")
        key = (_PROTOCOLS[port.protocol], port.port)
        if key in targets:
            message = f"{port.protocol} port {port.port} is given twice"
            return Problem(f"{field}.ports[{number}].port", message, "give each port once")
        targets[key] = Target(address, key[0], port.port, target, port.target_port)
    # A program that listens on the virtual address itself needs no translation.
    real = [one for one in targets.values() if (one.target, one.target_port) != (one.address, one.port)]
    return replace(placement, targets=tuple(real))
