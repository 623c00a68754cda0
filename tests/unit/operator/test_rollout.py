"""Which pod is replaced next."""

from __future__ import annotations

from dataclasses import replace

from tests.unit.operator.samples import answer, healthy, module, resource, silent
from twinhull_operator.constants import ANNOTATION_UNPROTECTED
from twinhull_operator.module import read_module
from twinhull_operator.report import NodeReport, find_serving
from twinhull_operator.rollout import Pod, Step, next_step, read_pod

OLD_A = Pod("a", "ua", "node-a", "old", deleting=False, sidecar_running=True)
OLD_B = Pod("b", "ub", "node-b", "old", deleting=False, sidecar_running=True)
NEW_A, NEW_B = replace(OLD_A, template_hash="new"), replace(OLD_B, template_hash="new")


def step(
    pods: list[Pod], reports: list[NodeReport] | None = None, *, in_sync: bool = True, **said: bool
) -> Step:
    """The next step towards the template ``new``."""
    known = reports or healthy()
    return next_step("new", pods, known, find_serving(module(), known, {}), in_sync=in_sync, **said)


def test_secondary_first_then_a_switchover_then_the_old_primary() -> None:
    assert step([NEW_A, NEW_B]).action == "none"
    first = step([OLD_A, OLD_B])
    assert (first.action, first.pod) == ("delete", OLD_B)
    assert step([OLD_A, replace(OLD_B, deleting=True)]).action == "wait"
    assert step([OLD_A, NEW_B]).action == "switchover"
    moved = [answer("node-a", "Secondary"), answer("node-b", "Primary")]
    assert step([OLD_A, NEW_B], moved).pod == OLD_A


def test_nothing_is_taken_down_while_the_pair_is_not_in_sync() -> None:
    assert step([OLD_A, OLD_B], in_sync=False).action == "wait"
    assert step([OLD_A, NEW_B], in_sync=False).action == "wait"


def test_nothing_is_taken_down_while_failover_is_held() -> None:
    found = step([OLD_A, OLD_B], held=True)
    assert found.action == "wait"
    assert "an administrator holds it" in found.reason


def test_a_node_that_waits_because_failover_is_held_keeps_its_process() -> None:
    held = answer("node-b", "Waiting", reason_code="FailoverHeld")
    for unreachable in (silent("node-a"), silent("node-a", healthy()[0])):
        assert step([OLD_A, OLD_B], [unreachable, held], in_sync=False, held=True).action == "wait"


def test_by_order_it_rolls_unprotected_and_what_serves_goes_last_in_place() -> None:
    catching_up = [answer("node-a", "Alone"), answer("node-b", "Syncing")]
    assert step([OLD_A, OLD_B], catching_up, in_sync=False).action == "wait"
    first = step([OLD_A, OLD_B], catching_up, in_sync=False, unprotected=True)
    assert (first.action, first.pod) == ("delete", OLD_B)
    assert "by order" in first.reason
    last = step([OLD_A, NEW_B], catching_up, in_sync=False, unprotected=True)
    assert (last.action, last.pod) == ("delete", OLD_A)
    # A node without power: its pod cannot be replaced, the other's can.
    lonely = [answer("node-a", "Alone"), silent("node-b")]
    assert step([OLD_A, OLD_B], lonely, in_sync=False, unprotected=True).pod == OLD_A
    assert step([NEW_A, OLD_B], lonely, in_sync=False, unprotected=True).action == "wait"


def test_as_soon_as_the_pair_is_protected_it_goes_the_gentle_way_although_more_was_allowed() -> None:
    assert step([OLD_A, NEW_B], unprotected=True).action == "switchover"


def test_only_the_generation_that_was_named_may_roll_unprotected() -> None:
    made = resource()
    assert not read_module(made).roll_unprotected
    made["metadata"]["annotations"] = {ANNOTATION_UNPROTECTED: "1"}
    assert read_module(made).roll_unprotected
    made["metadata"]["generation"] = 2
    assert not read_module(made).roll_unprotected


def test_a_silent_sidecar_stops_the_rollout() -> None:
    assert step([OLD_A, OLD_B], [healthy()[0], silent("node-b")]).action == "wait"


def test_a_pod_that_never_ran_is_replaced_at_once() -> None:
    broken = replace(OLD_B, sidecar_running=False)
    assert step([OLD_A, broken], [healthy()[0], silent("node-b")], in_sync=False).pod == broken


def test_nodes_that_wait_get_the_new_specification_it_may_be_what_they_wait_for() -> None:
    waiting = [answer("node-a", "Waiting"), answer("node-b", "Waiting")]
    assert step([OLD_A, OLD_B], waiting, in_sync=False).action == "delete"


def test_the_moment_in_a_switchover_when_nobody_serves_is_left_alone() -> None:
    between = [answer("node-a", "Secondary"), answer("node-b", "Secondary")]
    assert step([OLD_A, OLD_B], between, in_sync=False).action == "wait"


def test_a_pod_as_the_api_shows_it() -> None:
    pod = read_pod(
        {
            "metadata": {
                "name": "p",
                "uid": "u",
                "annotations": {"twinhull.dev/template-hash": "h"},
                "deletionTimestamp": "x",
            },
            "spec": {"nodeName": "node-a"},
            "status": {
                "initContainerStatuses": [{"name": "twinhull", "state": {"running": {}}}],
                "containerStatuses": [{"name": "db", "state": {"waiting": {"reason": "ImagePullBackOff"}}}],
            },
        }
    )
    expected = Pod("p", "u", "node-a", "h", deleting=True, sidecar_running=True, problem=pod.problem)
    assert pod == expected
    assert pod.problem == "container db: ImagePullBackOff"
