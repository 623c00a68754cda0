"""``address:port`` to the pod, in a farm's ``inet`` table; see :mod:`twinhull_sidecar.vip.forwarding`.

Clients on the node itself and in its pods pass no filter at the interface. They have a map of their own: it
leads to the peer's pod while this node takes nothing new.
"""

from __future__ import annotations

from collections.abc import Iterator

from twinhull_sidecar.farm.plan import Plan

PORT_MAPS = {4: "ports4", 6: "ports6"}
LOCAL_MAPS = {4: "local4", 6: "local6"}
_FAMILIES = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}
# Just before kube-proxy's -100 and 100.
_DESTINATION, _SOURCE = -105, 95


def translation(plan: Plan) -> Iterator[str]:
    """The maps and chains."""
    names = ", ".join(f'"{one.name}"' for one in plan.uplinks)
    for version, (_family, kind) in _FAMILIES.items():
        for name in (PORT_MAPS[version], LOCAL_MAPS[version]):
            yield from (
                f"map {name} {{",
                f"    type {kind} . inet_proto . inet_service : {kind} . inet_service",
            )
            yield from ("    flags timeout", "}")
    yield from ("chain prerouting {", f"    type nat hook prerouting priority {_DESTINATION}")
    if plan.uplinks:
        yield from _translate(PORT_MAPS, f"iifname {{ {names} }} ")
        yield from _translate(LOCAL_MAPS, f"iifname != {{ {names} }} ")
    yield "}"
    yield from ("chain output {", f"    type nat hook output priority {_DESTINATION}")
    yield from _translate(LOCAL_MAPS, "")
    yield "}"
    yield from ("chain postrouting {", f"    type nat hook postrouting priority {_SOURCE}")
    for pod in plan.pods:
        # A pod that talks to itself through the address would answer itself directly, past the translation.
        family = "ip6" if ":" in pod else "ip"
        yield f"    {family} saddr {pod} {family} daddr {pod} ct status dnat masquerade"
    for version, (family, _kind) in _FAMILIES.items():
        if plan.uplinks:
            # The node's own client of the peer's pod: the kernel gave it the virtual address as source.
            yield f"    oifname {{ {names} }} {family} saddr @vips{version} ct status dnat masquerade"
    yield "}"


def _translate(maps: dict[int, str], match: str) -> Iterator[str]:
    for version, name in maps.items():
        family = _FAMILIES[version][0]
        yield (
            f"    {match}meta l4proto {{ tcp, udp }} dnat {family} to"
            f" {family} daddr . meta l4proto . th dport map @{name}"
        )
