"""Both nodes ran alone (R6): one goes on, the other's data stays untouched until an administrator decides."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import PRIMARY, RECORD, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    Action,
    AllowDiscard,
    EngineView,
    Fence,
    KillApplication,
    Order,
    Persist,
    Persisted,
    Role,
    StartSecondary,
    WithdrawVip,
)

NOW = START + 10.0
ALONE = {
    **PRIMARY,
    "engine": EngineView(mode="primary", alone=True),
    "record": replace(RECORD, generation="ga", history=("g1",), alone=True),
}
THEIRS = says(generation="gb", history=("g1",), alone=True, stream=None, role="Alone")


def test_the_preferred_node_goes_on() -> None:
    seen = Scene().serving(**ALONE).see(NOW + 0.1, **ALONE, **heard(NOW + 0.1, THEIRS))
    assert seen.role is Role.ALONE
    assert seen.reason == "Serving alone: split brain, b keeps its own data until an administrator decides"


def test_the_other_stops_and_remembers() -> None:
    scene = Scene(preferred_node="b").serving(**ALONE)
    seen = scene.see(NOW + 0.1, **ALONE, **heard(NOW + 0.1, THEIRS))
    assert seen.code == "SplitBrain"
    assert seen.effects == (Fence(), KillApplication(), WithdrawVip())
    idle = {"record": ALONE["record"], "engine": EngineView()}
    waits = scene.see(NOW + 0.2, **idle, **heard(NOW + 0.2, THEIRS))
    assert (waits.role, waits.effects) == (Role.WAITING, (Persist(Persisted(split_brain="gb")),))
    assert "Order force-primary with discard-peer on the node whose data shall stay" in waits.reason


def test_the_loser_does_not_start_alone_after_a_reboot() -> None:
    scene = Scene(persisted=Persisted(split_brain="gb"))
    seen = scene.see(START + 3.0, record=ALONE["record"])
    assert (seen.code, seen.effects) == ("SplitBrain", ())


def test_discarding_the_waiting_peer() -> None:
    scene = Scene().serving(**ALONE)
    waiting = replace(THEIRS, serving=False, split_brain=True)
    order = Order("o1", Action.FORCE_PRIMARY, discard_peer=True)
    seen = scene.see(NOW + 0.1, **ALONE, orders=(order,), **heard(NOW + 0.1, waiting))
    assert seen.answers[0].state == "done"
    scene.state = scene.state.having(persisted=Persisted(overrides="gb"), to_persist=None)
    then = scene.see(NOW + 0.2, **ALONE, **heard(NOW + 0.2, waiting))
    assert then.effects[-1] == AllowDiscard("gb")
    assert then.message.overrides == "gb"


def test_the_overruled_node_follows() -> None:
    scene = Scene(persisted=Persisted(split_brain="gb"))
    chosen = replace(THEIRS, overrides="ga")
    seen = scene.see(NOW, record=ALONE["record"], **heard(NOW, chosen))
    assert (seen.code, seen.effects[-1]) == ("Overruled", StartSecondary())


def test_one_behind_yields_without_a_split_brain() -> None:
    ahead = replace(THEIRS, generation="gb", history=("ga", "g1"))
    seen = Scene().serving(**ALONE).see(NOW + 0.1, **ALONE, **heard(NOW + 0.1, ahead))
    assert (seen.code, seen.reason) == ("PeerIsAhead", "b holds newer data and takes over")


def test_two_that_wrote_nothing_are_no_split_brain() -> None:
    record = replace(RECORD, alone=True)
    fields = {**ALONE, "record": record}
    same = replace(THEIRS, generation="g1", history=())
    stays = Scene().serving(**fields).see(NOW + 0.1, **fields, **heard(NOW + 0.1, same))
    yields = Scene(preferred_node="b").serving(**fields).see(NOW + 0.1, **fields, **heard(NOW + 0.1, same))
    assert stays.state.serving
    assert (yields.state.serving, yields.code) == (False, "PeerTookOver")
