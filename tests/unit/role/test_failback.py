"""The unasked return to the preferred node: only when in sync, after a stable time, in the window, not while held."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.role.scene import FOLLOWING, PRIMARY, RUNNING, SERVING, START, Scene, heard
from twinhull_sidecar.role.model import Decision, Persisted, Phase

AFTER = 30.0


def away(**changes: Any) -> Scene:
    """Node a serves in sync with b, the preferred node."""
    settings = {"preferred_node": "b", "failback": "Automatic", "failback_after": AFTER, **changes}
    return Scene(**settings).serving(START + 10.0)


def later(scene: Scene, seconds: float, **fields: Any) -> Decision:
    """The next call, so many seconds after the module began to be in sync."""
    now = START + 10.0 + seconds
    return scene.see(now, **{**PRIMARY, **heard(now, FOLLOWING), **fields})


def test_it_returns_after_the_stable_time_and_not_before() -> None:
    scene = away()
    assert later(scene, AFTER - 1).code == "InSync"
    found = later(scene, AFTER + 1)
    assert found.code == "FailingBack"
    assert found.reason == "Returning to b, the preferred node: it has been in sync for 31 s"
    assert later(scene, AFTER + 1.1).reason == "Handing over to b (Failback)"


@pytest.mark.parametrize(
    "changes", [{"failback": "Manual"}, {"preferred_node": "a"}, {"preferred_node": None}], ids=str
)
def test_it_stays_where_it_is(changes: dict[str, Any]) -> None:
    scene = away(**changes)
    assert later(scene, 10 * AFTER).code == "InSync"


def test_a_break_begins_the_wait_anew() -> None:
    scene = away()
    later(scene, AFTER - 1, engine=replace(SERVING, in_sync=False, syncing=True))
    assert later(scene, AFTER + 1).code == "InSync"
    assert later(scene, 2 * AFTER + 0.5).code == "InSync"
    assert later(scene, 2 * AFTER + 1.5).code == "FailingBack"


def test_it_waits_for_the_window_and_for_the_application() -> None:
    scene = away()
    assert later(scene, AFTER + 1, failback_window=False).code == "InSync"
    assert later(scene, AFTER + 2, workload=replace(RUNNING, phase=Phase.STARTING)).code == "InSync"
    assert later(scene, AFTER + 3).code == "FailingBack"


def test_a_held_failover_holds_the_return_too() -> None:
    scene = away()
    scene.state = scene.state.having(persisted=Persisted(intent=1, held=True))
    assert later(scene, 10 * AFTER).code == "InSync"
    scene.state = scene.state.having(persisted=Persisted(intent=2))
    assert later(scene, 10 * AFTER + 1).code == "FailingBack"


def test_it_does_not_return_to_a_node_where_the_application_failed() -> None:
    scene = away()
    for seconds in (AFTER - 1, 10 * AFTER):
        now = START + 10.0 + seconds
        found = scene.see(now, **{**PRIMARY, **heard(now, replace(FOLLOWING, app_failed=True))})
        assert found.code == "InSync"


def test_after_a_return_that_failed_it_waits_again() -> None:
    scene = away()
    assert later(scene, AFTER + 1).code == "FailingBack"
    hand_over = scene.state.hand_over
    assert hand_over is not None
    scene.state = scene.state.having(hand_over=replace(hand_over, failed="b was lost on the way"))
    assert later(scene, AFTER + 2).code == "HandOverFailed"
    assert later(scene, AFTER + 3).code == "InSync"
    assert later(scene, 2 * AFTER + 2).code == "InSync"
    assert later(scene, 2 * AFTER + 4).code == "FailingBack"
