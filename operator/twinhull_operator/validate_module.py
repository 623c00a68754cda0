"""Checks of a module that the API server cannot make: against the cluster's nodes and the other modules.

All functions are pure and return what they find; :func:`check_module` is their union. Of two modules that
claim the same thing the older one keeps it, so a new module never disturbs a running one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from twinhull_operator.module import Module, Object
from twinhull_operator.problem import Problem
from twinhull_operator.validate_farm import check_farm
from twinhull_operator.validate_template import check_template
from twinhull_operator.validate_watch import check_watches


def check_module(
    module: Module, nodes: Mapping[str, Object], others: Iterable[Module]
) -> tuple[Problem, ...]:
    """All findings, in the order of the specification. ``nodes`` are the cluster's Node objects by name."""
    others = [other for other in others if other.uid != module.uid]
    older = [other for other in others if _age(other) < _age(module)]
    return (
        *_unknown_nodes(module, nodes),
        *_unreachable_nodes(module, nodes),
        *_own_addresses(module, nodes),
        *_taken_addresses(module, older),
        *_inner_witnesses(module, nodes),
        *_ambiguous_ports(module),
        *_taken_name(module, older),
        *_taken_directory(module, older),
        *_taken_base_port(module, older),
        *_living_predecessor(module, others),
        *_taken_host_ports(module, older),
        *check_template(module),
        *check_farm(module),
        *check_watches(module, {str(ip): owner for ip, owner in _inner_addresses(module, nodes).items()}),
    )


def node_addresses(module: Module, nodes: Mapping[str, Object], name: str) -> tuple[str, ...]:
    """A node's addresses, IPv4 first: the specification's, else the InternalIPs that the Node reports."""
    given = next(node.addresses for node in module.nodes if node.name == name)
    reported = nodes.get(name, {}).get("status", {}).get("addresses") or ()
    found = given or tuple(entry["address"] for entry in reported if entry["type"] == "InternalIP")
    return tuple(sorted(found, key=lambda address: ip_address(address).version))


def common_addresses(module: Module, nodes: Mapping[str, Object]) -> dict[str, str] | None:
    """Each node's address of the first IP version that both have (IPv4 first), or None."""
    lists = {name: node_addresses(module, nodes, name) for name in module.node_names}
    for version in (4, 6):
        pick = {
            name: next((a for a in addresses if ip_address(a).version == version), None)
            for name, addresses in lists.items()
        }
        if all(pick.values()):
            return {name: address for name, address in pick.items() if address is not None}
    return None


def _age(module: Module) -> tuple[str, str, str]:
    return module.created, module.key, module.kind


def _unknown_nodes(module: Module, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    for index, name in enumerate(module.node_names):
        if name not in nodes:
            yield Problem(
                f"spec.nodes[{index}].name",
                f"the cluster has no node {name!r}",
                f"add the node, or create the module again with two of: {', '.join(sorted(nodes))}",
            )


def _unreachable_nodes(module: Module, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    if all(name in nodes for name in module.node_names) and common_addresses(module, nodes) is None:
        yield Problem(
            "spec.nodes",
            "the two nodes have no addresses of the same IP version",
            "give spec.nodes[].addresses of one version for both",
        )


def _own_addresses(module: Module, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    owners = {
        ip_address(entry["address"]): name
        for name, node in nodes.items()
        for entry in node.get("status", {}).get("addresses") or ()
        if entry["type"] in ("InternalIP", "ExternalIP")
    }
    for node in module.nodes:
        owners |= {ip_address(address): node.name for address in node.addresses}
    for link in module.links:
        owners |= {ip_address(address): name for name, address in link.addresses.items()}
    for index, vip in enumerate(module.virtual_ips):
        if owner := owners.get(ip_address(vip.address)):
            yield Problem(
                f"spec.virtualIPs[{index}].address",
                f"{vip.address} is node {owner}'s own address",
                "choose a free address of the nodes' network",
            )


def _inner_addresses(module: Module, nodes: Mapping[str, Object]) -> dict[IPv4Address | IPv6Address, str]:
    """What is no third machine's: the nodes' own addresses and the module's virtual ones."""
    own = {
        ip_address(address): f"node {name}'s own address"
        for name in module.node_names
        for address in node_addresses(module, nodes, name)
    }
    own |= {
        ip_address(address): f"node {name}'s own address"
        for link in module.links
        for name, address in link.addresses.items()
    }
    return own | {ip_address(vip.address): "a virtual IP of the module" for vip in module.virtual_ips}


def _inner_witnesses(module: Module, nodes: Mapping[str, Object]) -> Iterator[Problem]:
    """A witness stands outside the pair: one that dies with a node is none."""
    own = _inner_addresses(module, nodes)
    for outer, witness in enumerate(module.witnesses):
        for inner, address in enumerate(witness.addresses):
            if owner := own.get(ip_address(address)):
                yield Problem(
                    f"spec.witnesses[{outer}].addresses[{inner}]",
                    f"{address} is {owner}",
                    "give the address of a third machine, such as the gateway",
                )


def _taken_addresses(module: Module, older: Iterable[Module]) -> Iterator[Problem]:
    taken = {ip_address(vip.address): other.key for other in older for vip in other.virtual_ips}
    for index, vip in enumerate(module.virtual_ips):
        if owner := taken.get(ip_address(vip.address)):
            yield Problem(
                f"spec.virtualIPs[{index}].address",
                f"{vip.address} belongs to module {owner}",
                "choose a free address, an address follows one module only",
            )


def _ambiguous_ports(module: Module) -> Iterator[Problem]:
    seen: dict[str, tuple[int, str]] = {}
    for outer, vip in enumerate(module.virtual_ips):
        for inner, port in enumerate(vip.ports):
            meaning = (port.port, port.protocol)
            if seen.setdefault(port.name, meaning) != meaning:
                number, protocol = seen[port.name]
                yield Problem(
                    f"spec.virtualIPs[{outer}].ports[{inner}].name",
                    f"{port.name!r} means {number}/{protocol} on another address of this module",
                    "give the two ports different names",
                )


def _taken_name(module: Module, older: Iterable[Module]) -> Iterator[Problem]:
    for other in older:
        if other.key == module.key:
            yield Problem(
                "metadata.name", f"{other.kind} {other.key} has this name", "create it under another name"
            )


def _taken_host_ports(module: Module, older: Iterable[Module]) -> Iterator[Problem]:
    nodes = set(module.node_names)
    neighbours = [other for other in older if nodes & set(other.node_names)]
    taken = {port: other for other in neighbours for _, port in _host_ports(other)}
    for field, port in _host_ports(module):
        if (other := taken.get(port)) is not None:
            shared = ", ".join(sorted(nodes & set(other.node_names)))
            yield Problem(
                f"{field}.hostPort",
                f"{port[0]}/{port[1]} is also that of module {other.key} on {shared}",
                "remove it, clients come by spec.virtualIPs, or choose another number",
            )


def _host_ports(module: Module) -> Iterator[tuple[str, tuple[int, str]]]:
    for outer, container in enumerate(module.containers):
        for inner, port in enumerate(container.get("ports") or ()):
            if port.get("hostPort"):
                field = f"spec.template.spec.containers[{outer}].ports[{inner}]"
                yield field, (port["hostPort"], port.get("protocol", "TCP"))


def _taken_directory(module: Module, older: Iterable[Module]) -> Iterator[Problem]:
    for other in older:
        shared = ", ".join(sorted(set(module.node_names) & set(other.node_names)))
        if shared and other.base_dir == module.base_dir and other.key != module.key:
            yield Problem(
                "metadata.name",
                f"its directory {module.base_dir} is that of module {other.key} on {shared}",
                "create it under another name",
            )


def _living_predecessor(module: Module, others: Iterable[Module]) -> Iterator[Problem]:
    """Data is adopted from a module that was deleted, never from one that exists."""
    owner = next((other.key for other in others if other.uid == module.adopt_uid), None)
    if module.adopt_uid == module.uid:
        owner = "this module itself"
    if owner is not None:
        yield Problem(
            "spec.adoptUID",
            f"{module.adopt_uid} is the UID of {owner}, which is not deleted",
            "give the UID that the refusal of the kept data names, or remove the field",
        )


def _taken_base_port(module: Module, older: Iterable[Module]) -> Iterator[Problem]:
    for other in older:
        shared = set(module.node_names) & set(other.node_names)
        if shared and module.base_port is not None and other.base_port == module.base_port:
            yield Problem(
                "status.basePort",
                f"{module.base_port} is also that of module {other.key} on {', '.join(sorted(shared))}",
                "delete this module (its data stays on the nodes) and create it again",
            )
