"""Readiness, maintenance and leaving; clients on the nodes and in their pods."""

from __future__ import annotations

import time

import pytest

from tests.lab.farm_harness import Clients, Farm, FarmLab, ask_many, ask_tcp, client, farm_lab
from tests.lab.netns import CLIENT, NODES
from tests.lab.report import figure
from tests.lab.test_farm_failover import OTHER, settled
from tests.lab.vip_harness import has_address, mac, neighbour

__all__ = ["farm_lab"]


@pytest.mark.parametrize("node", NODES, ids=["announcer", "other"])
@pytest.mark.parametrize(
    "change", [{"draining": True}, {"application": "not ready"}], ids=["drain", "unready"]
)
def test_a_node_that_takes_nothing_new_keeps_what_it_serves(
    farm_lab: FarmLab, node: str, change: dict[str, object]
) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=80, udp=40)
    assert len(clients.of(node)) > 30
    farm.nodes[node].order(**change)
    farm.nodes[node].way("drain")
    farm.nodes[OTHER[node]].way("all")
    settled(clients)
    assert [one for one in clients.report() if one["broken"]] == []
    for version in (4, 6):
        sources = [client(number, version) for number in range(300, 500)]
        assert ask_many(farm_lab, farm.addresses[version == 6], sources) == {OTHER[node]: 200}
    later = Clients(farm_lab, farm.address, udp=40, tcp=0, sources=[client(n) for n in range(300, 340)])
    assert {one["node"] for one in later.report()} == {OTHER[node]}

    farm.nodes[node].order(application="ready", draining=False)
    for one in farm.nodes.values():
        one.way("both")
    settled(clients)
    settled(later)
    assert [one for one in (*clients.report(), *later.report()) if one["broken"]] == []
    assert set(ask_many(farm_lab, farm.address, [client(number) for number in range(300, 500)])) == {"a", "b"}


@pytest.mark.parametrize("node", NODES, ids=["announcer", "other"])
def test_a_stopped_application_gets_nothing_and_its_flows_of_datagrams_move(
    farm_lab: FarmLab, node: str
) -> None:
    farm = Farm(farm_lab).up()
    survivor = OTHER[node]
    clients = Clients(farm_lab, farm.address, tcp=40, udp=40)
    farm.servers[node].kill()
    farm.nodes[node].order(application="stopped")
    farm.nodes[survivor].way("solo", announce=True)
    farm.nodes[node].way("pass", announce=False)
    settled(clients, 2)
    assert clients.broken(survivor) == []
    moved = [one for one in clients.of(node) if one["protocol"] == "udp"]
    assert moved
    assert {one["broken"] for one in moved} == {f"answered by {survivor} instead of {node}"}
    assert all("Reset" in one for one in clients.broken(node) if one.startswith("tcp"))


@pytest.mark.parametrize("node", NODES, ids=["announcer", "other"])
def test_an_orderly_leave_is_acted_on_at_once(farm_lab: FarmLab, node: str) -> None:
    farm = Farm(farm_lab, timeout=3.0).up()
    survivor = OTHER[node]
    clients = Clients(farm_lab, farm.address, tcp=60)
    began = time.monotonic()
    farm.nodes[node].order(leaving=True)
    farm.nodes[survivor].way("solo", announce=True)
    farm.nodes[node].process.wait(5)
    took = time.monotonic() - began
    assert set(ask_many(farm_lab, farm.address, [client(number) for number in range(300, 400)])) == {survivor}
    settled(clients)
    assert clients.broken(survivor) == []
    assert not any(has_address(farm_lab, node, one) for one in farm.addresses)
    assert "twinhull" not in farm_lab.run(node, "nft", "list", "tables")
    figure(f"farm, orderly leave of {node}: over after {took:.2f} s (detection timeout 3 s)")
    assert took < 1.5


def test_while_nobody_takes_anything_new_clients_wait_and_then_go_on(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=40)
    farm.kill("b")
    farm.nodes["a"].way("solo")
    farm.nodes["a"].order(application="not ready")
    farm.nodes["a"].way("last")
    settled(clients)
    assert clients.broken("a") == []
    assert ask_tcp(farm_lab, farm.address, client(300), timeout=0.5) == "TimeoutError"
    farm.nodes["a"].order(application="ready")
    farm.nodes["a"].way("solo")
    assert ask_tcp(farm_lab, farm.address, client(300)).startswith("a ")


@pytest.mark.parametrize("version", [4, 6])
def test_clients_on_the_nodes_and_in_their_pods_are_served(farm_lab: FarmLab, version: int) -> None:
    farm = Farm(farm_lab).up()
    address = farm.addresses[version == 6]
    guests = {node: farm_lab.add_pod(node).name for node in NODES}
    places = {node: (node, guests[node], farm.pods[node].name) for node in NODES}

    def answers(node: str) -> set[str]:
        return {ask_tcp(farm_lab, address, "", where=where).split()[0] for where in places[node]}

    assert answers("a") == {"a"}
    assert answers("b") == {"b"}
    # Their own node takes nothing new: the other one serves them.
    for node in NODES:
        farm.nodes[node].order(draining=True)
        farm.nodes[node].way("drain")
        assert answers(node) == {OTHER[node]}
        farm.nodes[node].order(draining=False)
        farm.nodes[node].way("both")
        assert answers(node) == {node}
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    assert answers("b") == {"b"}


def test_the_announcers_cable_is_pulled(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=60)
    farm_lab.unplug("lan", "a")
    farm.nodes["b"].way("solo", announce=True)
    farm.nodes["a"].way(None)
    settled(clients, 2)
    assert clients.broken("b") == []
    assert neighbour(farm_lab, CLIENT, farm.address) == mac(farm_lab, "b")
    farm_lab.plug("lan", "a")
    farm.nodes["a"].way("both", announce=False)
    settled(clients)
    assert clients.broken("b") == []
    assert set(ask_many(farm_lab, farm.address, [client(number) for number in range(300, 400)])) == {"a", "b"}


def test_the_nodes_do_not_reach_each_other_over_the_lan_but_live(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=60)
    farm_lab.cut("lan")
    farm.nodes["a"].way("solo", announce=True)
    told = farm.nodes["b"].way(None)
    assert told["state"] == "Waiting"
    assert told["reason"] == "a is not reached over the addresses' own network; a serves alone"
    settled(clients, 1)
    assert clients.broken("a") == []
    assert set(ask_many(farm_lab, farm.address, [client(number) for number in range(300, 400)])) == {"a"}
    farm_lab.heal("lan")
    farm.nodes["a"].way("both", announce=True)
    farm.nodes["b"].way("both", announce=False)
    settled(clients, 1)
    assert clients.broken("a") == []


def test_after_a_total_partition_one_announces_and_connections_of_both_live_on(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    before = Clients(farm_lab, farm.address, tcp=60)
    for link in ("lan", "direct"):
        farm_lab.cut(link)
    for node in NODES:
        farm.nodes[node].way("solo", announce=True)
    # Each of the two took connections while it thought itself alone.
    taken = []
    for node in NODES:
        farm_lab.run(
            CLIENT, "ip", "neigh", "replace", farm.address, "lladdr", mac(farm_lab, node), "dev", "lan0"
        )
        sources = [client(number) for number in range(400, 440)]
        taken.append(Clients(farm_lab, farm.address, tcp=40, sources=sources, interval=5))
        assert {one["node"] for one in taken[-1].report()} == {node}
    for link in ("lan", "direct"):
        farm_lab.heal(link)
    farm.nodes["a"].way("both", announce=True)
    farm.nodes["b"].way("both", announce=False)
    time.sleep(6)
    assert [one for clients in taken for one in clients.report() if one["broken"]] == []
    assert all(one["answers"] >= 2 for clients in taken for one in clients.report())
    before.close()
