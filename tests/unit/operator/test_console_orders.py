"""Orders from the console: what is promised, what is sent, who is named, and how the end is followed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from tests.unit.operator.console_bench import (
    FARM_KEY,
    MIRROR_KEY,
    Bench,
    farm_view,
    mirror_view,
    read_event,
    serving,
)
from tests.unit.operator.samples import answer, farm_answer, healthy, healthy_farm, silent
from twinhull_operator.console.follow import LATE, advance
from twinhull_operator.console.given import Given
from twinhull_operator.console.page import situation_of
from twinhull_operator.console.plan import Plan
from twinhull_operator.console.plans import list_plans
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.report import NodeReport
from twinhull_sidecar.api import sidecar_pb2 as pb

SWITCHOVER = "switchover:node-a:"
FORCE = "force-primary:node-b:"


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    """A console of the test's own."""
    async with serving() as made:
        yield made


def plans(view: ModuleView) -> dict[str, Plan]:
    """All plans by key."""
    return {plan.key: plan for plan in list_plans(situation_of(view, 1.0))}


def waiting() -> list[NodeReport]:
    """node-a, the last primary, is silent; node-b must not serve by itself."""
    reason = "cannot know that its data is the newest"
    return [
        silent("node-a", healthy()[0]),
        answer("node-b", "Waiting", reason=reason, reason_code="NotNewest"),
    ]


async def test_an_order_reaches_the_sidecar_and_an_event_names_the_user(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        status, given = await page.order(MIRROR_KEY, SWITCHOVER)
        assert status == 202, given
        assert bench.modules.orders == [
            {
                "module": "db/postgres",
                "node": "node-a",
                "action": "switchover",
                "user": "alice (console)",
                "discard": False,
            }
        ]
        (event,) = bench.kube.events
        assert event["message"] == "alice ordered switchover of node-a: node-a accepted"
        assert (event["reason"], event["involvedObject"]["name"]) == ("ConsoleOrder", "postgres")


async def test_failover_is_held_by_one_click_and_resumed_by_the_next(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        status, given = await page.order(MIRROR_KEY, "hold::")
        assert status == 202, given
        assert [order["action"] for order in bench.modules.orders] == ["hold"]
    reports = healthy()
    order = Given("1", "MirrorModule", "hold", "", "node-a", "alice", given=1.0, answered=True)
    assert advance(order, reports, 2.0).message == "waits until node-a and node-b knows of it"
    for report in reports:
        assert report.status is not None
        report.status.failover_held = True
    assert advance(order, reports, 2.0).state == "done"
    found = plans(mirror_view(reports))
    assert "hold::" not in found
    assert found["resume::"].label == "Resume failover"


def test_resume_asks_the_node_that_waits_for_it() -> None:
    """The operator may not have noticed yet that the other one is gone."""
    primary, _ = healthy()
    held = answer("node-b", "Waiting", reason_code="FailoverHeld", failover_held=True)
    assert plans(mirror_view([primary, held]))["resume::"].asked == "node-b"


async def test_an_order_is_shown_until_its_end(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        async with page.http.get(f"{bench.base}/api/stream") as stream:
            await read_event(stream.content, "modules")
            _, given = await page.order(MIRROR_KEY, SWITCHOVER)
            shown = (await read_event(stream.content, "module"))["orders"]
            assert [(o["id"], o["state"], o["user"]) for o in shown] == [(given["id"], "running", "alice")]
            done = pb.LastOrder(id=given["id"], action="switchover", state="done", message="handed over")
            bench.modules.shown[0] = mirror_view(
                [
                    answer("node-a", "Secondary", in_sync=True, last_order=done),
                    answer("node-b", "Primary", in_sync=True, application=pb.Application(ready=True)),
                ]
            )
            shown = (await read_event(stream.content, "module"))["orders"]
            assert [(o["state"], o["message"]) for o in shown] == [("done", "handed over")]


async def test_a_sidecar_that_refuses_is_quoted(bench: Bench) -> None:
    bench.modules.reply = pb.OrderReply(accepted=False, message="it is just being promoted")
    async with bench.page() as page:
        await page.login()
        status, answered = await page.order(MIRROR_KEY, SWITCHOVER)
        assert (status, answered["error"]["code"]) == (409, "Refused")
        assert answered["error"]["message"] == "node-a refused: it is just being promoted"
        assert "refused" in bench.kube.events[0]["message"]


async def test_a_module_that_changed_since_it_was_read_is_shown_anew_and_nothing_is_done(
    bench: Bench,
) -> None:
    async with bench.page() as page:
        await page.login()
        _, plan = await page.get("/api/plan", module=FARM_KEY, plan="drain:node-a:")
        assert "New clients go to node-b." in plan["effects"]
        bench.modules.shown[1] = farm_view([healthy_farm()[0], farm_answer("node-b", "Waiting")])
        body = {"module": FARM_KEY, "plan": "drain:node-a:", "stamp": plan["stamp"]}
        status, answered = await page.post("/api/orders", body)
        assert (status, answered["error"]["code"]) == (409, "Changed")
        assert "NOBODY" in answered["error"]["plan"]["effects"][1]
        assert bench.modules.orders == []


async def test_of_two_administrators_at_once_the_second_is_told(bench: Bench) -> None:
    async with bench.page() as first, bench.page() as second:
        await first.login()
        await second.login()
        running = pb.LastOrder(id="1", action="switchover", state="running")
        primary, secondary = healthy()
        assert primary.status is not None
        primary.status.last_order.CopyFrom(running)
        bench.modules.shown[0] = mirror_view([primary, secondary])
        status, answered = await second.order(MIRROR_KEY, "restart:node-a:")
        assert (status, answered["error"]["code"]) == (409, "NotNow")
        assert "switchover on node-a" in answered["error"]["message"]


async def test_an_order_for_a_module_that_is_just_changing_role_is_refused_and_nothing_is_done(
    bench: Bench,
) -> None:
    """Ordered on a node itself, so the console knows of it by the sidecar's word alone."""
    async with bench.page() as page:
        await page.login()
        stamp = plans(mirror_view())[SWITCHOVER].stamp
        running = pb.LastOrder(id="x", action="switchover", state="running", message="Handing over to node-b")
        primary, secondary = healthy()
        assert primary.status is not None
        primary.status.last_order.CopyFrom(running)
        between = [answer("node-a", "Waiting", last_order=running), answer("node-b", "Secondary")]
        words = {
            "the hand-over has begun": (
                [primary, secondary],
                "NotNow",
                "switchover on node-a. Wait for its end",
            ),
            "nobody serves": (between, "Changed", "this order is no longer there. Nothing was done"),
        }
        for reports, code, text in words.values():
            bench.modules.shown[0] = mirror_view(reports)
            status, refused = await page.post(
                "/api/orders", {"module": MIRROR_KEY, "plan": SWITCHOVER, "stamp": stamp, "confirm": ""}
            )
            assert (status, refused["error"]["code"]) == (409, code)
            assert text in refused["error"]["message"]
        assert bench.modules.orders == []
        assert bench.kube.events == []


async def test_of_clicks_in_the_same_moment_one_is_carried_out(bench: Bench) -> None:
    bench.modules.delay = 0.05
    async with bench.page() as page:
        await page.login()
        answers = await asyncio.gather(*(page.order(FARM_KEY, "drain:node-b:") for _ in range(3)))
        assert sorted(status for status, _ in answers) == [202, 409, 409]
        assert any("alice has just ordered drain" in str(answered) for _, answered in answers)
        assert len(bench.modules.orders) == 1


async def test_what_may_lose_data_wants_the_nodes_name_typed(bench: Bench) -> None:
    bench.modules.shown[0] = mirror_view(waiting())
    async with bench.page() as page:
        await page.login()
        status, answered = await page.order(MIRROR_KEY, FORCE)
        assert (status, answered["error"]["code"]) == (400, "NotConfirmed")
        assert bench.modules.orders == []
        assert (await page.order(MIRROR_KEY, FORCE + "discard", confirm="node-b"))[0] == 202
        assert (bench.modules.orders[0]["node"], bench.modules.orders[0]["discard"]) == ("node-b", True)
        assert bench.kube.events[0]["type"] == "Warning"


async def test_a_body_that_is_not_what_the_page_sends_is_refused(bench: Bench) -> None:
    async with bench.page() as page:
        await page.login()
        bodies: list[Any] = [
            [],
            {"module": 7},
            {"module": None},
            {"module": MIRROR_KEY, "plan": {"a": 1}},
            "x",
        ]
        for body in bodies:
            status, _ = await page.post("/api/orders", body)
            assert status == 400, body
        status, _ = await page.post("/api/orders", {"module": "x" * 100_000})
        assert status == 413


async def test_a_user_with_a_hostile_name_stays_in_one_line(bench: Bench) -> None:
    bench.kube.tokens["t"] = "eve\n2024 forged\x1b[31m"
    bench.kube.rights[bench.kube.tokens["t"]] = bench.kube.rights["alice"]
    async with bench.page() as page:
        await page.login("t")
        await page.order(MIRROR_KEY, SWITCHOVER)
        assert bench.kube.events[0]["message"].startswith("eve?2024 forged?[31m ordered")


def test_a_healthy_mirror_can_be_moved_restarted_compared_and_stopped() -> None:
    found = plans(mirror_view())
    assert {key for key, plan in found.items() if not plan.refusal} == {
        *(SWITCHOVER, "restart:node-a:", "resync::", "verify::", "repair::", "stop::", "hold::")
    }
    text = " ".join(found[SWITCHOVER].effects)
    assert "stops on node-a and starts on node-b" in text
    assert "cut off" in text
    assert "192.168.10.50 moves to node-b" in text
    assert "No acknowledged write is lost" in text


def test_a_mirror_that_is_not_in_sync_cannot_be_moved_and_says_why() -> None:
    primary, _ = healthy()
    assert primary.status is not None
    primary.status.in_sync = False
    found = plans(mirror_view([primary, answer("node-b", "Syncing")]))
    assert "does not hold every acknowledged write" in found[SWITCHOVER].refusal


def test_force_is_offered_only_where_a_node_waits_and_nobody_serves() -> None:
    assert not any("force" in key for key in plans(mirror_view()))
    forced = plans(mirror_view(waiting()))[FORCE]
    assert (forced.danger, forced.confirm) == ("loses", "node-b")
    assert "node-a does not answer and is not heard" in " ".join(forced.effects)


def test_a_half_synchronised_node_is_called_a_mixture_before_it_is_forced() -> None:
    found = plans(mirror_view([silent("node-a"), answer("node-b", "Syncing")]))
    assert "MIDDLE OF A RESYNCHRONISATION" in " ".join(found[FORCE].effects)


def test_a_stopped_mirror_can_only_be_started_or_held() -> None:
    found = plans(mirror_view([answer("node-a", "Stopped"), answer("node-b", "Stopped")]))
    assert [key for key, plan in found.items() if not plan.refusal] == ["start::", "hold::"]
    assert found["switchover::"].refusal == "The application is stopped."


def test_an_order_goes_to_the_peer_when_the_primary_cannot_be_asked() -> None:
    primary, secondary = healthy()
    found = plans(mirror_view([silent("node-a", primary), secondary]))
    assert found["stop::"].asked == "node-b"


def test_without_a_sidecar_nothing_can_be_ordered() -> None:
    found = plans(mirror_view([silent("node-a"), silent("node-b")]))
    assert all("twinhullctl" in plan.refusal for plan in found.values())


def test_a_farms_node_is_drained_or_resumed() -> None:
    draining = farm_answer("node-b", "Draining", draining=True)
    found = plans(farm_view([healthy_farm()[0], draining]))
    assert "resume:node-b:" in found
    assert "drain:node-b:" not in found
    assert (found["drain:node-a:"].danger, found["restart:node-a:"].danger) == ("interrupts", "interrupts")
    assert "NOBODY takes new clients meanwhile: node-b is Draining." in found["drain:node-a:"].effects


GIVEN = Given(
    id="1", kind="MirrorModule", action="switchover", node="node-a", asked="node-a", user="u", given=100.0
)
DONE = pb.LastOrder(id="1", action="switchover", state="done", message="handed over")
READY = pb.Application(phase="Running", ready=True)


@pytest.mark.parametrize(
    ("reports", "now", "state", "message"),
    [
        (healthy(), 101.0, "running", "is being carried out"),
        ([silent("node-a"), answer("node-b", "Secondary")], 101.0, "running", "its outcome is not known yet"),
        (
            [answer("node-a", "Secondary", last_order=DONE), answer("node-b", "Primary")],
            101.0,
            "running",
            "waits until the application is up on the other node",
        ),
        (
            [answer("node-a", "Secondary", last_order=DONE), answer("node-b", "Alone", application=READY)],
            101.0,
            "done",
            "handed over",
        ),
        (
            [
                answer(
                    "node-a", "Primary", last_order=pb.LastOrder(id="1", state="failed", message="no peer")
                ),
                answer("node-b", "Waiting"),
            ],
            101.0,
            "failed",
            "no peer",
        ),
        (healthy(), 101.0 + LATE, "late", "not at its end"),
    ],
)
def test_a_switchover_is_followed(
    reports: Sequence[NodeReport], now: float, state: str, message: str
) -> None:
    found = advance(GIVEN, reports, now)
    assert (found.state, message in found.message) == (state, True), found


def test_an_order_that_another_one_overtook_still_ends() -> None:
    answered = advance(
        GIVEN, [answer("node-a", "Secondary", last_order=DONE), answer("node-b", "Primary")], 101.0
    )
    other = pb.LastOrder(id="2", action="resync", state="running")
    reports = [
        answer("node-a", "Secondary", last_order=other),
        answer("node-b", "Primary", application=READY),
    ]
    assert advance(answered, reports, 102.0).state == "done"
