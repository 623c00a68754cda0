"""Which pod of a farm is replaced next: one node at a time, drained, while the other is up."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.operator.samples import farm, farm_answer, healthy_farm, silent
from twinhull_operator.report import Drain, Facts, NodeReport
from twinhull_operator.rollout import Pod, Step
from twinhull_operator.rollout_farm import next_farm_step
from twinhull_operator.status_farm import read_drain, render_drain

NOW = 5000.0
OLD_A = Pod("a", "ua", "node-a", "old", deleting=False, sidecar_running=True)
OLD_B = Pod("b", "ub", "node-b", "old", deleting=False, sidecar_running=True)
NEW_A, NEW_B = replace(OLD_A, template_hash="new"), replace(OLD_B, template_hash="new")
A, B = healthy_farm()
JUST_B = Drain("node-b", NOW - 1)


def step(
    pods: list[Pod], reports: list[NodeReport], drained: Drain | None = None, template: str = "new"
) -> Step:
    """The next step towards the template ``new``."""
    return next_farm_step(template, pods, Facts(farm(), reports, {}, NOW, drained=drained))


def draining(node: str, connections: int, **fields: object) -> NodeReport:
    """A node that was told to take no new clients."""
    return farm_answer(node, "Draining", draining=True, connections=connections, **fields)


def test_drain_wait_replace_resume_then_the_announcer() -> None:
    assert step([NEW_A, NEW_B], [A, B]) == Step("none", "all pods are up to date")
    first = step([OLD_A, OLD_B], [A, B])
    assert (first.action, first.pod, first.drained) == ("drain", OLD_B, Drain("node-b", NOW))
    # The order has not shown in the status yet: given again, the time stays.
    again = step([OLD_A, OLD_B], [A, B], JUST_B)
    assert (again.action, again.pod, again.drained) == ("drain", OLD_B, JUST_B)
    wait = step([OLD_A, OLD_B], [A, draining("node-b", 7)], JUST_B)
    assert (wait.action, wait.reason) == ("wait", "node-b is drained: 7 connections left")
    empty = step([OLD_A, OLD_B], [A, draining("node-b", 0)], JUST_B)
    assert (empty.action, empty.pod, empty.drained) == ("delete", OLD_B, JUST_B)
    assert step([OLD_A, replace(OLD_B, deleting=True)], [A, silent("node-b")], JUST_B).action == "wait"
    quiet = step([OLD_A, NEW_B], [A, silent("node-b")], JUST_B)
    assert (quiet.action, quiet.drained) == ("wait", JUST_B)
    back = step([OLD_A, NEW_B], [A, draining("node-b", 0)], JUST_B)
    assert (back.action, back.pod, back.drained) == ("resume", NEW_B, JUST_B)
    starting = [A, farm_answer("node-b", "Waiting")]
    held = step([OLD_A, NEW_B], starting, Drain("node-b", NOW - 20))
    assert (held.action, held.reason) == ("wait", "waits until node-b is up; still to do: node-a")
    assert held.drained is None
    last = step([OLD_A, NEW_B], [A, B])
    assert (last.action, last.pod, last.drained) == ("drain", OLD_A, Drain("node-a", NOW))


def test_connections_that_do_not_end_are_waited_for_as_long_as_the_application_may_take_to_stop() -> None:
    reports = [A, draining("node-b", 3)]
    assert step([OLD_A, OLD_B], reports, Drain("node-b", NOW - 29)).action == "wait"
    late = step([OLD_A, OLD_B], reports, Drain("node-b", NOW - 30))
    assert (late.action, late.reason) == ("delete", "3 connections to node-b did not end within 30 s")
    # A sidecar that does not take the order stops nothing: told to end, it drains by itself.
    assert step([OLD_A, OLD_B], [A, B], Drain("node-b", NOW - 29)).action == "drain"
    assert step([OLD_A, OLD_B], [A, B], Drain("node-b", NOW - 30)).action == "delete"


def test_an_administrators_drain_is_not_cut_short_and_not_undone() -> None:
    busy = step([OLD_A, OLD_B], [A, draining("node-b", 3)])
    assert (busy.action, busy.drained) == ("wait", None)
    assert "by an administrator" in busy.reason
    assert step([OLD_A, OLD_B], [A, draining("node-b", 0)]).action == "delete"
    assert step([OLD_A, NEW_B], [A, draining("node-b", 0)]).action == "wait"


def test_the_last_node_that_is_up_is_never_taken() -> None:
    other = farm_answer("node-b", "Waiting", reason="checker web does not pass")
    assert step([OLD_A, NEW_B], [A, other]).action == "wait"
    first = step([OLD_A, OLD_B], [A, other])
    assert (first.action, first.pod) == ("delete", OLD_B)


@pytest.mark.parametrize("serving", [{"connections": 4}, {"share": 0.5}])
def test_a_node_that_waits_but_still_serves_is_drained_like_one_that_is_up(serving: dict[str, float]) -> None:
    # Its check fails: it takes nothing new, and its connections live on.
    unwell = farm_answer("node-b", "Waiting", reason="checker web does not pass", **serving)
    first = step([OLD_A, OLD_B], [A, unwell])
    assert (first.action, first.pod, first.drained) == ("drain", OLD_B, Drain("node-b", NOW))
    told = farm_answer("node-b", "Waiting", draining=True, **serving)
    assert step([OLD_A, OLD_B], [A, told], JUST_B).action == "wait"
    assert step([OLD_A, OLD_B], [A, told], Drain("node-b", NOW - 30)).action == "delete"
    quiet = farm_answer("node-b", "Waiting", draining=True)
    assert step([OLD_A, OLD_B], [A, quiet], JUST_B).action == "delete"


def test_a_silent_sidecar_stops_the_rollout_and_a_pod_that_never_ran_does_not() -> None:
    assert step([OLD_A, OLD_B], [A, silent("node-b")]).action == "wait"
    broken = replace(OLD_B, sidecar_running=False)
    assert step([OLD_A, broken], [A, silent("node-b")]).pod == broken


def test_a_specification_that_no_node_gets_up_with_is_replaced_on_one_node_first() -> None:
    waiting = [farm_answer(node, "Waiting") for node in ("node-a", "node-b")]
    assert step([OLD_A, OLD_B], waiting).action == "delete"
    # The new one does not get up either: the other node is left alone, it may recover by itself.
    assert step([NEW_A, OLD_B], waiting).action == "wait"


def test_a_farm_that_was_stopped_is_replaced_at_once() -> None:
    stopped = [farm_answer(node, "Stopped") for node in ("node-a", "node-b")]
    assert step([OLD_A, OLD_B], stopped).action == "delete"
    assert step([NEW_A, OLD_B], stopped).pod == OLD_B


@pytest.mark.parametrize("template", ["old", ""])
def test_a_drain_that_is_no_longer_needed_is_taken_back(template: str) -> None:
    found = step([OLD_A, OLD_B], [A, draining("node-b", 3)], JUST_B, template)
    assert (found.action, found.pod) == ("resume", OLD_B)
    # An order that has just been given may not show yet.
    assert step([OLD_A, OLD_B], [A, B], JUST_B, template).drained == JUST_B
    assert step([OLD_A, OLD_B], [A, B], Drain("node-b", NOW - 11), template) == Step(
        "none", "all pods are up to date"
    )


def test_the_record_of_a_drain_is_read_as_it_was_written() -> None:
    assert read_drain({"rolloutDrain": render_drain(JUST_B)}) == JUST_B
    assert render_drain(None) is None
    for damaged in (None, {}, {"node": "x"}, {"node": "x", "since": "yesterday"}):
        assert read_drain({"rolloutDrain": damaged}) is None
