"""Settings, messages, placements, elements, requirements: plain values in, plain values out."""

from __future__ import annotations

import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest

from tests.unit.farm.cases import MAC_B, PORTS, message, plan, settings
from twinhull_sidecar.config import VirtualIP
from twinhull_sidecar.farm import requirements, tracked
from twinhull_sidecar.farm.elements import ARP, INET, SetName
from twinhull_sidecar.farm.leased import contents
from twinhull_sidecar.farm.message import FarmMessage, Phase, read
from twinhull_sidecar.farm.plan import find, remote_targets, uplinks
from twinhull_sidecar.farm.plan import plan as make_plan
from twinhull_sidecar.farm.ways import BOTH, DRAIN, PASS, SOLO, Way
from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.addresses import Assigned, Interface
from twinhull_sidecar.vip.placement import Network, Target

NETWORK = Network(
    (Interface(2, "eth0", bytes.fromhex("02000000000a"), ethernet=True, carrier=True),),
    (
        Assigned(2, ip_address("fe80::1"), 64, permanent=True),
        Assigned(2, ip_address("10.0.0.1"), 24, permanent=True),
        Assigned(2, ip_address("fd00::1"), 64, permanent=True),
    ),
)


def test_the_two_nodes_agree_on_the_boundary() -> None:
    for weights, boundary in (({}, 32768), ({"a": 3, "b": 1}, 49152), ({"a": 0, "b": 5}, 0)):
        both = [replace(settings(node), weights=weights) for node in "ab"]
        assert {one.boundary for one in both} == {boundary}
        assert {one.seed for one in both} == {both[0].seed}
        assert sum(one.share for one in both) == 1


@pytest.mark.parametrize("weights", [{"a": 0, "b": 0}, {"a": -1, "b": 2}])
def test_weights_that_divide_nothing_are_refused(weights: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="give two that are not negative, and not both 0"):
        _ = replace(settings(), weights=weights).boundary


def test_a_farm_has_tables_of_its_own_even_beside_a_mirror_of_the_same_name() -> None:
    assert settings("a").table == settings("b").table != replace(settings(), module="shop/back").table
    assert settings().table.startswith("twinhull_farm_")


def test_a_message_is_read_as_it_was_written() -> None:
    said = FarmMessage(
        Phase.DRAINING,
        announcing=True,
        yielding=True,
        leaving=True,
        capable=False,
        macs={"10.0.0.9": MAC_B},
        pods={"4": "10.244.0.5"},
        reached=False,
    )
    assert read({**said.payload(), "hears_ms": 12.5}) == replace(said, hears_ms=12.5)


@pytest.mark.parametrize(
    "change", [{"phase": "SIDEWAYS"}, {"macs": None}, {"macs": [1]}, {"pods": {"4": "x"}}]
)
def test_a_message_of_another_kind_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"without the expected fields|does not appear to be"):
        read({**message().payload(), **change})


def test_a_message_cannot_bring_rules_of_its_own() -> None:
    with pytest.raises(ValueError, match="is not an Ethernet address"):
        read({**message().payload(), "macs": {"10.0.0.9": "02:00:00:00:00:0b accept"}})


def test_placements_follow_the_rules_of_every_module() -> None:
    placements, problems = find(settings(), "10.244.0.5,fd44::5", NETWORK)
    assert [str(one.address) for one in placements] == ["10.0.0.9", "fd00::9"]
    assert problems == []
    wrong = replace(settings(), addresses=(VirtualIP("192.0.2.1", ports=PORTS), *settings().addresses))
    placements, problems = find(wrong, None, NETWORK)
    assert len(placements) == 2
    assert [one.field for one in problems] == ["virtual_ips[0].address"]


def test_an_uplink_knows_its_own_addresses_and_the_peers_hardware() -> None:
    placements, _ = find(settings(), None, NETWORK)
    (uplink,) = uplinks(placements, NETWORK, {"10.0.0.9": MAC_B}, {})
    assert (uplink.name, uplink.mac, uplink.own4, uplink.own6) == (
        "eth0",
        "02:00:00:00:00:0a",
        "10.0.0.1",
        "fd00::1",
    )
    assert uplink.peer_mac == MAC_B


def test_the_second_node_has_the_upper_range() -> None:
    placements, _ = find(settings("b"), "10.244.0.5,fd44::5", NETWORK)
    made = make_plan(settings("b"), placements, NETWORK, {}, ports={}, capable=True)
    assert made.own_range == range(32768, 65536)
    assert made.pods == ("10.244.0.5", "fd44::5")
    assert len(made.services) == 4


def targets() -> list[Target]:
    pods = {4: ip_address("10.244.0.5"), 6: ip_address("fd44::5")}
    return [
        Target(one.address, one.protocol, one.port, pods[one.address.version], one.target_port)
        for one in plan().services
    ]


def leased(way: Way | None, announce: bool = False) -> dict[SetName, int]:
    remote = remote_targets(plan().services, {"4": "10.244.1.7"})
    return {name: len(found) for name, found in contents(plan(), way, announce, targets(), remote)}


def test_what_is_leased_in_each_way() -> None:
    def sizes(way: Way | None) -> list[int]:
        found = leased(way)
        return [found[SetName(INET, name)] for name in ("ways4", "ports4", "local4", "local6")]

    assert sizes(BOTH) == [2, 2, 2, 2]
    assert sizes(SOLO) == [2, 2, 2, 2]
    # Own clients go to the peer's pod, of which only an IPv4 address is known.
    assert sizes(DRAIN) == [2, 2, 2, 0]
    assert sizes(PASS) == [2, 0, 2, 0]
    assert sizes(None) == [0, 0, 0, 0]


def test_only_an_announcer_answers() -> None:
    for announce in (True, False):
        found = leased(BOTH, announce)
        assert found[SetName(ARP, "announced")] == found[SetName(INET, "announced")] == announce


def test_what_the_kernel_lacks_is_named() -> None:
    assert requirements.missing(lambda script: None) is None

    def refuse(script: str) -> None:
        if "fwd to" in script:
            raise OSError(95, "Operation not supported")

    problem = requirements.missing(refuse)
    assert problem is not None
    assert problem.field == "kernel"
    assert "this node lacks forwarding at ingress" in problem.message
    assert "CONFIG_NFT_FWD_NETDEV" in problem.mend

    def absent(script: str) -> None:
        raise FileNotFoundError(2, "No such file or directory", "nft")

    problem = requirements.missing(absent)
    assert problem is not None
    assert "nf_tables" in problem.message


def tracked_entry(protocol: int, status: int, state: int) -> bytes:
    ip = netlink.nested(
        1, netlink.attribute(1, bytes([10, 0, 0, 7])), netlink.attribute(2, bytes([10, 0, 0, 9]))
    )
    ports = netlink.nested(
        2,
        netlink.attribute(1, bytes([protocol])),
        netlink.attribute(2, struct.pack("!H", 4711)),
        netlink.attribute(3, struct.pack("!H", 80)),
    )
    pod = netlink.nested(2, netlink.nested(1, netlink.attribute(1, bytes([10, 244, 0, 5]))))
    info = netlink.nested(4, netlink.nested(1, netlink.attribute(1, bytes([state]))))
    return netlink.nested(1, ip, ports) + pod + netlink.attribute(3, struct.pack("!I", status)) + info


def test_a_tracked_connection_becomes_an_element() -> None:
    key = bytes([10, 0, 0, 7]) + b"\x12\x67\0\0" + bytes([10, 0, 0, 9]) + b"\x00\x50\0\0"
    assured, established, closing = 0xE, 3, 7
    pod = bytes([10, 244, 0, 5])
    assert tracked.read(tracked_entry(6, assured, established), 4) == tracked.Entry(6, 80, key, pod, 86400.0)
    assert tracked.read(tracked_entry(6, assured, closing), 4) == tracked.Entry(6, 80, key, pod, 120.0)
    assert tracked.read(tracked_entry(6, 0xA, established), 4) is None
    assert tracked.read(tracked_entry(17, 0xA, 0), 4) == tracked.Entry(17, 80, key, pod, 180.0)
    assert tracked.read(tracked_entry(1, assured, 0), 4) is None
