"""A farm beside others' tables, after a restart of its sidecar, and after somebody flushed the rules."""

from __future__ import annotations

import asyncio
import signal
import sys
import time

import pytest

from tests.lab.farm_harness import Clients, Farm, FarmLab, ask_many, ask_tcp, client, farm_lab
from tests.lab.netns import CLIENT, NODES
from tests.lab.report import figure
from tests.lab.test_farm_failover import settled
from tests.lab.test_vip_forwarding import _KUBE_PROXY
from tests.lab.vip_harness import holder, module, renewed, serve
from tests.lab.vip_harness import mac as mac_of
from twinhull_sidecar.config import VirtualIP
from twinhull_sidecar.farm import FarmHolder, FarmSettings, Wanted
from twinhull_sidecar.farm.ways import SOLO

__all__ = ["farm_lab"]


def test_connections_are_known_after_a_restart_of_the_sidecar(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    clients = Clients(farm_lab, farm.address, tcp=60, udp=20)
    farm.revive("a").way("both", announce=False)
    farm.nodes["b"].way("both", announce=True)
    # Now half of them are exceptions: only b's memory says that they are its own.
    farm.nodes["b"].process.kill()
    farm.start("b").way("both")
    farm_lab.run(
        CLIENT, "ip", "neigh", "replace", farm.address, "lladdr", mac_of(farm_lab, "b"), "dev", "lan0"
    )
    settled(clients)
    assert [one for one in clients.report() if one["broken"]] == []


def test_rules_that_somebody_flushed_are_made_anew_with_what_is_known_of_connections(
    farm_lab: FarmLab,
) -> None:
    farm = Farm(farm_lab).up()
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    clients = Clients(farm_lab, farm.address, tcp=60, udp=20, interval=4)
    farm.revive("a").way("both", announce=False)
    farm.nodes["b"].way("both", announce=True)
    time.sleep(1)
    # While the clients are quiet.
    farm_lab.run("b", "nft", "flush", "ruleset")
    deadline = time.monotonic() + 2
    while "elements" not in farm_lab.run("b", "nft", "list", "maps"):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    settled(clients, 9)
    assert [one for one in clients.report() if one["broken"]] == []
    counts = ask_many(farm_lab, farm.address, [client(number) for number in range(300, 400)])
    assert set(counts) == {"a", "b"}


@pytest.mark.parametrize("version", [4, 6])
def test_two_farms_on_the_same_nodes(farm_lab: FarmLab, version: int) -> None:
    first = Farm(farm_lab).up()
    addresses = [farm_lab.virtual_ip(201), farm_lab.virtual_ip(201, 6)]
    second = Farm(farm_lab, name="back", port=81, addresses=addresses, weights={"a": 1, "b": 3}).up()
    sources = [client(number, version) for number in range(1, 201)]
    for farm, port in ((first, 80), (second, 81)):
        address = farm.addresses[version == 6]
        counts = ask_many(farm_lab, address, sources, port)
        assert set(counts) == {"a", "b"}
        # Its ports are those of the address only.
        assert (
            ask_tcp(farm_lab, address, sources[0], port=161 - port, timeout=0.5) == "ConnectionRefusedError"
        )
    second.nodes["a"].order(application="stopped")
    second.nodes["b"].way("solo", announce=True)
    assert ask_many(farm_lab, second.addresses[version == 6], sources, 81) == {"b": 200}
    assert set(ask_many(farm_lab, first.addresses[version == 6], sources)) == {"a", "b"}


async def test_a_farm_and_a_mirrors_address_on_the_same_nodes(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    pod = farm_lab.add_pod("b")
    serve(farm_lab, pod.name)
    config = module(name="back", number=210)
    async with holder(farm_lab, "b", f"{pod.address4},{pod.address6}", config) as held:
        await held.hold()
        async with renewed(held):
            answer = ask_tcp(farm_lab, farm_lab.virtual_ip(210), client(1))
            assert answer == f"{pod.name} {client(1)}"
            sources = [client(number) for number in range(1, 101)]
            assert set(ask_many(farm_lab, farm.address, sources)) == {"a", "b"}


@pytest.mark.parametrize("mode", ["nftables", "iptables"])
def test_beside_kube_proxy(farm_lab: FarmLab, mode: str) -> None:
    farm = Farm(farm_lab)
    for node in NODES:
        pod = farm.pods[node].address4
        if mode == "nftables":
            farm_lab.run(node, "nft", "-f", "-", stdin=_KUBE_PROXY.format(pod=pod))
            continue
        for line in (
            "-t nat -N KUBE-SERVICES",
            "-t nat -N KUBE-POSTROUTING",
            "-t nat -A PREROUTING -j KUBE-SERVICES",
            "-t nat -A OUTPUT -j KUBE-SERVICES",
            "-t nat -A POSTROUTING -j KUBE-POSTROUTING",
            f"-t nat -A KUBE-SERVICES -d 10.96.0.10/32 -p tcp --dport 80 -j DNAT --to-destination {pod}:8080",
            "-t nat -A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
            "-t nat -A KUBE-POSTROUTING -j MASQUERADE",
            "-A FORWARD -m conntrack --ctstate INVALID -j DROP",
        ):
            farm_lab.run(node, "iptables", *line.split())
    farm.up()
    clients = Clients(farm_lab, farm.address, tcp=40, udp=20)
    for version in (4, 6):
        sources = [client(number, version) for number in range(1, 201)]
        assert set(ask_many(farm_lab, farm.addresses[version == 6], sources)) == {"a", "b"}
    assert ask_tcp(farm_lab, "10.96.0.10", "", where=farm_lab.add_pod("a").name).startswith("a ")
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    settled(clients)
    assert clients.broken("b") == []


def test_a_node_without_the_filter_leaves_everything_to_the_announcer(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab)
    for node in NODES:
        farm.serve(node)
    farm.start("b", refuse="netdev").way("solo", announce=True)
    assert "lacks the netdev family" in farm.nodes["b"].told[0]["problem"]
    farm.start("a").wait(lambda one: one["state"] == "Waiting" and "cannot divide" in one["reason"])
    sources = [client(number) for number in range(1, 101)]
    assert ask_many(farm_lab, farm.address, sources) == {"b": 100}
    assert not farm_lab.run("a", "ip", "-4", "addr", "show", "to", farm.address)
    farm.kill("b")
    farm.nodes["a"].way("solo", announce=True)
    assert ask_many(farm_lab, farm.address, sources) == {"a": 100}


async def test_what_is_wrong_with_an_address_is_named_and_costs_no_other(farm_lab: FarmLab) -> None:
    addresses = (
        VirtualIP("192.0.2.1"),
        VirtualIP(farm_lab.virtual_ip(220), interface="lan7"),
        VirtualIP(farm_lab.address("b")),
        *module().virtual_ips,
    )
    settings = FarmSettings("shop/front", NODES, "a", addresses, links=module().links, detection_timeout=10.0)
    with farm_lab.inside("a"):
        made = FarmHolder(settings, None)
    try:
        problems = await made.check()
        assert [one.field for one in problems] == [
            "virtual_ips[0].address",
            "virtual_ips[1].interface",
            "virtual_ips[2].address",
        ]
        await made.apply(Wanted(hold=True, announce=True, way=SOLO))
        states = made.states()
        assert [one.held for one in states] == [False, False, False, True, True]
        assert all(one.problem for one in states[:3])
    finally:
        await made.close()


async def test_an_ipv6_address_on_a_node_without_ipv6_is_named_and_ipv4_goes_on(farm_lab: FarmLab) -> None:
    farm_lab.run("a", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1")
    configured = module()
    settings = FarmSettings(
        "shop/front", NODES, "a", configured.virtual_ips, links=configured.links, detection_timeout=10.0
    )
    assert [":" in one.address for one in settings.addresses] == [False, True]
    with farm_lab.inside("a"):
        made = FarmHolder(settings, None)
    try:
        (problem,) = await made.check()
        assert problem.field == "virtual_ips[1].address"
        assert "no IPv6 subnet" in problem.message
        assert "disable_ipv6=0" in problem.mend
        await made.apply(Wanted(hold=True, announce=True, way=SOLO))
        assert [one.held for one in made.states()] == [True, False]
    finally:
        await made.close()


def test_a_thousand_connections_are_noted_and_forgotten(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    ask_many(farm_lab, farm.address, [client(number) for number in range(1, 1001)])
    table = next(
        line.split()[2] for line in farm_lab.run("a", "nft", "list", "tables").splitlines() if "inet" in line
    )
    listed = farm_lab.run("a", "nft", "list", "set", "inet", table, "tcp4")
    # Each ended: known for two minutes more, not for a day.
    assert listed.count("expires") > 400
    assert "expires 23h" not in listed
    # What lives is known for long, however quiet it becomes.
    living = Clients(farm_lab, farm.address, tcp=20)
    time.sleep(0.3)
    here = len(living.of("a"))
    assert farm_lab.run("a", "nft", "list", "set", "inet", table, "tcp4").count("expires 23h") == here > 0
    living.close()
    # A flood of first packets is known for a minute, a packet out of nothing not at all.
    script = (
        "from scapy.all import IP, TCP, Ether, sendp\n"
        f"to = Ether(dst='{mac_of(farm_lab, 'a')}') / IP(src='10.80.200.1', dst='{farm.address}')\n"
        "sendp([to / TCP(sport=p, dport=80, flags='A', seq=1, ack=1) for p in range(1000, 1020)], iface='lan0')\n"
        "sendp([to / TCP(sport=p, dport=80, flags='R', seq=1) for p in range(1000, 1020)], iface='lan0')\n"
    )
    _python(farm_lab, script)
    for node in NODES:
        assert "10.80.200.1" not in farm_lab.run(node, "nft", "list", "set", "inet", table, "tcp4")


def test_a_forged_end_does_not_make_a_node_forget_a_connection(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=20)
    table = next(
        line.split()[2] for line in farm_lab.run("a", "nft", "list", "tables").splitlines() if "inet" in line
    )
    time.sleep(0.5)
    listed = farm_lab.run("a", "nft", "list", "set", "inet", table, "tcp4")
    known = [
        line.split(" . ")[:2] for line in listed.replace("elements = {", "").splitlines() if "expires" in line
    ]
    assert known
    lines = [
        f"Ether(dst='{mac_of(farm_lab, 'a')}') / IP(src='{source.strip()}', dst='{farm.address}')"
        f" / TCP(sport={port}, dport=80, flags='{flag}', seq=1, ack=1)"
        for source, port in known
        for flag in ("R", "FA", "S")
    ]
    _python(
        farm_lab, f"from scapy.all import IP, TCP, Ether, sendp\nsendp([{', '.join(lines)}], iface='lan0')\n"
    )
    settled(clients)
    assert [one for one in clients.report() if one["broken"]] == []
    assert "elements" not in farm_lab.run("a", "nft", "list", "set", "inet", table, "fin4")


def _python(lab: FarmLab, script: str) -> None:
    lab.run(CLIENT, sys.executable, "-c", script)


def test_a_killed_sidecars_leases_end_in_time(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    farm.nodes["b"].process.send_signal(signal.SIGKILL)
    began = time.monotonic()
    while "elements" in farm_lab.run("b", "nft", "list", "maps"):
        assert time.monotonic() - began < farm.timeout
    took = time.monotonic() - began
    figure(
        f"farm, killed sidecar: its leases ended after {took:.2f} s (detection timeout {farm.timeout:g} s)"
    )
    assert took < farm.timeout / 2 + 0.15


@pytest.mark.parametrize("orderly", [True, False], ids=["stopped", "killed"])
def test_a_steady_stream_of_datagrams_finds_the_new_pod(farm_lab: FarmLab, orderly: bool) -> None:
    farm = Farm(farm_lab)
    for node in NODES:
        farm.serve(node)
    first = farm.start("a")
    first.way("solo", announce=True)
    clients = Clients(farm_lab, farm.address, tcp=0, udp=20)
    if orderly:
        first.order(leaving=True)
    else:
        first.process.kill()
    first.process.wait(5)
    farm.servers["a"].kill()
    farm.servers["a"].wait()
    farm.pods["a"] = farm_lab.add_pod("a")
    farm.serve("a")
    farm.start("a").way("solo", announce=True)
    before = {one["source"]: one["answers"] for one in clients.report()}
    time.sleep(1.5)
    assert all(one["answers"] > before[one["source"]] for one in clients.report())


def test_an_interface_that_comes_anew_gets_the_rules_again(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    switch = farm_lab.namespace("switch")
    peer, hardware = farm_lab.address("a"), mac_of(farm_lab, "b")
    farm_lab.run("b", "ip", "link", "del", "lan0")
    farm.nodes["b"].way(None)
    farm_lab.run("b", "ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan-b", "netns", switch)
    farm_lab.run("switch", "ip", "link", "set", "lan-b", "master", "lan", "up")
    farm_lab.run("b", "ip", "addr", "add", f"{farm_lab.address('b')}/24", "dev", "lan0")
    farm_lab.run("b", "ip", "addr", "add", f"{farm_lab.address('b', version=6)}/64", "dev", "lan0", "nodad")
    farm_lab.run("b", "ip", "link", "set", "lan0", "up")
    for target in (("10.80.0.0/16", "10.77.0.100"), ("10.79.1.0/24", peer)):
        farm_lab.run("b", "ip", "route", "add", target[0], "via", target[1])
    farm.nodes["b"].way("both")
    assert mac_of(farm_lab, "b") != hardware
    sources = [client(number) for number in range(300, 500)]
    deadline = time.monotonic() + 5
    while set(counts := ask_many(farm_lab, farm.address, sources)) != {"a", "b"}:
        assert time.monotonic() < deadline, counts


async def test_a_stranger_that_has_the_address_is_found_and_the_peer_is_none(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    with farm_lab.inside("b"):
        made = FarmHolder(FarmSettings("shop/other", NODES, "b", module().virtual_ips), None)
    try:
        await made.check()
        # Longer than the announcer repeats its announcements: now only an answer can tell.
        await asyncio.sleep(5.5)
        for _ in range(4):
            assert await made.probe(0.3, [mac_of(farm_lab, "a")]) == []
            assert sorted(await made.probe(0.3, [])) == sorted(farm.addresses)
        farm_lab.run(CLIENT, "ip", "addr", "add", f"{farm_lab.virtual_ip()}/24", "dev", "lan0")
        assert await made.probe(0.5, [mac_of(farm_lab, "a")]) == [farm_lab.virtual_ip()]
    finally:
        await made.close()


def test_an_uplink_may_be_a_bridge(farm_lab: FarmLab) -> None:
    # With the kernel's filter for bridged packets, as Kubernetes has it.
    for host, number in (("a", 1), ("b", 2), (CLIENT, 100)):
        if host == CLIENT:
            farm_lab.run(host, "ip", "addr", "add", f"10.90.0.{number}/24", "dev", "lan0")
            continue
        own = farm_lab.address(host)
        options = ("type", "bridge", "stp_state", "0", "mcast_snooping", "0", "nf_call_iptables", "1")
        farm_lab.run(host, "ip", "link", "add", "br0", *options)
        farm_lab.run(host, "ip", "link", "set", "lan0", "master", "br0")
        # Heartbeats, too: the port of a bridge has no addresses of its own.
        farm_lab.run(host, "ip", "addr", "del", f"{own}/24", "dev", "lan0")
        farm_lab.run(host, "ip", "link", "set", "br0", "up")
        for address in (f"10.90.0.{number}/24", f"{own}/24"):
            farm_lab.run(host, "ip", "addr", "add", address, "dev", "br0")
        farm_lab.run(host, "ip", "route", "replace", "10.80.0.0/16", "via", "10.90.0.100")
        farm_lab.run(host, "sysctl", "-qw", "net.ipv4.conf.br0.rp_filter=1")
    farm = Farm(farm_lab, addresses=["10.90.0.200"]).up()
    sources = [client(number) for number in range(1, 201)]
    assert set(ask_many(farm_lab, farm.address, sources)) == {"a", "b"}
    clients = Clients(farm_lab, farm.address, tcp=40, udp=20)
    farm.nodes["a"].process.kill()
    farm.servers["a"].kill()
    farm.nodes["b"].way("solo", announce=True)
    settled(clients)
    assert clients.broken("b") == []
