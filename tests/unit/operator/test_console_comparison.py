"""A comparison of both nodes' files in the console: when it can be ordered, how it is followed, what is shown."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.console_bench import MIRROR_KEY, mirror_view, serving
from tests.unit.operator.samples import answer, healthy, silent
from twinhull_operator.console.follow import LATE, advance
from twinhull_operator.console.given import Given
from twinhull_operator.console.page import render_page, situation_of
from twinhull_operator.console.plan import Plan
from twinhull_operator.console.plans import list_plans
from twinhull_operator.console.sync_rate import SyncRate
from twinhull_operator.report import NodeReport
from twinhull_sidecar.api import sidecar_pb2 as pb

GIVEN = Given(
    id="1",
    kind="MirrorModule",
    action="verify",
    node="",
    asked="node-a",
    user="u",
    given=100.0,
    compared_before=50.0,
)
DONE = pb.LastOrder(id="1", action="verify", state="done", message="Comparing with node-b")
BLOCK = pb.Difference(volume="data", path="base/1", what="content", offset=8192, length=4096)


def compared(**fields: Any) -> list[NodeReport]:
    """A healthy mirror whose primary says this of a comparison."""
    reports = healthy()
    assert reports[0].status is not None
    reports[0].status.verification.CopyFrom(pb.Verification(**fields))
    reports[0].status.last_order.CopyFrom(DONE)
    return reports


def plans(reports: list[NodeReport]) -> dict[str, Plan]:
    return {plan.key: plan for plan in list_plans(situation_of(mirror_view(reports), 1.0))}


def shown(reports: list[NodeReport]) -> dict[str, Any]:
    """The comparison on the page."""
    found: dict[str, Any] = render_page(mirror_view(reports), SyncRate(), (), 1.0)["verification"]
    return found


def test_a_plan_says_what_a_comparison_does_and_what_a_repair_does_besides() -> None:
    found = plans(healthy())
    assert "Nothing is changed" in " ".join(found["verify::"].effects)
    repair = " ".join(found["repair::"].effects)
    assert "node-b gets what node-a has" in repair
    assert "switch over first" in repair
    assert {found[key].danger for key in ("verify::", "repair::")} == {"calm"}


def test_nothing_is_compared_twice_at_once_nor_with_a_node_that_is_not_in_sync() -> None:
    running = plans(compared(running=True, begun=60.0))
    assert "being compared already" in running["verify::"].refusal
    assert "being compared already" in running["repair::"].refusal
    primary, _ = healthy()
    assert primary.status is not None
    primary.status.in_sync = False
    behind = plans([primary, answer("node-b", "Syncing")])
    assert "node-b is not in sync" in behind["verify::"].refusal
    nobody = plans([answer("node-a", "Waiting"), answer("node-b", "Waiting")])
    assert "No node serves" in nobody["repair::"].refusal


@pytest.mark.parametrize(
    ("fields", "state", "message"),
    [
        # The one before the order says nothing of this one.
        ({"begun": 50.0, "ended": 60.0, "found": 3}, "running", "waits until the comparison begins"),
        ({"begun": 101.0, "running": True, "files": 7}, "running", "7 files compared"),
        ({"begun": 101.0, "running": True, "files": 7, "found": 2}, "running", "2 differences so far"),
        ({"begun": 101.0, "ended": 102.0, "files": 9}, "done", "9 files compared, no difference"),
        (
            {"begun": 101.0, "ended": 102.0, "found": 1, "differences": [BLOCK]},
            "failed",
            "1 difference, the first: content of data/base/1 at byte 8192, 4096 bytes",
        ),
        (
            {"begun": 101.0, "ended": 102.0, "found": 2, "repaired": 2, "repair": True},
            "done",
            "2 differences, all repaired",
        ),
        (
            {"begun": 101.0, "ended": 102.0, "found": 2, "repair": True, "resync": True},
            "running",
            "names differ",
        ),
        ({"begun": 101.0, "ended": 102.0, "stopped": "the peer was lost"}, "failed", "the peer was lost"),
    ],
)
def test_an_order_to_compare_is_followed_to_what_it_found(
    fields: dict[str, Any], state: str, message: str
) -> None:
    found = advance(GIVEN, compared(**fields), 103.0)
    assert (found.state, message in found.message) == (state, True), found


def test_a_comparison_may_take_longer_than_other_orders_but_not_begin_later() -> None:
    now = 101.0 + LATE
    assert advance(GIVEN, compared(begun=101.0, running=True), now).state == "running"
    assert advance(GIVEN, compared(begun=50.0), now).state == "late"


def test_a_comparison_whose_end_nobody_saw_says_so() -> None:
    running = advance(GIVEN, compared(begun=101.0, running=True), 102.0)
    unknown = advance(running, [silent("node-a"), silent("node-b")], 103.0)
    assert (unknown.state, "not known yet" in unknown.message) == ("running", True)
    moved = [answer("node-a", "Secondary"), answer("node-b", "Primary")]
    for reports in (moved, compared(begun=110.0, ended=111.0)):
        lost = advance(running, reports, 112.0)
        assert (lost.state, "its end was not seen" in lost.message) == ("failed", True)


def test_what_differs_is_shown_with_path_and_block() -> None:
    found = shown(compared(begun=1.0, ended=2.0, files=4, bytes=9000, found=3, differences=[BLOCK]))
    assert (found["state"], found["text"], found["unlisted"]) == ("differs", "3 differences", 2)
    assert found["differences"] == [
        {"place": "content of data/base/1 at byte 8192, 4096 bytes", "detail": "", "repaired": False}
    ]


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"running": True}, "running"),
        ({"ended": 2.0}, "equal"),
        ({"ended": 2.0, "found": 1, "repaired": 1}, "repaired"),
        ({"ended": 2.0, "found": 1, "resync": True}, "resyncing"),
        ({"ended": 2.0, "stopped": "the peer was lost"}, "incomplete"),
        ({"ended": 2.0, "stopped": "the peer was lost", "found": 1}, "differs"),
    ],
)
def test_each_outcome_has_its_word(fields: dict[str, Any], state: str) -> None:
    assert shown(compared(begun=1.0, **fields))["state"] == state


def test_a_comparison_that_the_sidecars_have_forgotten_is_shown_as_the_resource_has_it() -> None:
    view = mirror_view()
    assert render_page(view, SyncRate(), (), 1.0)["verification"] is None
    view.status.update({"verify": "Equal: 7 files", "lastVerifyTime": "1970-01-01T00:01:40Z"})
    found = render_page(view, SyncRate(), (), 1.0)["verification"]
    assert (found["state"], found["text"], found["ended"]) == ("kept", "Equal: 7 files", 100.0)


async def test_an_order_to_repair_reaches_the_primary_and_needs_its_own_verb() -> None:
    async with serving() as bench:
        bench.kube.rights["bob"] = frozenset({"get", "verify"})
        async with bench.page() as page:
            await page.login("t-bob")
            assert (await page.order(MIRROR_KEY, "repair::"))[0] == 403
            assert (await page.order(MIRROR_KEY, "verify::"))[0] == 202
        async with bench.page() as page:
            await page.login()
            # The first one has not shown to have begun.
            assert (await page.order(MIRROR_KEY, "repair::"))[0] == 409
        bench.modules.shown[0] = mirror_view(compared(begun=1.0, ended=2.0))
        assert [(order["node"], order["action"]) for order in bench.modules.orders] == [("node-a", "verify")]
