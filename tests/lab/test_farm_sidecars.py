"""Two real sidecars run a farm: deaths, freezes, leaves, drains and failing checks; and nothing is left behind."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.farm_harness import PORT, Clients, ask_many, ask_tcp, client
from tests.lab.farm_sidecars import OTHER, SidecarFarm, farm_of_sidecars
from tests.lab.netns import CLIENT, LINKS, NODES
from tests.lab.report import figure
from tests.lab.vip_harness import boottime, has_address
from twinhull_sidecar.config import Application, ServicePort, VirtualIP

QUICK = Application(
    adapter="process", argv=("replaced",), stop_grace=5.0, max_restarts=2, restart_window=60.0
)


@pytest.fixture
def farm() -> Iterator[SidecarFarm]:
    """Both nodes serve."""
    with farm_of_sidecars() as built:
        yield built.up()


@pytest.fixture
def steady() -> Iterator[SidecarFarm]:
    """The same with leases that no stall of a busy machine outlasts, where the time is not what is tested."""
    with farm_of_sidecars(detection_timeout=4.0) as built:
        yield built.up()


def who(farm: SidecarFarm, first: int = 500, count: int = 60) -> set[str]:
    """Who answers new clients; errors by name."""
    return set(ask_many(farm.lab, farm.address, [client(number) for number in range(first, first + count)]))


def kill(farm: SidecarFarm, name: str) -> None:
    """Cut a node from everybody, then kill its sidecar and all that it started; its links come back."""
    for link in LINKS:
        farm.lab.cut(link, name)
    farm[name].kill_everything()
    for link in LINKS:
        farm.lab.heal(link, name)


def test_both_nodes_serve_and_the_status_says_so(farm: SidecarFarm) -> None:
    for address in farm.addresses:
        version = 6 if ":" in address else 4
        counts = ask_many(farm.lab, address, [client(number, version) for number in range(1, 201)])
        assert set(counts) == set(NODES)
        assert min(counts.values()) > 60
    clients = Clients(farm.lab, farm.address, tcp=40)
    for name in NODES:
        served = len(clients.of(name))
        farm.wait("they are counted", lambda: farm[name].status().farm.connections >= served)  # noqa: B023
        status = farm[name].status()
        assert status.reason == "both nodes serve"
        assert status.reason_code == "BothServe"
        assert status.farm.share == 0.5
        assert [one.held for one in status.virtual_ips] == [True, True]
        assert [one.interface for one in status.virtual_ips] == ["lan0", "lan0"]
        assert {one.name: one.passing for one in status.farm.checkers} == {"port": True, "health": True}
        assert status.application.ready
        assert (status.peer.node, status.peer.role) == (OTHER[name], "Up")
        assert not status.problems
        assert status.config_hash
        assert status.incarnation
    text = farm["a"].ctl("status").stdout
    assert re.search(r"share +50% of the clients, \d+ connections", text)
    assert "checker      health passes" in text
    assert "generation" not in text


@pytest.mark.parametrize("dies", ["a", "b"])
def test_the_survivor_of_a_killed_sidecar_serves_everybody_and_the_other_returns(
    farm: SidecarFarm, dies: str
) -> None:
    survivor = OTHER[dies]
    clients = Clients(farm.lab, farm.address, tcp=60)
    kill(farm, dies)
    farm.wait_alone(survivor)
    status = farm.wait_status(survivor, lambda one: one.last_failover.promoted)
    farm.wait("the peer counts as lost", lambda: "PeerLost" in farm[survivor].events(), 3)
    assert "TookOver" in farm[survivor].events()
    # Its own network is cut a moment before the other link.
    assert status.last_failover.cause in {"PeerLost", "PeerUnavailable"}
    assert status.last_failover.promoted >= status.last_failover.detected > status.last_failover.peer_lost
    assert who(farm) == {survivor}
    assert clients.broken(survivor) == []
    farm[dies].start()
    farm.wait_both()
    time.sleep(0.5)
    assert clients.broken(survivor) == []
    assert who(farm) == set(NODES)


def test_the_sidecar_alone_is_killed_and_its_gate_ends_the_application(farm: SidecarFarm) -> None:
    survivor = OTHER[farm.announcer()]
    farm[farm.announcer()].signal(signal.SIGKILL)
    farm.wait_alone(survivor)
    assert who(farm) == {survivor}
    dead = farm[OTHER[survivor]]
    farm.wait("nothing runs on the dead node", lambda: not dead.pids(), 5)


@pytest.mark.parametrize("which", ["announcer", "other"])
def test_a_frozen_sidecar_loses_its_share_and_gets_it_back(farm: SidecarFarm, which: str) -> None:
    frozen = farm.announcer() if which == "announcer" else OTHER[farm.announcer()]
    survivor = OTHER[frozen]
    clients = Clients(farm.lab, farm.address, tcp=40)
    moment = farm[frozen].signal(signal.SIGSTOP)
    farm.wait_alone(survivor)
    assert boottime() - moment < 2.0
    assert who(farm) == {survivor}
    time.sleep(max(0.0, moment + 2.2 - boottime()))
    assert not any(has_address(farm.lab, frozen, one) for one in farm.addresses)
    assert "elements" not in farm.lab.run(frozen, "nft", "list", "maps")
    assert clients.broken(survivor) == []
    farm[frozen].signal(signal.SIGCONT)
    farm.wait_both()
    assert clients.broken(survivor) == []
    assert who(farm) == set(NODES)


@pytest.mark.parametrize("which", ["announcer", "other"])
def test_a_leaving_sidecar_lets_its_connections_end_and_leaves_nothing_behind(
    steady: SidecarFarm, which: str
) -> None:
    farm = steady
    leaves = farm.announcer() if which == "announcer" else OTHER[farm.announcer()]
    survivor = OTHER[leaves]
    clients = Clients(farm.lab, farm.address, tcp=40)
    served = len(clients.of(leaves))
    moment = farm[leaves].signal(signal.SIGTERM)
    farm.wait_status(leaves, lambda one: one.role == "Draining" and one.farm.share == 0, 2)
    # New clients go to the other, those that are there are served on.
    assert who(farm) == {survivor}
    time.sleep(max(0.0, moment + 3.5 - boottime()))
    assert clients.broken(leaves) == []
    assert farm[leaves].ended(10) == 0
    took = boottime() - moment
    assert took < farm.config.application.stop_grace + 3
    assert farm[leaves].left_behind() == []
    farm.wait_alone(survivor, 2)
    assert "PeerLeft" in farm[survivor].events()
    assert clients.broken(survivor) == []
    assert who(farm) == {survivor}
    figure(f"farm, SIGTERM of the {which} with {served} open connections: it ended after {took:.1f} s")


def test_a_leave_without_connections_takes_a_moment_and_loses_no_new_connection(steady: SidecarFarm) -> None:
    farm = steady
    leaves = farm.announcer()
    moment = farm[leaves].signal(signal.SIGTERM)
    slowest, number = 0.0, 0
    while boottime() - moment < 4:
        number += 1
        began = boottime()
        answer = ask_tcp(farm.lab, farm.address, client(number))
        assert answer.split()[0] in NODES, answer
        slowest = max(slowest, boottime() - began)
    assert farm[leaves].ended(10) == 0
    assert farm[leaves].left_behind() == []
    assert slowest < 0.5
    figure(
        f"farm, SIGTERM of the announcer: {number} new connections meanwhile, the slowest {slowest * 1000:.0f} ms"
    )


def test_both_leave_and_nothing_is_left_behind(farm: SidecarFarm) -> None:
    for name in NODES:
        farm[name].signal(signal.SIGTERM)
    for name in NODES:
        assert farm[name].ended(15) == 0
        assert farm[name].left_behind() == []


def test_a_drained_node_keeps_its_connections_and_resumes(steady: SidecarFarm) -> None:
    farm = steady
    drained = farm.announcer()
    other = OTHER[drained]
    clients = Clients(farm.lab, farm.address, tcp=40)
    done = farm[drained].ctl("drain")
    assert done.returncode == 0, done.stderr
    assert "takes nothing new" in done.stdout
    status = farm.wait_status(drained, lambda one: one.role == "Draining")
    assert (status.farm.share, status.farm.draining) == (0.0, True)
    farm.wait_status(other, lambda one: one.farm.share == 1)
    assert who(farm) == {other}
    # Not both: nobody would be left.
    refused = farm[other].ctl("drain")
    assert refused.returncode == 1
    assert "does not serve now" in refused.stdout + refused.stderr
    # The order outlives the sidecar.
    kill(farm, drained)
    farm.wait_alone(other)
    farm[drained].start()
    farm.wait_status(drained, lambda one: one.role == "Draining")
    assert who(farm) == {other}
    assert clients.broken(other) == []
    assert farm[drained].ctl("resume").returncode == 0
    farm.wait_both()
    assert who(farm) == set(NODES)
    assert clients.broken(other) == []
    assert {"Draining", "Up"} <= set(farm[drained].events())


def test_a_failing_check_takes_the_share_away_and_keeps_the_connections(steady: SidecarFarm) -> None:
    farm = steady
    clients = Clients(farm.lab, farm.address, tcp=40)
    farm["a"].unwell(True)
    status = farm.wait_status("a", lambda one: one.farm.share == 0)
    assert status.role == "Waiting"
    assert status.reason_code == "ApplicationNotReady"
    assert "status 503" in status.reason
    farm.wait_status("b", lambda one: one.farm.share == 1)
    assert who(farm) == {"b"}
    farm["a"].unwell(False)
    farm.wait_both()
    assert [one for one in clients.report() if one["broken"]] == []
    events = farm["a"].events()
    assert events.index("CheckerFailing") < len(events) - 1 - events[::-1].index("CheckerPassing")
    assert who(farm) == set(NODES)


def test_stop_and_start_concern_both_nodes(farm: SidecarFarm) -> None:
    assert farm["b"].ctl("stop").returncode == 0
    for name in NODES:
        farm.wait_status(name, lambda one: one.role == "Stopped" and one.application.phase == "Held")
    farm.wait(
        "no address is held", lambda: not any(has_address(farm.lab, one, farm.address) for one in NODES), 5
    )
    # A sidecar that starts again remembers.
    kill(farm, "a")
    farm["a"].start()
    farm.wait_status("a", lambda one: one.role == "Stopped")
    assert farm["a"].ctl("start").returncode == 0
    farm.wait_both()
    assert who(farm) == set(NODES)


def test_an_application_that_ends_is_started_again_and_given_up_after_its_budget() -> None:
    with farm_of_sidecars(application=QUICK) as farm:
        farm.up()
        done = farm["a"].ctl("restart")
        assert done.returncode == 0, done.stderr
        farm.wait_both()
        for number in range(1, 4):
            end_application(farm, "a")
            if number <= QUICK.max_restarts:
                farm.wait("it failed", lambda: farm["a"].status().application.restarts == number)  # noqa: B023
                farm.wait_both()
        status = farm.wait_status("a", lambda one: one.reason_code == "ApplicationFailed")
        assert status.role == "Waiting"
        assert status.farm.share == 0
        assert "3 times within 60 s" in status.reason
        farm.wait_alone("b")
        assert who(farm) == {"b"}
        assert farm["a"].ctl("start").returncode == 0
        farm.wait_both()
        assert who(farm) == set(NODES)


def end_application(farm: SidecarFarm, name: str) -> None:
    """Kill the programs that the gate runs."""
    for pid in farm[name].pids():
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        if b"-c" in words or b"tests.lab.farm_server" in words:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_faulty_addresses_are_named_and_the_rest_goes_on() -> None:
    ports = (ServicePort("tcp", PORT, PORT),)
    with farm_of_sidecars() as farm:
        stranger = farm.lab.virtual_ip(77)
        farm.lab.run(CLIENT, "ip", "addr", "add", f"{stranger}/24", "dev", "lan0")
        virtual = (
            VirtualIP("192.0.2.7", ports=ports),
            VirtualIP(stranger, ports=ports),
            VirtualIP(farm.lab.virtual_ip(78), interface="nic9", ports=ports),
            VirtualIP(farm.address, ports=ports),
        )
        farm.config = replace(farm.config, virtual_ips=virtual)
        farm.up()
        assert who(farm) == set(NODES)
        for name in NODES:
            status = farm[name].status()
            problems = {one.field: one.message for one in status.problems}
            assert set(problems) == {
                "virtual_ips[0].address", "virtual_ips[1].address", "virtual_ips[2].interface"
            }  # fmt: skip
            assert "is in no subnet" in problems["virtual_ips[0].address"]
            assert f"another station on the LAN has {stranger}" in problems["virtual_ips[1].address"]
            assert "no interface 'nic9'" in problems["virtual_ips[2].interface"]
            assert [one.held for one in status.virtual_ips] == [False, False, False, True]
            assert all(one.problem for one in status.virtual_ips[:3])
        # It is free one day.
        farm.lab.run(CLIENT, "ip", "addr", "del", f"{stranger}/24", "dev", "lan0")
        for name in NODES:
            farm.wait_status(name, lambda one: one.virtual_ips[1].held)
        farm.wait_both()
        assert who(farm) == set(NODES)


def test_a_cut_announcers_clients_are_served_by_the_other_at_the_same_address(farm: SidecarFarm) -> None:
    # How long it takes is measured by `make bench`.
    for number in range(2):
        dies = farm.announcer()
        survivor = OTHER[dies]
        for link in LINKS:
            farm.lab.cut(link, dies)
        moment = boottime()
        source = client(1000 + number)
        while not ask_tcp(farm.lab, farm.address, source, timeout=0.1).startswith(f"{survivor} "):
            assert boottime() - moment < 20
        kill(farm, dies)
        farm.lab.run(dies, "nft", "flush", "ruleset")
        for link in LINKS:
            farm.lab.heal(link, dies)
        farm[dies].start()
        farm.wait_both()


def test_the_shortest_timeout_is_kept_and_ends_nothing_by_itself() -> None:
    with farm_of_sidecars(detection_timeout=0.3) as farm:
        farm.up()
        clients = Clients(farm.lab, farm.address, tcp=40)
        before = {name: len(farm[name].events()) for name in NODES}
        time.sleep(12)
        after = {name: farm[name].events()[count:] for name, count in before.items()}
        assert after == {"a": [], "b": []}
        assert [one for one in clients.report() if one["broken"]] == []
        frozen = farm.announcer()
        moment = farm[frozen].signal(signal.SIGSTOP)
        farm.wait_alone(OTHER[frozen], 3)
        figure(
            f"farm, detection timeout 0.3 s: a frozen announcer is replaced after {boottime() - moment:.2f} s"
        )
        assert clients.broken(OTHER[frozen]) == []
