"""Where an address is held, and for each way it cannot be: the field, the reason and the mend."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest

from twinhull_sidecar.config import Application, Link, ModuleConfig, Ports, ServicePort, VirtualIP
from twinhull_sidecar.vip.addresses import Assigned, Interface
from twinhull_sidecar.vip.holder import kernel_lifetime
from twinhull_sidecar.vip.placement import Network, Placement, Problem, place

PORTS = (ServicePort("pg", 5432, 5432),)


def assigned(index: int, text: str) -> Assigned:
    interface = ipaddress.ip_interface(text)
    return Assigned(index, interface.ip, interface.network.prefixlen, permanent=True)


NETWORK = Network(
    interfaces=[
        Interface(1, "lo", bytes(6), ethernet=False, carrier=True),
        Interface(2, "eth0", b"\x02aaaaa", ethernet=True, carrier=True),
        Interface(3, "eth1", b"\x02bbbbb", ethernet=True, carrier=True),
        Interface(4, "tun0", b"", ethernet=False, carrier=True),
    ],
    assigned=[
        assigned(1, "127.0.0.1/8"),
        assigned(2, "10.0.0.1/16"),
        assigned(2, "fd00::1/64"),
        assigned(3, "10.0.5.1/24"),
        assigned(4, "10.9.0.1/24"),
    ],
)


def module(*virtual: VirtualIP) -> ModuleConfig:
    return ModuleConfig(
        namespace="shop",
        name="orders",
        uid="7e0d",
        nodes=("a", "b"),
        links=(Link("lan", {"a": "10.0.0.1", "b": "10.0.0.2"}),),
        ports=Ports(7400, 7400, 7401),
        base_dir="/var/lib/twinhull/shop-orders",
        application=Application(adapter="pod"),
        virtual_ips=virtual,
    )


def placed(*virtual: VirtualIP, pod_ip: str | None = "10.244.0.5,fd44::5") -> list[Placement]:
    placements, problems = place(module(*virtual), "a", pod_ip, NETWORK)
    assert problems == []
    return placements


def problem(*virtual: VirtualIP, pod_ip: str | None = "10.244.0.5,fd44::5") -> Problem:
    _, problems = place(module(*virtual), "a", pod_ip, NETWORK)
    assert len(problems) == 1
    return problems[0]


def test_the_narrowest_subnet_decides_the_interface_and_the_prefix_is_full() -> None:
    first, second, third = placed(VirtualIP("10.0.9.9"), VirtualIP("10.0.5.9"), VirtualIP("fd00::9"))
    assert [one.interface.name for one in (first, second, third)] == ["eth0", "eth1", "eth0"]
    assert [one.prefix for one in (first, second, third)] == [32, 32, 128]


def test_interface_and_prefix_can_be_named() -> None:
    (one,) = placed(VirtualIP("10.0.5.9", 24, "eth0"))
    assert (one.interface.name, one.prefix) == ("eth0", 24)


def test_ports_lead_to_the_pods_address_of_the_same_family() -> None:
    first, second = placed(VirtualIP("10.0.9.9", ports=PORTS), VirtualIP("fd00::9", ports=PORTS))
    assert str(first.targets[0].target) == "10.244.0.5"
    assert str(second.targets[0].target) == "fd44::5"


def test_a_program_on_the_node_needs_translation_of_a_different_port_only() -> None:
    ports = (ServicePort("same", 80, 80), ServicePort("other", 81, 8081, "UDP"))
    (one,) = placed(VirtualIP("10.0.9.9", ports=ports), pod_ip=None)
    assert [(target.protocol, target.port, target.target_port) for target in one.targets] == [(17, 81, 8081)]
    assert one.targets[0].target == one.address


@pytest.mark.parametrize(
    ("virtual", "field", "message", "mend"),
    [
        (VirtualIP("10.0.0.300"), "address", "is not an IP address", "give an IPv4 or IPv6 address"),
        (VirtualIP("224.0.0.9"), "address", "not an address that clients can reach", "free unicast"),
        (VirtualIP("fe80::9"), "address", "not an address that clients can reach", "free unicast"),
        (VirtualIP("10.0.0.1"), "address", "is node a's own address (on eth0)", "free unicast"),
        (VirtualIP("10.0.0.2"), "address", "is node b's own address (link lan)", "free unicast"),
        (VirtualIP("192.168.7.7"), "address", "is in no subnet of any interface", "10.0.0.0/16 on eth0"),
        (VirtualIP("10.0.9.9", interface="eth1"), "address", "in no subnet of eth1", "10.0.5.0/24 on eth1"),
        (VirtualIP("10.0.9.9", interface="eth7"), "interface", "has no interface 'eth7'", "eth0, eth1"),
        (VirtualIP("10.0.255.255"), "address", "network or broadcast address of 10.0.0.0/16", "give a host"),
        (VirtualIP("10.9.0.9"), "interface", "tun0 is no Ethernet interface", "name an Ethernet interface"),
        (VirtualIP("fd00::9", interface="eth1"), "address", "no IPv6 subnet on eth1", "disable_ipv6=0"),
    ],
    ids=lambda value: getattr(value, "address", None),
)
def test_a_wrong_address_names_the_field_and_the_mend(
    virtual: VirtualIP, field: str, message: str, mend: str
) -> None:
    found = problem(virtual)
    assert found.field == f"virtual_ips[0].{field}"
    assert message in found.message
    assert mend in found.mend


def test_a_pod_without_ipv6_cannot_stand_behind_an_ipv6_address() -> None:
    found = problem(VirtualIP("fd00::9", ports=PORTS), pod_ip="10.244.0.5")
    assert found == Problem(
        "virtual_ips[0].address",
        "the pod has no IPv6 address that fd00::9 could lead to",
        "make the cluster dual-stack or remove the address",
    )


def test_an_address_or_a_port_given_twice_is_named() -> None:
    assert problem(VirtualIP("10.0.9.9"), VirtualIP("10.0.9.9")).field == "virtual_ips[1].address"
    twice = VirtualIP("10.0.9.9", ports=(*PORTS, *PORTS))
    assert problem(twice).field == "virtual_ips[0].ports[1].port"


def test_a_wrong_pod_address_is_named() -> None:
    assert problem(VirtualIP("10.0.9.9"), pod_ip="10.244.0").field == "pod-ip"


def test_a_wrong_address_does_not_cost_the_others() -> None:
    placements, problems = place(module(VirtualIP("nonsense"), VirtualIP("10.0.9.9")), "a", None, NETWORK)
    assert [one.field for one in placements] == ["virtual_ips[1].address"]
    assert [one.field for one in problems] == ["virtual_ips[0].address"]


def test_an_interface_that_went_away_is_not_chosen() -> None:
    without = replace(NETWORK, interfaces=[one for one in NETWORK.interfaces if one.name != "eth1"])
    placements, _ = place(module(VirtualIP("10.0.5.9")), "a", None, without)
    assert placements[0].interface.name == "eth0"


@pytest.mark.parametrize(
    ("timeout", "seconds"), [(0.5, 1), (1.0, 1), (2.0, 1), (3.0, 2), (5.0, 2), (10.0, 5), (60.0, 30)]
)
def test_the_kernels_lifetime_is_near_the_lease_and_ends_before_the_peer_may_take_over(
    timeout: float, seconds: int
) -> None:
    assert kernel_lifetime(timeout / 2, timeout) == seconds
    assert seconds == 1 or seconds < timeout - 0.5
