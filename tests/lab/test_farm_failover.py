"""Nodes of a farm die, freeze and return: who serves afterwards, and whose connections live on."""

from __future__ import annotations

import signal
import time

import pytest

from tests.lab.farm_harness import Clients, Farm, FarmLab, ask_many, ask_tcp, client, farm_lab, freeze
from tests.lab.netns import CLIENT
from tests.lab.report import figure
from tests.lab.vip_harness import boottime, has_address, mac, neighbour

__all__ = ["farm_lab"]

OTHER = {"a": "b", "b": "a"}


def settled(clients: Clients, seconds: float = 1.5) -> None:
    """Every connection is asked several times after what happened."""
    before = {number: one["answers"] for number, one in enumerate(clients.report()) if not one["broken"]}
    time.sleep(seconds)
    for number, one in enumerate(clients.report()):
        assert one["broken"] or number not in before or one["answers"] > before[number]


@pytest.mark.parametrize("dies", ["a", "b"], ids=["announcer", "other"])
@pytest.mark.parametrize("version", [4, 6])
def test_only_the_dead_nodes_connections_are_lost_and_its_return_breaks_none(
    farm_lab: FarmLab, dies: str, version: int
) -> None:
    farm = Farm(farm_lab).up()
    survivor = OTHER[dies]
    address = farm.addresses[0 if version == 4 else 1]
    clients = Clients(farm_lab, address, tcp=80, udp=40)
    time.sleep(1)
    served = {node: len(clients.of(node)) for node in "ab"}
    assert min(served.values()) > 30

    farm.kill(dies)
    farm.nodes[survivor].way("solo", announce=True)
    settled(clients, 3)
    assert clients.broken(survivor) == []
    lost = clients.broken(dies)
    assert len([one for one in lost if one.startswith("tcp")]) == len(
        [one for one in clients.of(dies) if one["protocol"] == "tcp"]
    )
    figure(
        f"farm, IPv{version}, {'announcer' if dies == 'a' else 'other node'} dies: "
        f"survivor keeps {served[survivor]} of {served[survivor]} connections, {served[dies]} of the dead node end"
    )

    # New connections of everybody go to the survivor; they are its own for good.
    later = Clients(farm_lab, address, tcp=60, udp=30)
    assert {one["node"] for one in later.report()} == {survivor}

    farm.revive(dies).way("both", announce=False)
    farm.nodes[survivor].way("both", announce=True)
    settled(clients)
    settled(later)
    assert clients.broken(survivor) == []
    assert [one for one in later.report() if one["broken"]] == []
    # And the returned node has its share of what is new.
    counts = ask_many(farm_lab, address, [client(number, version) for number in range(1000, 1200)])
    assert set(counts) == {"a", "b"}
    assert min(counts.values()) > 60


def test_connections_survive_a_change_of_the_announcer_after_a_return(farm_lab: FarmLab) -> None:
    # What is hardest: b serves clients of a's share, a returned, and now a gets b's packets first.
    farm = Farm(farm_lab).up()
    farm.kill("a")
    farm.nodes["b"].way("solo", announce=True)
    kept = Clients(farm_lab, farm.address, tcp=80)
    farm.revive("a").way("both", announce=False)
    farm.nodes["b"].way("both", announce=True)
    shared = Clients(farm_lab, farm.address, tcp=80)
    assert {one["node"] for one in shared.report()} == {"a", "b"}
    farm_lab.run(CLIENT, "ip", "neigh", "replace", farm.address, "lladdr", mac(farm_lab, "a"), "dev", "lan0")
    settled(kept)
    settled(shared)
    assert [one for one in (*kept.report(), *shared.report()) if one["broken"]] == []


def test_an_announcer_whose_application_stops_hands_over_and_breaks_nothing(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    clients = Clients(farm_lab, farm.address, tcp=80, udp=40)
    time.sleep(0.5)
    farm.nodes["a"].order(draining=True)
    farm.nodes["a"].way("drain", announce=True)
    later = Clients(farm_lab, farm.address, tcp=60, udp=30)
    assert {one["node"] for one in later.report()} == {"b"}
    farm.nodes["a"].order(application="stopped")
    farm.nodes["b"].way("solo", announce=True)
    farm.nodes["a"].way("pass", announce=False)
    time.sleep(1.5)
    assert neighbour(farm_lab, CLIENT, farm.address) == mac(farm_lab, "b")
    settled(later)
    assert clients.broken("b") == []
    assert [one for one in later.report() if one["broken"]] == []
    assert set(ask_many(farm_lab, farm.address, [client(number) for number in range(500, 600)])) == {"b"}


@pytest.mark.parametrize("frozen", ["a", "b"], ids=["announcer", "other"])
def test_a_frozen_sidecars_address_and_share_are_gone_with_its_lease(farm_lab: FarmLab, frozen: str) -> None:
    farm = Farm(farm_lab).up()
    survivor = OTHER[frozen]
    clients = Clients(farm_lab, farm.address, tcp=40)
    moment = freeze(farm.nodes[frozen])
    told = farm.nodes[survivor].way("solo", announce=True)
    assert told["at"] - moment < farm.timeout + 0.3
    # The kernel counts the life of an address in whole seconds, and may be a second late.
    time.sleep(max(0.0, moment + 2.2 - boottime()))
    assert not any(has_address(farm_lab, frozen, one) for one in farm.addresses)
    assert "elements" not in farm_lab.run(frozen, "nft", "list", "maps")
    assert clients.broken(survivor) == []
    later = Clients(farm_lab, farm.address, tcp=40)
    assert {one["node"] for one in later.report()} == {survivor}

    farm.nodes[frozen].process.send_signal(signal.SIGCONT)
    farm.nodes[frozen].way("both", announce=False)
    settled(later)
    assert [one for one in later.report() if one["broken"]] == []


def test_a_frozen_announcer_answers_nobody_after_its_lease(farm_lab: FarmLab) -> None:
    farm = Farm(farm_lab).up()
    farm.kill("b")
    farm.nodes["a"].way("solo", announce=True)
    assert ask_tcp(farm_lab, farm.address, client(1)).startswith("a ")
    moment = freeze(farm.nodes["a"])
    time.sleep(max(0.0, moment + farm.timeout / 2 + 0.1 - boottime()))
    # The address itself may still be there, for up to two seconds.
    for address in farm.addresses:
        farm_lab.run(CLIENT, "ip", "neigh", "flush", "to", address)
        assert ask_tcp(farm_lab, address, "", timeout=0.4) in {"TimeoutError", "OSError"}
