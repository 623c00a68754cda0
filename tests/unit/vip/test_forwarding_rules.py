"""The forwarding table's text, and the attributes of netlink messages."""

from __future__ import annotations

from ipaddress import ip_address

from twinhull_sidecar.vip import netlink
from twinhull_sidecar.vip.forwarding import render_table, table_name
from twinhull_sidecar.vip.placement import Target

POD = Target(ip_address("10.0.0.9"), 6, 5432, ip_address("10.244.0.5"), 5433)
NODE = Target(ip_address("10.0.0.9"), 6, 80, ip_address("10.0.0.9"), 8080)


def test_the_table_is_made_anew_in_one_transaction_and_comes_before_kube_proxy() -> None:
    script = render_table("twinhull_x", [POD])
    assert script.startswith("table inet twinhull_x\ndelete table inet twinhull_x\ntable inet twinhull_x {\n")
    assert script.count("priority -105") == 2
    assert script.count("priority 95") == 1


def test_only_a_pod_that_talks_to_itself_is_masqueraded() -> None:
    script = render_table("twinhull_x", [POD, NODE])
    masquerades = [line.strip() for line in script.splitlines() if "masquerade" in line]
    assert masquerades == ["ip saddr 10.244.0.5 ip daddr 10.244.0.5 ct status dnat masquerade"]


def test_a_modules_table_has_the_same_name_in_each_of_its_lives() -> None:
    assert table_name("shop/orders") == table_name("shop/orders") != table_name("shop/carts")
    assert len(table_name("shop/orders")) < 32


def test_attributes_are_padded_and_read_back() -> None:
    data = netlink.attribute(3, b"eth0\0") + netlink.nested(9, netlink.attribute(1, b"x"))
    assert len(data) % 4 == 0
    found = netlink.attributes(data)
    assert found[3] == b"eth0\0"
    assert netlink.attributes(found[9]) == {1: b"x"}


def test_a_truncated_attribute_is_ignored() -> None:
    data = netlink.attribute(3, b"abcd") + b"\x40\x00\x01\x00xx"
    assert netlink.attributes(data) == {3: b"abcd"}
    assert netlink.attributes(b"\x00\x00\x00\x00") == {}
