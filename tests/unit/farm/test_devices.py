"""What the kernel says of interfaces, and which bonds cannot carry a farm's address."""

from __future__ import annotations

import ipaddress
import struct

import pytest

from twinhull_sidecar.farm.devices import Device, bridge_ports, read, unsuitable_bonds
from twinhull_sidecar.vip.addresses import Interface
from twinhull_sidecar.vip.netlink import attribute, nested
from twinhull_sidecar.vip.placement import Placement

_IFNAME, _LINK, _MASTER, _LINKINFO, _NETNSID, _KIND, _DATA, _BOND_MODE = 3, 5, 10, 18, 37, 1, 2, 1


def message(index: int, name: str, *attributes: bytes) -> bytes:
    """A link as the kernel describes it (struct ifinfomsg and attributes)."""
    return (
        struct.pack("=BxHiII", 0, 1, index, 0, 0)
        + attribute(_IFNAME, name.encode() + b"\0")
        + b"".join(attributes)
    )


def info(kind: str, *data: bytes) -> bytes:
    """What kind of device it is."""
    return nested(_LINKINFO, attribute(_KIND, kind.encode() + b"\0"), nested(_DATA, *data))


def number(kind: int, value: int) -> bytes:
    """An attribute that holds an index."""
    return attribute(kind, struct.pack("=I", value))


def address_on(index: int, name: str) -> Placement:
    """A virtual address on an interface."""
    interface = Interface(index, name, bytes(6), carrier=True, ethernet=True)
    return Placement("virtual_ips[0].address", ipaddress.ip_address("10.77.0.200"), 32, interface, ())


BOND = message(4, "bond0", info("bond", attribute(_BOND_MODE, b"\x06")))
VLAN = message(5, "bond0.7", number(_LINK, 4), info("vlan"))
BRIDGE = message(6, "br0", info("bridge"))
PORT = message(7, "eth9", number(_MASTER, 6))


def test_links_are_read_as_the_kernel_writes_them() -> None:
    found = read([message(1, "lo"), BOND, VLAN, BRIDGE, PORT])
    assert found == [
        Device(1, "lo"),
        Device(4, "bond0", "bond", bond_mode=6),
        Device(5, "bond0.7", "vlan", parent=4),
        Device(6, "br0", "bridge"),
        Device(7, "eth9", master=6),
    ]
    assert bridge_ports(found) == {"br0": ("eth9",)}


@pytest.mark.parametrize(
    ("index", "name", "more"),
    [
        (4, "bond0", []),
        (5, "bond0.7", [Device(5, "bond0.7", "vlan", parent=4)]),
        (6, "br0", [Device(6, "br0", "bridge")]),
    ],
    ids=["itself", "a VLAN on it", "a bridge with it"],
)
@pytest.mark.parametrize(("mode", "word"), [(5, "balance-tlb"), (6, "balance-alb")])
def test_a_bond_with_several_ethernet_addresses_is_named(
    index: int, name: str, more: list[Device], mode: int, word: str
) -> None:
    bond = Device(4, "bond0", "bond", master=6, bond_mode=mode)
    (problem,) = unsuitable_bonds([bond, *more], [address_on(index, name)])
    assert problem.field == "virtual_ips[0].interface"
    assert f"bond0 is a bond in mode {word}" in problem.message
    assert "active-backup" in problem.mend


@pytest.mark.parametrize("mode", [0, 1, 2, 3, 4])
def test_other_modes_have_one_address_and_are_fine(mode: int) -> None:
    bond = Device(4, "bond0", "bond", bond_mode=mode)
    assert unsuitable_bonds([bond, Device(5, "bond0.7", "vlan", parent=4)], [address_on(5, "bond0.7")]) == []


def test_an_index_of_another_namespace_is_none_here() -> None:
    found = read([message(9, "eth0", number(_LINK, 4), number(_NETNSID, 0), info("veth")), BOND])
    assert found[0] == Device(9, "eth0", "veth")
    assert unsuitable_bonds(found, [address_on(9, "eth0")]) == []


def test_interfaces_that_name_each_other_end_the_search() -> None:
    # Both ends of a veth in one namespace.
    assert (
        unsuitable_bonds(
            [Device(2, "x", "veth", parent=3), Device(3, "y", "veth", parent=2)], [address_on(2, "x")]
        )
        == []
    )
