"""A node that must give up serving and cannot (DESIGN.md R9): the order, and what it says when that takes too long."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import PRIMARY, RECORD, SERVING, START, Scene, heard, says
from twinhull_sidecar.role.model import (
    AbortPrimary,
    EngineView,
    Fence,
    KillApplication,
    Phase,
    WithdrawVip,
    WorkloadView,
)
from twinhull_sidecar.role.undo import UNDO_PATIENCE

AHEAD = says(generation="g2", history=("g1",), alone=True)


def test_writes_are_blocked_first_then_the_application_is_killed_then_the_address_goes_then_the_mount() -> (
    None
):
    scene = Scene().serving()
    decision = scene.see(START + 11.0, **PRIMARY, **heard(START + 11.0, AHEAD))
    assert decision.effects == (Fence(), KillApplication(), WithdrawVip())
    seen = {**PRIMARY, "vip_held": False, "workload": WorkloadView(Phase.HELD, 1)}
    decision = scene.see(START + 11.1, **seen, **heard(START + 11.1, AHEAD))
    assert decision.effects == (Fence(), AbortPrimary())


def test_what_cannot_be_undone_is_said_and_tried_on() -> None:
    scene = Scene().serving()
    scene.see(START + 11.0, **PRIMARY, **heard(START + 11.0, AHEAD))
    late = START + 11.0 + UNDO_PATIENCE
    decision = scene.see(late - 0.5, **PRIMARY, **heard(late - 0.5, AHEAD))
    assert decision.stuck == ""
    decision = scene.see(late + 0.5, **PRIMARY, **heard(late + 0.5, AHEAD))
    assert decision.stuck == (
        "This node gave up serving 10 s ago, but the application still runs and the virtual address is still held "
        "and the volumes are still mounted"
    )
    assert decision.reason.startswith(decision.stuck)
    assert KillApplication() in decision.effects


def test_once_undone_it_is_over() -> None:
    scene = Scene().serving()
    scene.see(START + 11.0, **PRIMARY, **heard(START + 11.0, AHEAD))
    idle = {"engine": EngineView(), "record": RECORD}
    decision = scene.see(START + 40.0, **idle, **heard(START + 40.0, AHEAD))
    assert (decision.stuck, decision.state.undoing_since) == ("", None)


def test_a_serving_node_is_never_stuck() -> None:
    scene = Scene().serving()
    gone = replace(SERVING, connected=False, in_sync=False, disconnected_at=START + 10.0)
    for second in range(60):
        now = START + 11.0 + second
        decision = scene.see(now, **{**PRIMARY, "engine": gone, **heard(START + 10.0)})
    assert decision.stuck == ""
