"""The application fails: restart, fail over, give up."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import FOLLOWING, PRIMARY, SERVING, START, Scene, heard
from twinhull_sidecar.role.model import (
    Action,
    Order,
    Phase,
    StartApplication,
    StopApplication,
    WithdrawVip,
    WorkloadView,
)

NOW = START + 10.0


def fail(scene: Scene, now: float, epoch: int, message: object = FOLLOWING) -> None:
    """The application of that epoch ended by itself."""
    work = WorkloadView(Phase.FAILED, epoch, "exit code 1")
    scene.see(now, **{**PRIMARY, "workload": work}, **heard(now, message))  # type: ignore[arg-type]


def test_restarts_with_a_new_epoch() -> None:
    scene = Scene(max_restarts=2).serving()
    fail(scene, NOW + 1.0, 1)
    assert scene.last is not None
    assert scene.last.effects[-1] == StartApplication(2)
    assert scene.last.reason == "The application ended by itself (exit code 1): restart 1 of 2 within 600 s"


def test_hands_over_after_too_many() -> None:
    scene = Scene(max_restarts=1).serving()
    fail(scene, NOW + 1.0, 1)
    fail(scene, NOW + 2.0, 2)
    assert scene.last is not None
    assert (scene.last.code, scene.last.effects[-1]) == ("ApplicationFailed", WithdrawVip())
    assert scene.last.message.app_failed
    assert scene.last.state.hand_over is not None
    assert scene.last.state.hand_over.cause == "ApplicationFailed"


def test_old_failures_are_forgotten() -> None:
    scene = Scene(max_restarts=1).serving()
    fail(scene, NOW + 1.0, 1)
    fail(scene, NOW + 700.0, 2)
    assert scene.last is not None
    assert scene.last.code == "ApplicationRestarting"


def test_failed_on_both_nodes_ends_in_waiting() -> None:
    scene = Scene(max_restarts=0).serving()
    fail(scene, NOW + 1.0, 1, replace(FOLLOWING, app_failed=True))
    assert scene.last is not None
    assert scene.last.code == "ApplicationFailedOnBoth"
    assert (
        scene.last.reason
        == "The application failed too often on both nodes, here last (the application ended by itself "
        "(exit code 1)): stopped until an administrator orders start"
    )


def test_without_a_peer_it_is_tried_again_slowly() -> None:
    scene = Scene(max_restarts=0).serving()
    behind = replace(FOLLOWING, in_sync=False)
    fail(scene, NOW + 1.0, 1, behind)
    assert scene.last is not None
    assert scene.last.effects[1:] == ()
    fail(scene, NOW + 11.1, 1, behind)
    assert scene.last.effects[-1] == StartApplication(2)


def test_restart_by_order_is_no_failure() -> None:
    scene = Scene().serving()
    seen = scene.see(
        NOW + 1.0, **PRIMARY, orders=(Order("o", Action.RESTART),), **heard(NOW + 1.0, FOLLOWING)
    )
    assert seen.effects[-1] == StopApplication(30.0)
    held = {**PRIMARY, "workload": WorkloadView(Phase.HELD, 1)}
    assert scene.see(NOW + 1.1, **held, **heard(NOW + 1.1, FOLLOWING)).effects[-1] == StartApplication(2)
    done = {**PRIMARY, "workload": WorkloadView(Phase.RUNNING, 2)}
    seen = scene.see(NOW + 1.2, **done, **heard(NOW + 1.2, FOLLOWING))
    assert (seen.answers[0].state, seen.state.failures) == ("done", ())


def test_failed_storage_gives_the_role_to_a_peer_in_sync() -> None:
    broken = {**PRIMARY, "engine": replace(SERVING, error="EIO")}
    seen = Scene().serving().see(NOW + 1.0, **broken, **heard(NOW + 1.0, FOLLOWING))
    assert (seen.code, seen.reason) == ("StorageFailed", "This node's storage failed (EIO): b takes over")
