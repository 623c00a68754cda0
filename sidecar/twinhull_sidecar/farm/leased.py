"""What is leased of a farm's rules at one moment: which elements the sets hold. Pure."""

from __future__ import annotations

import struct
from collections.abc import Sequence

from twinhull_sidecar.farm.elements import ARP, INET, Element, SetName, concatenation
from twinhull_sidecar.farm.plan import Plan, Service
from twinhull_sidecar.farm.ruleset import ANNOUNCED, WAY_MAPS, chain_of
from twinhull_sidecar.farm.translation import LOCAL_MAPS, PORT_MAPS
from twinhull_sidecar.farm.ways import Way
from twinhull_sidecar.vip.frames import ETHERTYPE_ARP, ETHERTYPE_IPV6
from twinhull_sidecar.vip.placement import Target

Contents = list[tuple[SetName, list[Element]]]


def contents(
    plan: Plan, way: Way | None, announce: bool, own: Sequence[Target], remote: Sequence[Target]
) -> Contents:
    """Every leased set with its elements.

    ``own``: where the ports lead on this node, empty when the application listens on the addresses
    themselves; ``remote``: the same on the peer, for this node's own clients while it takes nothing new.
    """
    found: Contents = []
    local = [] if way is None else own if way.serves_own else remote if way.new.name == "PEER" else []
    for version in (4, 6):
        services = [one for one in plan.services if one.address.version == version]
        if plan.capable:
            ways = [] if way is None else [_way(way, one) for one in services]
            found.append((SetName(INET, WAY_MAPS[version]), ways))
        ports = [] if way is None or not way.known_here else [one for one in own if _is(one, version)]
        found.append((SetName(INET, PORT_MAPS[version]), [_target(one) for one in ports]))
        mine = [_target(one) for one in local if _is(one, version)]
        found.append((SetName(INET, LOCAL_MAPS[version]), mine))
    if plan.capable:
        for family, kind in ((ARP, ETHERTYPE_ARP), (INET, ETHERTYPE_IPV6)):
            key = Element(struct.pack("!H", kind))
            found.append((SetName(family, ANNOUNCED), [key] if announce else []))
    return found


def _way(way: Way, service: Service) -> Element:
    chain = chain_of(way, service.address.version, service.protocol)
    return Element(_key(service), chain=chain)


def _target(target: Target) -> Element:
    data = concatenation(target.target.packed, struct.pack("!H", target.target_port))
    return Element(_key(target), data)


def _key(one: Service | Target) -> bytes:
    protocol, port = struct.pack("!B", one.protocol), struct.pack("!H", one.port)
    return concatenation(one.address.packed, protocol, port)


def _is(target: Target, version: int) -> bool:
    return target.address.version == version


__all__ = ["Contents", "contents"]
