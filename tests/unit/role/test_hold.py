"""No automatic failover: ordered for the time being (hold), or always (failover.mode Manual)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.role.scene import FOLLOWING, IN_SYNC, LOST, PRIMARY, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    Action,
    Order,
    Outcome,
    Persist,
    Persisted,
    Phase,
    ProbeView,
    Role,
    StopSecondary,
    WorkloadView,
)

HELD = Persisted(intent=1, held=True)


def lost(scene: Scene, **fields: Any) -> Any:
    """The primary was heard last at 110 s and the virtual address is free; now it is 114 s."""
    scene.see(START + 10.0, engine=IN_SYNC, **heard(START + 10.0))
    probe = ProbeView(START + 13.2, START + 13.4)
    return scene.see(START + 13.9, engine=LOST, probe=probe, **heard(START + 10.0), **fields)


@pytest.mark.parametrize(
    ("scene", "mend"),
    [
        (Scene(persisted=HELD), "order resume to end that"),
        (Scene(failover="Manual"), "order force-primary"),
    ],
)
def test_a_secondary_does_not_take_over_unasked(scene: Scene, mend: str) -> None:
    decision = lost(scene)
    assert (decision.role, decision.code) == (Role.WAITING, "FailoverHeld")
    assert "not taking over" in decision.reason
    assert mend in decision.reason
    assert decision.state.promotion is None


def test_it_takes_over_by_order_all_the_same() -> None:
    scene = Scene(persisted=HELD)
    decision = lost(scene, orders=(Order("o", Action.FORCE_PRIMARY),))
    assert decision.effects == (StopSecondary(),)


def test_resumed_it_takes_over() -> None:
    scene = Scene(persisted=HELD)
    persisted = lost(scene, orders=(Order("o", Action.RESUME),)).effects[-1]
    assert persisted == Persist(Persisted(intent=2, held=False))
    decision = scene.see(
        START + 14.0,
        engine=LOST,
        probe=ProbeView(START + 13.2, START + 13.4),
        outcomes=(Outcome(persisted),),
        **heard(START + 10.0),
    )
    assert decision.code == "PeerLost"


def test_a_restarted_primary_is_not_replaced() -> None:
    scene = Scene(persisted=HELD)
    decision = scene.see(
        START + 10.0, engine=IN_SYNC, **heard(START + 10.0, serving=False, last_role="primary", held=True)
    )
    assert decision.code == "FailoverHeld"


def test_a_failing_application_stays_where_it_is() -> None:
    scene = Scene(persisted=HELD).serving()
    for epoch in range(1, 6):
        now = START + 20.0 + epoch
        failed = {**PRIMARY, "workload": WorkloadView(Phase.FAILED, epoch)}
        decision = scene.see(now, **failed, **heard(now, replace(FOLLOWING, held=True)))
    assert decision.state.hand_over is None
    assert "failover is held by order" in decision.reason


def test_the_order_reaches_the_other_node_and_forgives_nothing() -> None:
    scene = Scene()
    scene.state = scene.state.having(app_failed=True)
    decision = scene.see(START + 1.0, **heard(START + 1.0, intent=4, held=True))
    assert decision.state.to_persist == Persisted(intent=4, held=True)
    assert decision.state.app_failed


def test_of_two_orders_given_at_once_the_first_nodes_holds_on_both() -> None:
    message = says(intent=1, held=True)
    first, second = Scene(persisted=Persisted(intent=1)), Scene(persisted=Persisted(intent=1))
    second.state = second.state.having(
        settings=replace(second.state.settings, node="b", peer="a", nodes=("a", "b"))
    )
    assert first.see(START + 1.0, **heard(START + 1.0, message)).state.to_persist is None
    adopted = second.see(START + 1.0, **heard(START + 1.0, replace(message, node="a"))).state.to_persist
    assert adopted == Persisted(intent=1, held=True)


@pytest.mark.parametrize("held", [False, True])
def test_an_order_for_what_is_so_already_changes_nothing(held: bool) -> None:
    scene = Scene(persisted=Persisted(intent=3, held=held)).serving()
    action = Action.HOLD if held else Action.RESUME
    decision = scene.see(
        START + 11.0,
        **PRIMARY,
        **heard(START + 11.0, replace(FOLLOWING, intent=3, held=held)),
        orders=(Order("o", action),),
    )
    assert decision.answers[0].state == "done"
    assert decision.state.to_persist is None


def test_a_hold_counts_from_the_order_on() -> None:
    scene = Scene()
    scene.see(START + 10.0, engine=IN_SYNC, **heard(START + 10.0))
    ordered = scene.see(START + 13.0, engine=LOST, orders=(Order("o", Action.HOLD),), **heard(START + 10.0))
    assert ordered.effects[-1] == Persist(Persisted(intent=1, held=True))
    probe = ProbeView(START + 13.2, START + 13.4)
    busy = ordered.effects[-1]
    decision = scene.see(START + 13.9, engine=LOST, probe=probe, busy=busy, **heard(START + 10.0))
    assert decision.code == "FailoverHeld"
    assert decision.state.promotion is None
