"""What an interface is made of, by rtnetlink(7): the ports of a bridge, the bond under it.

Where the kernel filters bridged packets (br_netfilter, usual on Kubernetes nodes), a packet has passed
prerouting before the bridge itself sees it: a filter at ingress must be on the ports.

The farm tells whose packet one is by the Ethernet addresses of the two nodes. Two modes of a bond send with several of
them, or give clients several (Linux, Documentation/networking/bonding.rst): balance-tlb and balance-alb.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.placement import Placement, Problem

_RTM_GETLINK = 18
_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_BOND_MODE = 1, 2, 1
_LINK = struct.Struct("=BxHiII")  # struct ifinfomsg
_SEVERAL_ADDRESSES = {5: "balance-tlb", 6: "balance-alb"}


@dataclass(frozen=True)
class Device:
    """An interface; ``master`` and ``parent`` (of a VLAN, say) are indices, 0: none. ``bond_mode`` None: no bond."""

    index: int
    name: str
    kind: str = ""
    master: int = 0
    parent: int = 0
    bond_mode: int | None = None


def devices() -> list[Device]:
    """Every interface of this network namespace. Raises OSError."""
    return read(netlink.dump(netlink.NETLINK_ROUTE, _RTM_GETLINK, _LINK.pack(0, 0, 0, 0, 0)))


def read(bodies: Iterable[bytes]) -> list[Device]:
    """The interfaces that the kernel's messages describe."""
    return [_device(body) for body in bodies]


def bridge_ports(found: Sequence[Device]) -> dict[str, tuple[str, ...]]:
    """The names of each bridge's ports, by the bridge's name."""
    return {
        bridge.name: tuple(sorted(one.name for one in found if one.master == bridge.index))
        for bridge in found
        if bridge.kind == "bridge"
    }


def unsuitable_bonds(found: Sequence[Device], placements: Sequence[Placement]) -> list[Problem]:
    """What keeps addresses on a bond, or on what is above one, from being divided between the nodes."""
    by_index = {one.index: one for one in found}
    problems = []
    for placement in placements:
        for bond in _under(by_index.get(placement.interface.index), by_index, set()):
            if (mode := _SEVERAL_ADDRESSES.get(bond.bond_mode or 0)) is None:
                continue
            message = (
                f"{bond.name} is a bond in mode {mode}, which uses several Ethernet addresses; "
                "dividing clients between two nodes needs one"
            )
            mend = "use another mode (active-backup, 802.3ad); until then one node serves all"
            problems.append(Problem(f"{placement.field.removesuffix('address')}interface", message, mend))
            break
    return problems


def _under(device: Device | None, by_index: dict[int, Device], seen: set[int]) -> Iterable[Device]:
    """The bonds that carry a device: itself, what it is on, the ports of a bridge."""
    if device is None or device.index in seen:
        return
    seen.add(device.index)
    if device.bond_mode is not None:
        yield device
    yield from _under(by_index.get(device.parent), by_index, seen)
    if device.kind == "bridge":
        for port in by_index.values():
            if port.master == device.index:
                yield from _under(port, by_index, seen)


def _device(body: bytes) -> Device:
    values = netlink.attributes(body[_LINK.size :])
    info = netlink.attributes(values.get(_IFLA_LINKINFO, b""))
    kind = info.get(_IFLA_INFO_KIND, b"").rstrip(b"\0").decode()
    # The other end of a veth pair is in another namespace, where the index means another interface.
    parent = None if _IFLA_LINK_NETNSID in values else values.get(_IFLA_LINK)
    mode = netlink.attributes(info.get(_IFLA_INFO_DATA, b"")).get(_IFLA_BOND_MODE) if kind == "bond" else None
    return Device(
        index=_LINK.unpack_from(body)[2],
        name=values.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(),
        kind=kind,
        master=_index(values.get(_IFLA_MASTER)),
        parent=_index(parent),
        bond_mode=mode[0] if mode else None,
    )


def _index(value: bytes | None) -> int:
    return int(struct.unpack("=I", value)[0]) if value is not None else 0
