"""What follows when a checker fails: restart, hand over, stop; and never back and forth."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.role.scene import FOLLOWING, PRIMARY, START, Scene, heard
from twinhull_sidecar.role.model import (
    Action,
    Complaint,
    Decision,
    Order,
    Outcome,
    PeerMessage,
    Persist,
    Phase,
    StartApplication,
    StopApplication,
    WithdrawVip,
    WorkloadView,
)

NOW = START + 10.0


def complain(
    scene: Scene, now: float, complaint: Complaint, message: PeerMessage = FOLLOWING, **more: object
) -> Decision:
    work = WorkloadView(Phase.RUNNING, complaint.epoch or 1)
    seen = {**PRIMARY, "workload": work, "complaints": (complaint,), **heard(now, message), **more}
    return scene.see(now, **seen)


def about(epoch: int | None, action: str = "Restart") -> Complaint:
    return Complaint("web", action, "no answer within 1 s", epoch)  # type: ignore[arg-type]


def test_an_application_that_does_not_answer_is_stopped_and_started_again() -> None:
    scene = Scene(max_restarts=2).serving()
    found = complain(scene, NOW, about(1))
    assert found.effects[-1] == StopApplication(30.0)
    assert found.reason == "Checker web failed (no answer within 1 s): restart 1 of 2 within 600 s"
    held = {**PRIMARY, "workload": WorkloadView(Phase.HELD, 1)}
    found = scene.see(NOW + 0.1, **held, **heard(NOW + 0.1, FOLLOWING))
    assert found.effects[-1] == StartApplication(2)


def test_one_failure_is_counted_once_however_often_it_is_seen() -> None:
    scene = Scene(max_restarts=2).serving()
    for step in range(5):
        found = complain(scene, NOW + step / 10, about(1))
    assert len(found.state.failures) == 1


def test_when_restarts_are_used_up_the_other_node_is_tried() -> None:
    scene = Scene(max_restarts=1).serving()
    complain(scene, NOW, about(1))
    found = complain(scene, NOW + 5.0, about(2))
    assert (found.code, found.effects[-1]) == ("CheckerFailed", WithdrawVip())
    assert found.message.app_failed
    assert found.state.hand_over is not None


def test_what_failed_on_both_nodes_is_stopped_with_the_reason_and_stays_so() -> None:
    scene = Scene(max_restarts=0).serving()
    failed_there = replace(FOLLOWING, app_failed=True)
    found = complain(scene, NOW, about(1), failed_there)
    assert found.code == "ApplicationFailedOnBoth"
    assert "checker web failed (no answer within 1 s)" in found.reason
    # The application has stopped, so nothing complains any more: it must not come back for that.
    stopped = {**PRIMARY, "workload": WorkloadView(Phase.HELD, 1), "vip_held": False}
    found = scene.see(NOW + 1.0, **stopped, **heard(NOW + 1.0, failed_there))
    assert found.code == "ApplicationFailedOnBoth"
    assert not any(isinstance(one, StartApplication) for one in found.effects)


def test_failover_comes_at_once_where_that_is_the_action() -> None:
    found = complain(Scene().serving(), NOW, about(1, "Failover"))
    assert found.reason == "Checker web failed (no answer within 1 s): handing over to b"
    assert found.state.hand_over is not None


def test_with_nowhere_to_go_the_stream_is_looked_after_and_a_restart_tried_later() -> None:
    scene = Scene().serving()
    behind = replace(FOLLOWING, in_sync=False)
    assert complain(scene, NOW, about(1, "Failover"), behind).code == "InSync"
    found = complain(scene, NOW + 10.1, about(1, "Failover"), behind)
    assert found.effects[-1] == StopApplication(30.0)
    assert found.reason.endswith("too often, and b is not in sync: trying again")


def test_stop_is_durable_before_anything_is_stopped_and_names_the_checker() -> None:
    scene = Scene().serving()
    found = complain(scene, NOW, about(1, "Stop"))
    persist = found.effects[-1]
    assert isinstance(persist, Persist)
    assert persist.persisted.stopped
    again = complain(scene, NOW + 0.1, about(1, "Stop"), busy=persist)
    assert again.state.to_persist == persist.persisted, "the wish does not grow with each look"
    found = complain(scene, NOW + 0.2, about(1, "Stop"), outcomes=(Outcome(persist),))
    assert (found.code, found.effects[-1]) == ("Stopping", WithdrawVip())
    assert found.reason == "Stopping the module: Checker web failed (no answer within 1 s)"
    found = complain(scene, NOW + 0.3, about(1), orders=(Order("o", Action.START),))
    assert found.state.stop_cause == ""


def test_a_node_whose_surroundings_fail_is_left_once_for_one_that_is_better() -> None:
    scene = Scene().serving()
    found = complain(scene, NOW, about(None, "Failover"))
    assert (found.code, found.message.app_failed) == ("CheckerFailed", False)
    scene = Scene().serving()
    scene.state = scene.state.having(left_at=NOW - 60.0)
    assert complain(scene, NOW, about(None, "Failover")).code == "InSync"


def test_a_node_is_not_left_for_one_that_is_no_better() -> None:
    unfit = replace(FOLLOWING, unfit="checker web failed there (no answer)")
    found = complain(Scene().serving(), NOW, about(None, "Failover"), unfit)
    assert found.code == "InSync"
    assert found.message.unfit == "checker web failed there (no answer within 1 s)"


def test_a_held_failover_holds_for_checkers_too() -> None:
    held = replace(FOLLOWING, held=True, intent=4)
    scene = Scene().serving()
    scene.state = scene.state.having(persisted=replace(scene.state.persisted, held=True, intent=4))
    assert complain(scene, NOW, about(None, "Failover"), held).code == "InSync"


def test_an_application_that_ends_may_be_failed_over_at_once() -> None:
    scene = Scene(on_exit="Failover", exit_threshold=1).serving()
    work = WorkloadView(Phase.FAILED, 1, "exit code 1")
    found = scene.see(NOW, **{**PRIMARY, "workload": work}, **heard(NOW, FOLLOWING))
    assert found.reason == "The application ended by itself (exit code 1): handing over to b"
