"""The rules that divide a farm's clients, as an nft(8) script (docs/farm.md has them as a picture).

Three tables of one name. ``inet``: at ingress a packet for a virtual address stays, or gets the peer's
Ethernet address; behind connection tracking the connections of this node are recorded; the rest is
:mod:`.translation`. ``netdev``: what got the peer's Ethernet address is sent out again; only this family
can. ``arp``: who answers.

The rules are static. Which way (:mod:`.ways`) a packet takes is an element of a map, and the kernel ends
each element at its timeout. A script keeps the sets of connections of the table that it replaces.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from twinhull_sidecar.farm.plan import Plan, Uplink
from twinhull_sidecar.farm.settings import BUCKETS
from twinhull_sidecar.farm.translation import translation
from twinhull_sidecar.farm.ways import WAYS, New, Way

#: As conntrack's own table of a node with kube-proxy: an established connection is known for a day.
ESTABLISHED, OPENING, CLOSING, DATAGRAMS, FRAGMENT = "1d", "1m", "2m", "3m", "5s"
#: The longest that conntrack keeps a connection from which a FIN or RST was believed (its FIN_WAIT: 2 min).
CLOSED = "3m"
#: More than a node's conntrack table holds, so that this is not what fills first.
CONNECTIONS = 1 << 20
FRAGMENTS = 1 << 16
INGRESS, FORWARD, RECORD = 10, 11, -150

FAMILIES = {4: "ip", 6: "ip6"}
WAY_MAPS = {4: "ways4", 6: "ways6"}
ANNOUNCED = "announced"

_SYN = "tcp flags & (fin | syn | rst | ack) == syn"
_END = "tcp flags & (fin | rst) != 0"
_HEAD = {
    4: "ip saddr . ip daddr . ip protocol . ip id",
    6: "ip6 saddr . ip6 daddr . frag id",
}
_ERRORS = {
    4: "icmp type { destination-unreachable, time-exceeded, parameter-problem }",
    6: "icmpv6 type { destination-unreachable, packet-too-big, time-exceeded, parameter-problem }",
}


def render(plan: Plan) -> str:
    """The script that makes the tables, or brings them up to date, in one transaction."""
    names = [f"{family} {plan.table}" for family in _families(plan)]
    lines = [f"table {name}" for name in names]
    # Rules go, sets stay: what is known of connections outlives a restart of the sidecar.
    lines += [f"flush table {name}" for name in names]
    lines += _table(f"inet {plan.table}", _inet(plan))
    # nft takes `elements` as an addition: what an earlier configuration had must go first.
    lines += _static(plan)
    if plan.capable:
        lines += _table(f"netdev {plan.table}", _netdev(plan))
        lines += _table(f"arp {plan.table}", _arp(plan))
    return "\n".join(lines) + "\n"


def render_removal(table: str) -> str:
    """The script that removes the tables, whichever of them exist."""
    return "".join(
        f"table {family} {table}\ndelete table {family} {table}\n" for family in ("inet", "netdev", "arp")
    )


def chain_of(way: Way, version: int, protocol: int) -> str:
    """The chain that the element of a service names."""
    return f"{'tcp' if protocol == 6 else 'udp'}{version}_{way.name}"


def _families(plan: Plan) -> tuple[str, ...]:
    return ("inet", "netdev", "arp") if plan.capable else ("inet",)


def _table(name: str, body: Iterable[str]) -> list[str]:
    return [f"table {name} {{", *(f"    {line}" for line in body), "}"]


def _chain(name: str, rules: Iterable[str], base: str | None = None) -> list[str]:
    head = [f"    type {base}"] if base is not None else []
    return [f"chain {name} {{", *head, *(f"    {rule}" for rule in rules), "}"]


def _set(name: str, kind: str, size: int | None = None, what: str = "set") -> list[str]:
    flags = "timeout" if size is None else f"dynamic, timeout\n        size {size}"
    return [f"{what} {name} {{", f"    {kind}", f"    flags {flags}", "}"]


def _static(plan: Plan) -> list[str]:
    lines = []
    for version in FAMILIES:
        services = [
            f"{one.address} . {one.protocol} . {one.port}"
            for one in plan.services
            if one.address.version == version
        ]
        for name, elements in (
            (f"vips{version}", plan.addresses(version)),
            (f"services{version}", services),
        ):
            lines.append(f"flush set inet {plan.table} {name}")
            if elements:
                lines.append(f"add element inet {plan.table} {name} {{ {', '.join(elements)} }}")
    return lines


# --- table inet ------------------------------------------------------------------------------------------


def _inet(plan: Plan) -> Iterator[str]:
    yield from _chain(plan.marker, [])
    for version, family in FAMILIES.items():
        kind = "ipv4_addr" if version == 4 else "ipv6_addr"
        service = f"type {kind} . inet_proto . inet_service"
        yield from (f"set vips{version} {{", f"    type {kind}", "}")
        yield from (f"set services{version} {{", f"    {service}", "}")
        if not plan.capable:
            continue
        flow = f"type {kind} . inet_service . {kind} . inet_service"
        for name in ("tcp", "fin", "udp", "away"):
            yield from _set(f"{name}{version}", flow, CONNECTIONS)
        yield from _set(f"fragments{version}", f"typeof {_HEAD[version]}", FRAGMENTS)
        yield from _set(WAY_MAPS[version], f"{service} : verdict", what="map")
        yield from _common(plan, version)
        for way in WAYS:
            yield from _tcp(plan, version, way)
            yield from _udp(plan, version, way)
        yield from _ingress(plan, version, family)
    if plan.capable:
        yield from _set(ANNOUNCED, "type ether_type")
        for uplink in plan.uplinks:
            rules = [
                # A card that lets through what is for others (tcpdump) must not have it forwarded twice.
                f"ether daddr != {uplink.mac} accept",
                "meta protocol vmap { ip : goto ingress4, ip6 : goto ingress6 }",
            ]
            for device in uplink.devices:
                base = f'filter hook ingress device "{device}" priority {INGRESS}'
                yield from _chain(f"in_{device}", rules, base)
        yield from _record(plan)
        yield from _neighbours(plan)
    yield from translation(plan)


def _flow(version: int, protocol: str) -> str:
    family = FAMILIES[version]
    return f"{family} saddr . {protocol} sport . {family} daddr . {protocol} dport"


def _from_peer(plan: Plan) -> str | None:
    """The match of what the peer sent here; None: its Ethernet addresses are not known yet."""
    known = [
        (device, one.peer_mac) for one in plan.uplinks if one.peer_mac is not None for device in one.devices
    ]
    if len(known) == 1:
        # Two comparisons: on the way of each packet, a look into a set of one costs several times that.
        return 'iifname "{}" ether saddr {}'.format(*known[0])
    pairs = ", ".join(f'"{device}" . {mac}' for device, mac in known)
    return f"iifname . ether saddr {{ {pairs} }}" if known else None


def _share(plan: Plan, version: int, protocol: str) -> str | None:
    """The match of the clients that are this node's; None: none is."""
    own = plan.own_range
    if not own:
        return None
    family = FAMILIES[version]
    key = f"{family} saddr . {protocol} sport" if plan.by_port else f"{family} saddr"
    edge = f"< {own.stop}" if own.start == 0 else f">= {own.start}"
    always = own == range(BUCKETS)
    return "" if always else f"jhash {key} mod {BUCKETS} seed {plan.seed:#x} {edge} "


def _common(plan: Plan, version: int) -> Iterator[str]:
    known = [one for one in plan.uplinks if one.peer_mac is not None]
    to_peer = [
        f'iifname "{device}" ether saddr set {one.mac} ether daddr set {one.peer_mac} accept'
        for one in known
        for device in one.devices
    ]
    more = "ip frag-off & 0x2000 != 0" if version == 4 else "frag more-fragments 1"
    # The fragments behind the first have no ports: they follow it.
    followers = f"{more} update @fragments{version} {{ {_HEAD[version]} timeout {FRAGMENT} }}"
    yield from _chain(f"send{version}", to_peer)
    yield from _chain(f"peer{version}", [followers, f"goto send{version}"])
    rest = "ip frag-off & 0x1fff != 0" if version == 4 else "frag frag-off != 0"
    follow = [f"{rest} {_HEAD[version]} @fragments{version} goto send{version}", f"{rest} accept"]
    if (peer := _from_peer(plan)) is not None:
        follow.insert(0, f"{peer} {rest} accept")
    yield from _chain(f"fragment{version}", follow)
    flow = _flow(version, "tcp")
    forget = [f"delete @{name}{version} {{ {flow} }}" for name in ("tcp", "fin")]
    yield from _chain(f"tcp{version}_away", [*forget, f"goto peer{version}"])
    remember = f"update @away{version} {{ {_flow(version, 'udp')} timeout {DATAGRAMS} }}"
    yield from _chain(f"udp{version}_away", [remember, f"goto peer{version}"])


def _tcp(plan: Plan, version: int, way: Way) -> Iterator[str]:
    flow, peer = _flow(version, "tcp"), _from_peer(plan)
    share, away = _share(plan, version, "tcp"), f"goto tcp{version}_away"
    new = []
    if peer is not None:
        # Also when both nodes think that the other should have it: nothing goes back where it came from.
        new.append(f"{peer} {'accept' if way.accepts else 'drop'}")
    if way.new is New.SHARE and share is not None:
        new.append(f"{share}accept")
    if way.known_here and way.new in {New.SHARE, New.PEER}:
        # A SYN in a connection that lives here: TCP itself finds out (RFC 5961 section 4).
        new.append(f"{flow} @fin{version} {away}")
        new.append(f"{flow} @tcp{version} accept")
    new.append({New.HERE: "accept", New.NOWHERE: "drop"}.get(way.new, away))
    yield from _chain(f"syn{version}_{way.name}", new)
    rules = [f"{_SYN} goto syn{version}_{way.name}"]
    if peer is not None:
        rules.append(f"{peer} accept")
    if way.stray_to_peer:
        if way.known_here:
            rules.append(f"{flow} @tcp{version} accept")
        rules.append(f"goto peer{version}")
    yield from _chain(chain_of(way, version, 6), rules)


def _udp(plan: Plan, version: int, way: Way) -> Iterator[str]:
    flow, peer = _flow(version, "udp"), _from_peer(plan)
    share, away = _share(plan, version, "udp"), f"goto udp{version}_away"
    rules = []
    if peer is not None:
        rules.append(f"{peer} {'accept' if way.known_here else 'drop'}")
    if way.known_here:
        rules.append(f"{flow} @udp{version} accept")
    if way.stray_to_peer:
        # A datagram does not say whether it is a first one: this node remembers what it gave away.
        rules.append(f"{flow} @away{version} {away}")
    if way.new is New.SHARE and share is not None:
        rules.append(f"{share}accept")
    rules.append({New.HERE: "accept", New.NOWHERE: "drop"}.get(way.new, away))
    yield from _chain(chain_of(way, version, 17), rules)


def _ingress(plan: Plan, version: int, family: str) -> Iterator[str]:
    addresses = plan.addresses(version)
    # All that the node receives passes here: most farms have one address of a family, and need no look into a set.
    ours = addresses[0] if len(addresses) == 1 else f"@vips{version}"
    icmp = "icmp" if version == 4 else "icmpv6"
    first = "ip frag-off & 0x1fff != 0" if version == 4 else "exthdr frag exists"
    rules = [
        f"{family} daddr != {ours} accept",
        f"{first} {'goto' if version == 4 else 'jump'} fragment{version}",
        f"meta l4proto {icmp} accept",
        f"{family} daddr . meta l4proto . th dport vmap @{WAY_MAPS[version]}",
        # No lease: what comes until the peer takes over may be the peer's, and must not be refused here.
        f"{family} daddr . meta l4proto . th dport @services{version} drop",
    ]
    yield from _chain(f"ingress{version}", rules)


def _record(plan: Plan) -> Iterator[str]:
    """Note this node's own connections, as conntrack has judged them: no forged packet makes or ends one."""
    for version in FAMILIES:
        flow, datagram = _flow(version, "tcp"), _flow(version, "udp")
        tcp, fin = f"@tcp{version}", f"@fin{version}"
        rules = [
            f"meta l4proto udp update @udp{version} {{ {datagram} timeout {DATAGRAMS} }} accept",
            f"{_SYN} ct state new delete {fin} {{ {flow} }}",
            f"{_SYN} ct state new add {tcp} {{ {flow} timeout {OPENING} }} accept",
            "ct state != established accept",
            # What conntrack believes: a forged end leaves the connection the time of an established one.
            f"{_END} ct expiration < {CLOSED} add {fin} {{ {flow} timeout {CLOSING} }}",
            f"{flow} {fin} update {tcp} {{ {flow} timeout {CLOSING} }} accept",
            f"ct status assured update {tcp} {{ {flow} timeout {ESTABLISHED} }}",
        ]
        yield from _chain(f"record{version}", rules)
    names = ", ".join(f'"{one.name}"' for one in plan.uplinks)
    rules = [
        f"iifname != {{ {names} }} accept",
        *(
            f"{family} daddr . meta l4proto . th dport @services{version} goto record{version}"
            for version, family in FAMILIES.items()
        ),
    ]
    yield from _chain("record", rules if plan.uplinks else [], f"filter hook prerouting priority {RECORD}")


def _neighbours(plan: Plan) -> Iterator[str]:
    """Neighbour Discovery: only the announcer answers, and no node says where a virtual address is by the way."""
    addresses = [f"{int(ipaddress.IPv6Address(one)):#034x}" for one in plan.addresses(6)]
    inward, outward = [], []
    if addresses:
        targets = f"@th,64,128 {{ {', '.join(addresses)} }}"
        inward += [
            f"icmpv6 type nd-neighbor-solicit {targets} meta protocol != @{ANNOUNCED} drop",
            # The peer's announcements: the kernel would only complain that its address is taken.
            f"icmpv6 type nd-neighbor-advert {targets} drop",
        ]
        # An announcer's answer to a duplicate address detection goes to all nodes, too, and must go out.
        outward.append(f"icmpv6 type nd-neighbor-advert {targets} meta protocol != @{ANNOUNCED} drop")
    for one in plan.uplinks:
        if addresses and one.own6 is not None:
            outward.append(
                f'oifname "{one.name}" icmpv6 type nd-neighbor-solicit ip6 saddr @vips6 ip6 saddr set {one.own6}'
            )
    yield from _chain("neighbours_in", inward, "filter hook input priority -10")
    yield from _chain("neighbours_out", outward, "filter hook output priority -10")


# --- tables netdev and arp ---------------------------------------------------------------------------------


def _netdev(plan: Plan) -> Iterator[str]:
    for uplink in plan.uplinks:
        for device in uplink.devices:
            base = f'filter hook ingress device "{device}" priority {FORWARD}'
            yield from _chain(f"in_{device}", _forward(plan, uplink), base)


def _forward(plan: Plan, uplink: Uplink) -> list[str]:
    if uplink.peer_mac is None:
        return []
    addressed = f"ether saddr {uplink.mac} ether daddr {uplink.peer_mac}"
    rules = [f'{addressed} fwd to "{uplink.name}"']
    for version, family in FAMILIES.items():
        found = plan.addresses(version)
        if found:
            # Only the node that has the connection knows which one the error is about: both get it.
            rewrite = f"ether saddr set {uplink.mac} ether daddr set {uplink.peer_mac}"
            rules.append(
                # The protocol first: few packets are errors.
                f"ether daddr {uplink.mac} {_ERRORS[version]} ether saddr != {uplink.peer_mac}"
                f' {family} daddr {{ {", ".join(found)} }} {rewrite} dup to "{uplink.name}"'
            )
    return rules


def _arp(plan: Plan) -> Iterator[str]:
    yield from _set(ANNOUNCED, "type ether_type")
    addresses = plan.addresses(4)
    inward, outward = [], []
    if addresses:
        found = f"{{ {', '.join(addresses)} }}"
        inward.append(f"arp operation request arp daddr ip {found} meta protocol != @{ANNOUNCED} drop")
        outward = [
            f'oifname "{one.name}" arp operation request arp saddr ip {found} arp saddr ip set {one.own4}'
            for one in plan.uplinks
            if one.own4 is not None
        ]
    yield from _chain("input", inward, "filter hook input priority 0")
    yield from _chain("output", outward, "filter hook output priority 0")
