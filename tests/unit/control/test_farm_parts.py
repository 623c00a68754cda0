"""The pure parts of a farm's loop: supervision, leave, events, the peer's word, persisted wishes."""

from __future__ import annotations

import ipaddress
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from twinhull_sidecar.checkers import NOT_RUNNING, CheckState
from twinhull_sidecar.config import Application as Configured
from twinhull_sidecar.config import ConfigError, Link, ModuleConfig, Ports, ServicePort, VirtualIP
from twinhull_sidecar.control import farm_network
from twinhull_sidecar.control.farm_application import Look, Restart, Start, Stop, Supervision, supervise
from twinhull_sidecar.control.farm_events import PeerState, Scene, happened
from twinhull_sidecar.control.farm_leave import Leave, LeaveView, Step, advance
from twinhull_sidecar.control.farm_peer import Word, understood
from twinhull_sidecar.control.farm_persisted import FarmStore, Wish
from twinhull_sidecar.control.farm_role import FarmRole, Standing
from twinhull_sidecar.farm import Application, FarmMessage
from twinhull_sidecar.farm import Phase as Told
from twinhull_sidecar.farm.plan import find
from twinhull_sidecar.vip.addresses import Assigned, Interface
from twinhull_sidecar.vip.placement import Network
from twinhull_sidecar.vip.placement import Problem as PlacementProblem
from twinhull_sidecar.workload import Phase, WorkloadState

CONFIGURED = Configured("process", argv=("x",), stop_grace=9, max_restarts=2, restart_window=60)


def look(state: WorkloadState, before: Supervision = Supervision(), now: float = 0.0, **given: Any) -> Look:  # noqa: B008
    wanted = given.get("wanted", True)
    return supervise(before, CONFIGURED, state, wanted=wanted, grace=9, now=now)


def test_a_held_application_is_started_in_a_new_epoch() -> None:
    found = look(WorkloadState(Phase.HELD, epoch=4))
    assert found.effect == Start(5)
    assert found.application is Application.STOPPED
    assert found.supervision.failures == ()


def test_a_running_one_is_ready_and_a_starting_one_is_not() -> None:
    assert look(WorkloadState(Phase.RUNNING, 1)).application is Application.READY
    starting = look(WorkloadState(Phase.STARTING, 1))
    assert (starting.application, starting.effect) == (Application.STOPPED, None)


def test_restarts_end_with_the_budget_and_begin_again_when_the_window_is_over() -> None:
    memory = Supervision()
    for number in (1, 2):
        found = look(WorkloadState(Phase.FAILED, number, 1, "code 1"), memory, now=float(number))
        assert found.effect == Start(number + 1)
        assert f"restart {number} of 2" in found.trouble
        memory = found.supervision
    found = look(WorkloadState(Phase.FAILED, 3, 1, "code 1"), memory, now=3.0)
    assert (found.effect, found.failed, found.code) == (None, True, "ApplicationFailed")
    assert "3 times within 60 s" in found.trouble
    # The same end is counted once, however often it is looked at.
    assert look(WorkloadState(Phase.FAILED, 3, 1), found.supervision, now=4.0).supervision.failures == (
        1.0,
        2.0,
        3.0,
    )
    assert look(WorkloadState(Phase.FAILED, 3, 1), found.supervision, now=61.5).effect == Start(4)
    assert look(WorkloadState(Phase.FAILED, 3, 1), found.supervision.forgiven(), now=4.0).effect == Start(4)


def test_an_unwanted_one_is_stopped_and_serves_meanwhile_what_it_has() -> None:
    found = look(WorkloadState(Phase.RUNNING, 1), wanted=False)
    assert (found.effect, found.application) == (Stop(9), Application.UNREADY)
    assert look(WorkloadState(Phase.HELD, 1), wanted=False).effect is None


def test_a_restart_by_order_lets_the_peer_take_over_first() -> None:
    memory = Supervision(epoch=1, restart=Restart("o", 1, at=5.0))
    early = look(WorkloadState(Phase.RUNNING, 1), memory, now=4.9)
    assert (early.effect, early.application) == (None, Application.UNREADY)
    assert look(WorkloadState(Phase.RUNNING, 1), memory, now=5.0).effect == Stop(9)
    assert look(WorkloadState(Phase.HELD, 1), memory, now=6.0).effect == Start(2)
    done = look(WorkloadState(Phase.RUNNING, 2), memory, now=7.0)
    assert (done.restarted, done.supervision.restart, done.application) == ("o", None, Application.READY)


def test_one_that_kubelet_ends_is_not_started_again() -> None:
    found = look(WorkloadState(Phase.STOPPING, 1, terminating=True))
    assert (found.effect, found.application) == (None, Application.UNREADY)
    assert look(WorkloadState(Phase.STARTING, 1, terminating=True)).application is Application.STOPPED


def view(now: float, **given: Any) -> LeaveView:
    values = {"runs": True, "holds": True, "connections": 3, "counted_at": now}
    return LeaveView(now=now, **(values | given))


def test_a_leave_waits_for_connections_then_for_the_peer_then_for_the_application() -> None:
    def step(leave: Leave, seen: LeaveView) -> Leave:
        return advance(leave, seen, grace=10, timeout=1)

    leave = step(Leave(100.0), view(101.0))
    assert leave.step is Step.DRAIN
    # A count from before the draining says nothing.
    assert step(leave, view(101.0, connections=0, counted_at=100.1)).step is Step.DRAIN
    assert step(leave, view(101.0, connections=None)).step is Step.DRAIN
    leave = step(leave, view(102.0, connections=0))
    assert leave.step is Step.YIELD
    assert step(leave, view(102.0, holds=False)).step is Step.YIELD
    assert step(leave, view(103.0)).step is Step.YIELD
    leave = step(leave, view(103.0, holds=False))
    assert leave.step is Step.STOP
    assert step(leave, view(104.0)).step is Step.STOP
    assert step(leave, view(104.0, runs=False)).step is Step.EXIT


def test_a_leave_goes_on_at_the_end_of_the_grace_and_without_a_peer() -> None:
    assert advance(Leave(0.0), view(10.0), 10, 1).step is Step.YIELD
    assert advance(Leave(0.0), view(0.1, runs=False), 10, 1).step is Step.YIELD
    assert advance(Leave(0.0, Step.YIELD, 10.0), view(13.0), 10, 1).step is Step.STOP
    assert Leave(0.0).stop_grace(10, 2.0) == 8
    assert Leave(0.0).stop_grace(10, 9.0) == 5
    assert Leave(0.0).stop_grace(3, 9.0) == 3


SCENE = Scene(
    standing=Standing(FarmRole.UP, "both nodes serve", "BothServe"),
    announcing=False,
    whole=False,
    peer=PeerState.HEARD,
    peer_announces=True,
    checks=(CheckState("c", True, "fine", False),),
    restarts=0,
    trouble="",
)


def codes(before: Scene | None, after: Scene) -> list[str]:
    return [code for _kind, code, _message in happened(before, after, "b")]


def test_events() -> None:
    alone = Standing(FarmRole.UP, "the peer is silent", "ServesAlone")
    lost = replace(SCENE, peer=PeerState.SILENT, announcing=True, whole=True, standing=alone)
    assert codes(SCENE, SCENE) == []
    assert codes(SCENE, lost) == ["PeerLost", "Up", "TookOver"]
    assert codes(lost, SCENE) == ["PeerHeard", "Up", "HandedOver"]
    left = replace(SCENE, peer=PeerState.LEFT)
    assert codes(SCENE, left) == ["PeerLeft"]
    assert codes(left, replace(SCENE, peer=PeerState.SILENT)) == []
    failing = replace(SCENE, checks=(CheckState("c", False, "status 503", False),))
    assert codes(SCENE, failing) == ["CheckerFailing"]
    assert codes(failing, SCENE) == ["CheckerPassing"]
    assert codes(SCENE, replace(SCENE, checks=(CheckState("c", False, NOT_RUNNING),))) == []
    ended = replace(SCENE, restarts=1, trouble="the application ended by itself")
    assert codes(SCENE, ended) == ["ApplicationEnded"]
    # The first node of a farm takes nothing over from anybody.
    first = replace(SCENE, peer=PeerState.UNKNOWN, peer_announces=False)
    assert codes(first, replace(first, announcing=True, peer=PeerState.UNKNOWN)) == []


def test_the_peers_word_comes_back_as_it_was_said() -> None:
    word = Word(FarmMessage(Told.UP, announcing=True, pods={"4": "10.0.0.9"}), "Up", 1.0, 7, True)
    assert understood(word.payload()) == word
    assert word.newer_than(Wish(intent=6))
    assert not word.newer_than(Wish(intent=7))
    heard = understood(word.payload() | {"hears_ms": 12.5})
    assert heard != understood(word.payload() | {"hears_ms": 99.0})
    assert heard.essence == understood(word.payload() | {"hears_ms": 99.0}).essence


@pytest.mark.parametrize(
    "change", [{"detection_timeout": 0.0}, {"detection_timeout": True}, {"intent": "1"}, {"phase": "HIGH"}]
)
def test_a_word_that_is_none_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"is |expected"):
        understood(Word(FarmMessage(Told.UP), "Up", 1.0).payload() | change)


def test_wishes_survive_and_are_not_another_modules(tmp_path: Path) -> None:
    store = FarmStore(tmp_path, "u-1")
    assert store.load() == Wish()
    store.save(Wish(draining=True, stopped=True, intent=3))
    assert FarmStore(tmp_path, "u-1").load() == Wish(draining=True, stopped=True, intent=3)
    assert FarmStore(tmp_path, "u-2").load() == Wish()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        json.dumps({"version": 1, "uid": "u", "draining": "no"}),
        json.dumps({"version": 9, "uid": "u"}),
    ],
)
def test_damaged_wishes_are_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "farm.json").write_text(text)
    with pytest.raises(ConfigError, match=r"farm\.json"):
        FarmStore(tmp_path, "u").load()


def config() -> ModuleConfig:
    port = (ServicePort("web", 80, 80),)
    return ModuleConfig(
        kind="FarmModule",
        namespace="shop",
        name="front",
        uid="u",
        nodes=("a", "b"),
        links=(
            Link("lan", {"a": "10.0.0.1", "b": "10.0.0.2"}),
            Link("direct", {"a": "10.9.0.1", "b": "10.9.0.2"}),
        ),
        ports=Ports(1, 2, 3),
        base_dir="/x",
        application=CONFIGURED,
        virtual_ips=(VirtualIP("10.0.0.50", ports=port), VirtualIP("10.0.0.51", ports=port)),
    )


def test_the_links_over_the_addresses_own_network_are_found() -> None:
    interfaces = [Interface(number, f"eth{number}", b"\x02" * 6, True, True) for number in (1, 2)]
    own = [("10.0.0.1", 1), ("10.9.0.1", 2)]
    assigned = [Assigned(index, ipaddress.ip_address(one), 24, True) for one, index in own]
    network = Network(interfaces, assigned)
    whole = farm_network.settings(config(), "a")
    placements, problems = find(whole, None, network)
    assert not problems
    assert farm_network.lan_links(whole, placements, network) == ("lan",)


def test_problems_of_the_rest_keep_their_places_in_the_configuration() -> None:
    virtual = config().virtual_ips
    found = farm_network.numbered(
        [PlacementProblem("virtual_ips[0].address", "m", "n")], virtual[1:], virtual
    )
    assert [one.field for one in found] == ["virtual_ips[1].address"]
    taken = farm_network.taken(virtual, {"10.0.0.51": "02:00:00:00:00:09"}, ())
    assert [one.field for one in taken] == ["virtual_ips[1].address"]
    assert "02:00:00:00:00:09" in taken[0].message
