"""``VIP:port`` to the application: one nftables table per module, whose map elements are leased.

The table's rules never change; an address's ports lead somewhere only while the map has elements for them,
and the kernel ends each element at its timeout. So renewing touches no rule and starts no program: it is
one netlink transaction. nft(8) is run when the table is made or removed only.

Beside kube-proxy: its chains hook at -100 (dstnat) and 100 (srcnat); ours come a little earlier, and each
looks at no packet but those for the virtual addresses.
"""

from __future__ import annotations

import errno
import hashlib
import socket
import struct
import subprocess
from collections.abc import Iterable, Sequence

from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.placement import Target

_NFT_SECONDS = 10.0
_NFPROTO_INET = 1
_NFNL_SUBSYS_NFTABLES = 10
_NFT_MSG_NEWSETELEM, _NFT_MSG_DELSETELEM = 12, 14
_NFNL_MSG_BATCH_BEGIN, _NFNL_MSG_BATCH_END = 0x10, 0x11
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEM, _ELEM_KEY, _ELEM_DATA, _ELEM_TIMEOUT = 1, 1, 2, 4  # NFTA_LIST_ELEM, NFTA_SET_ELEM_*
_DATA_VALUE = 1  # NFTA_DATA_VALUE
_GENERIC = struct.Struct("=BB")  # struct nfgenmsg without its last, big-endian field


def table_name(module: str) -> str:
    """The name of a module's table, the same in each of its lives."""
    return f"twinhull_{hashlib.sha256(module.encode()).hexdigest()[:10]}"


def render_table(table: str, targets: Iterable[Target]) -> str:
    """The nft(8) script that makes the table anew, without any element, in one transaction."""
    pods = sorted({(one.target.version, str(one.target)) for one in targets if one.target != one.address})
    families = {4: "ip", 6: "ip6"}
    # A pod that talks to itself through the virtual address would answer itself directly, past the
    # translation.
    hairpin = [
        f"        {families[version]} saddr {pod} {families[version]} daddr {pod} ct status dnat masquerade"
        for version, pod in pods
    ]
    return "\n".join(
        [
            f"table inet {table}",
            f"delete table inet {table}",
            f"table inet {table} {{",
            *_map("ports4", "ipv4_addr"),
            *_map("ports6", "ipv6_addr"),
            *_translation("prerouting"),
            *_translation("output"),
            "    chain postrouting {",
            "        type nat hook postrouting priority 95",
            *hairpin,
            "    }",
            "}",
            "",
        ]
    )


def install(table: str, targets: Iterable[Target]) -> None:
    """Make the table anew, without elements. Raises OSError whose text is nft's complaint."""
    _nft(render_table(table, targets))


def uninstall(table: str) -> None:
    """Remove the table, if there is one. Raises OSError."""
    _nft(f"table inet {table}\ndelete table inet {table}\n")


def lease(table: str, targets: Sequence[Target], seconds: float) -> None:
    """Let ``targets`` lead to the application for ``seconds`` from now. Raises OSError (ENOENT: no table)."""
    milliseconds = max(1, int(seconds * 1000))
    _transaction(table, targets, milliseconds)


def end(table: str, targets: Sequence[Target]) -> None:
    """End the lease now; that it or the table is gone already is no error. Raises OSError."""
    try:
        _transaction(table, targets, None)
    except OSError as error:
        if error.errno != errno.ENOENT:
            raise


def _transaction(table: str, targets: Sequence[Target], milliseconds: int | None) -> None:
    """Replace (or, without a time, delete) the elements of ``targets`` in one transaction."""
    messages = []
    for version, name in ((4, "ports4"), (6, "ports6")):
        elements = [one for one in targets if one.address.version == version]
        if not elements:
            continue
        # Kernels before 6.12 leave the timeout of an element that exists as it is: it must be deleted
        # first. And only what exists can be deleted, so it is added before. No packet sees the steps
        # between.
        messages.append(_change(_NFT_MSG_NEWSETELEM, table, name, elements, milliseconds))
        messages.append(_change(_NFT_MSG_DELSETELEM, table, name, elements, None))
        if milliseconds is not None:
            messages.append(_change(_NFT_MSG_NEWSETELEM, table, name, elements, milliseconds))
    if messages:
        edges = (_edge(_NFNL_MSG_BATCH_BEGIN), _edge(_NFNL_MSG_BATCH_END))
        netlink.batch(netlink.NETLINK_NETFILTER, messages, *edges)


def _change(
    kind: int, table: str, name: str, elements: Sequence[Target], milliseconds: int | None
) -> netlink.Message:
    entries = [_element(one, milliseconds, kind == _NFT_MSG_NEWSETELEM) for one in elements]
    body = (
        _GENERIC.pack(_NFPROTO_INET, 0)
        + struct.pack("!H", 0)
        + netlink.attribute(_LIST_TABLE, table.encode() + b"\0")
        + netlink.attribute(_LIST_SET, name.encode() + b"\0")
        + netlink.nested(_LIST_ELEMENTS, *entries)
    )
    flags = netlink.NLM_F_CREATE if kind == _NFT_MSG_NEWSETELEM else 0
    return netlink.Message(_NFNL_SUBSYS_NFTABLES << 8 | kind, flags, body)


def _element(target: Target, milliseconds: int | None, with_data: bool) -> bytes:
    # Each part of a concatenation is padded to 4 bytes.
    key = target.address.packed + struct.pack("!B3xH2x", target.protocol, target.port)
    data = target.target.packed + struct.pack("!H2x", target.target_port)
    parts = [netlink.nested(_ELEM_KEY, netlink.attribute(_DATA_VALUE, key))]
    if with_data:
        parts.append(netlink.nested(_ELEM_DATA, netlink.attribute(_DATA_VALUE, data)))
    if milliseconds is not None:
        parts.append(netlink.attribute(_ELEM_TIMEOUT, struct.pack("!Q", milliseconds)))
    return netlink.nested(_ELEM, *parts)


def _edge(kind: int) -> bytes:
    body = _GENERIC.pack(socket.AF_UNSPEC, 0) + struct.pack("!H", _NFNL_SUBSYS_NFTABLES)
    return netlink.frame(netlink.Message(kind, 0, body), 0)


def _map(name: str, kind: str) -> list[str]:
    return [
        f"    map {name} {{",
        f"        type {kind} . inet_proto . inet_service : {kind} . inet_service",
        "        flags timeout",
        "    }",
    ]


def _translation(hook: str) -> list[str]:
    # nft 1.0.6 refuses the name "dstnat - 5" in an output hook.
    rules = [
        f"        meta l4proto {{ tcp, udp }} dnat {family} to {family} daddr . meta l4proto . th dport"
        f" map @{name}"
        for family, name in (("ip", "ports4"), ("ip6", "ports6"))
    ]
    return [f"    chain {hook} {{", f"        type nat hook {hook} priority -105", *rules, "    }"]


def _nft(script: str) -> None:
    try:
        done = subprocess.run(
            ["nft", "-f", "-"],
            input=script,
            capture_output=True,
            text=True,
            timeout=_NFT_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise OSError(errno.ETIMEDOUT, f"nft did not end within {_NFT_SECONDS:g} s") from None
    if done.returncode != 0:
        complaint = " ".join(done.stderr.split()) or f"nft ended with code {done.returncode}"
        raise OSError(errno.EINVAL, complaint)
