"""What the farm's filter needs of the kernel and of nft(8), and the name of what is missing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinhull_sidecar.vip.placement import Problem


@dataclass(frozen=True)
class Feature:
    """Something that the rules need: what it is called, the kernel's option, and the smallest use of it."""

    name: str
    option: str
    script: str


def _table(family: str, body: str) -> str:
    return f"table {family} twinhull_probe {{\n{body}\n}}\n"


def _chain(rule: str, hook: str) -> str:
    return f"chain c {{\ntype filter hook {hook} priority 0\n{rule}\n}}"


_KEYS = "type ipv4_addr . inet_service . ipv4_addr . inet_service"
_KEY = "ip saddr . tcp sport . ip daddr . tcp dport"

#: In the order in which they are asked for: each needs those before it.
FEATURES = (
    Feature(
        "nf_tables with the inet family (Linux 4.9)", "NF_TABLES_INET", _table("inet", _chain("", "input"))
    ),
    Feature(
        "NAT by nf_tables", "NFT_NAT", _table("inet", "chain c {\ntype nat hook prerouting priority 0\n}")
    ),
    Feature(
        "connection tracking in nf_tables",
        "NFT_CT",
        _table("inet", _chain("ct status assured", "prerouting")),
    ),
    Feature(
        "the inet ingress hook (Linux 5.10)",
        "NETFILTER_INGRESS",
        _table("inet", _chain("meta pkttype host", 'ingress device "lo"')),
    ),
    Feature(
        "sets that packets change",
        "NF_TABLES",
        _table(
            "inet",
            f"set s {{\n{_KEYS}\nflags dynamic, timeout\nsize 64\n}}\n"
            + _chain(f"delete @s {{ {_KEY} }}", 'ingress device "lo"'),
        ),
    ),
    Feature(
        "the hash of packet fields",
        "NFT_HASH",
        _table("inet", _chain("jhash ip saddr mod 65536 seed 0x1 < 9", 'ingress device "lo"')),
    ),
    Feature("the netdev family", "NF_TABLES_NETDEV", _table("netdev", _chain("", 'ingress device "lo" '))),
    Feature(
        "forwarding at ingress",
        "NFT_FWD_NETDEV",
        _table("netdev", _chain('fwd to "lo"', 'ingress device "lo"')),
    ),
    Feature(
        "copying at ingress", "NFT_DUP_NETDEV", _table("netdev", _chain('dup to "lo"', 'ingress device "lo"'))
    ),
    Feature(
        "the arp family",
        "NF_TABLES_ARP",
        _table("arp", _chain("arp saddr ip 192.0.2.1 arp saddr ip set 192.0.2.2", "output")),
    ),
)


def missing(try_script: Callable[[str], None]) -> Problem | None:
    """Ask the kernel for each feature; the first that it lacks. ``try_script`` raises OSError when refused.

    The scripts are to be checked only, not carried out (``nft --check``).
    """
    try:
        try_script("".join(one.script.replace("twinhull_probe", f"twinhull_probe{number}")
                           for number, one in enumerate(FEATURES)))  # fmt: skip
    except OSError as whole:
        complaint = str(whole)
    else:
        return None
    for feature in FEATURES:
        try:
            try_script(feature.script)
        except OSError as error:
            return Problem(
                "kernel",
                f"this node lacks {feature.name}, which dividing clients between two nodes needs ({error})",
                f"use a kernel with CONFIG_{feature.option} and nft 1.0 or later; until then one node serves all",
            )
    return Problem("kernel", f"nft refuses the filter ({complaint})", "install nftables 1.0 or later")
