"""The console's page in a real browser: live, by keyboard, without markup from names, without barriers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from tests.lab.console_browser import Browser, browser, served
from tests.unit.operator.console_bench import FARM_KEY, MIRROR_KEY, Bench, events, farm_view, mirror_view
from tests.unit.operator.samples import answer, farm_answer, healthy, healthy_farm, module, silent
from twinhull_operator.report import NodeReport
from twinhull_sidecar.api import sidecar_pb2 as pb

PICTURES = Path(__file__).parents[2] / "build" / "console"
READY = pb.Application(phase="Running", ready=True)
VIP = pb.VirtualIP(address="192.168.10.50", held=True)
LINKS = [pb.Link(name="nodes", up=True), pb.Link(name="direct", up=True)]
HOSTILE = "<img src=x onerror=document.title=1>"


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A console of the test's own."""
    with served() as made:
        yield made


@pytest.fixture
def page(bench: Bench) -> Iterator[Browser]:
    """A browser that has signed in."""
    with browser(bench.base) as made:
        made.open()
        yield made


def moved(last_order: pb.LastOrder | None = None) -> list[NodeReport]:
    """node-b serves."""
    order = {"last_order": last_order} if last_order is not None else {}
    return [
        answer("node-a", "Secondary", in_sync=True, **order),
        answer("node-b", "Primary", in_sync=True, application=READY, virtual_ips=[VIP]),
    ]


def test_a_click_on_switchover_is_explained_given_and_followed_to_its_end(
    bench: Bench, page: Browser
) -> None:
    page.button(MIRROR_KEY, "switchover:node-a:").click()
    page.until(lambda: "stops on node-a and starts on node-b" in page.text("dialog"))
    assert "cut off" in page.text("dialog")
    page.one("dialog button[type=submit]").click()
    card = page.card(MIRROR_KEY)
    page.until(lambda: "ordered by alice" in page.text(f"{card} .order"))
    (order,) = bench.modules.orders
    assert (order["node"], order["action"], order["user"]) == ("node-a", "switchover", "alice (console)")
    identifier = page.one(f"{card} .order").get_attribute("data-key")
    done = pb.LastOrder(id=identifier, action="switchover", state="done", message="handed over")
    bench.modules.shown[0] = mirror_view(moved(done))
    page.until(lambda: "done, handed over" in page.text(f"{card} .order"))
    assert "answered by node-b" in page.text(card)
    assert "switchover of postgres: done" in page.said()
    assert page.complaints() == []


def comparing(last_order: pb.LastOrder, known: pb.Verification) -> list[NodeReport]:
    """A healthy mirror whose primary says this of a comparison."""
    primary, secondary = healthy()
    assert primary.status is not None
    primary.status.last_order.CopyFrom(last_order)
    primary.status.verification.CopyFrom(known)
    return [primary, secondary]


def test_a_comparison_is_explained_confirmed_followed_and_tells_path_and_block(
    bench: Bench, page: Browser
) -> None:
    card = page.card(MIRROR_KEY)
    page.button(MIRROR_KEY, "verify::").click()
    page.until(lambda: "Nothing is changed" in page.text("dialog"))
    assert "Clients go on being served" in page.text("dialog")
    page.one("dialog button[type=submit]").click()
    page.until(lambda: "ordered by alice" in page.text(f"{card} .order"))
    assert bench.modules.orders[0]["action"] == "verify"
    identifier = page.one(f"{card} .order").get_attribute("data-key")
    done = pb.LastOrder(id=identifier, action="verify", state="done", message="Comparing with node-b")

    begun = time.time()
    runs = pb.Verification(running=True, begun=begun, files=12, bytes=5 << 20)
    bench.modules.shown[0] = mirror_view(comparing(done, runs))
    page.until(lambda: "12 files, 5.0 MiB compared" in page.text(f"{card} .verification"))
    assert page.all(f"{card} .verification progress")
    page.until(lambda: page.button(MIRROR_KEY, "repair::").get_attribute("data-refused") == "true")

    block = pb.Difference(volume="data", path="base/<b>1</b>", what="content", offset=8192, length=4096)
    ended = pb.Verification(begun=begun, ended=begun + 9, files=99, found=1, differences=[block])
    bench.modules.shown[0] = mirror_view(comparing(done, ended))
    where = "content of data/base/<b>1</b> at byte 8192, 4096 bytes"
    page.until(lambda: where in page.text(f"{card} .differences"))
    page.until(lambda: f"1 difference, the first: {where}" in page.text(f"{card} .order"))
    assert not page.all(f"{card} .verification progress")
    assert "not protected" in page.text(f"{card} .state")
    assert page.barriers() == []
    assert page.complaints() == []


def test_orders_that_are_done_make_room_for_the_state_but_for_the_newest(bench: Bench, page: Browser) -> None:
    card = page.card(MIRROR_KEY)
    for action in ("hold", "stop"):
        page.until(lambda action=action: page.button(MIRROR_KEY, f"{action}::").is_displayed())  # type: ignore[misc]
        page.button(MIRROR_KEY, f"{action}::").click()
        page.until(lambda: page.all("dialog button[type=submit]"))
        page.one("dialog button[type=submit]").click()
        page.until(lambda action=action: f"{action} ordered by alice" in page.text(f"{card} > .order"))  # type: ignore[misc]
        identifier = page.one(f"{card} > .order").get_attribute("data-key")
        primary, secondary = healthy()
        assert primary.status is not None
        assert secondary.status is not None
        primary.status.last_order.CopyFrom(pb.LastOrder(id=identifier, action=action, state="done"))
        primary.status.failover_held = secondary.status.failover_held = True
        bench.modules.shown[0] = mirror_view([primary, secondary])
    page.until(lambda: len(page.all(f"{card} > .order")) == 1)
    assert "stop" in page.text(f"{card} > .order")
    page.one(f"{card} summary").click()
    page.until(lambda: "hold ordered by alice" in page.text(f"{card} .earlier"))
    assert page.barriers() == []


def test_the_page_follows_and_keeps_what_was_opened_and_where_the_focus_is(
    bench: Bench, page: Browser
) -> None:
    card = page.card(MIRROR_KEY)
    page.one(f"{card} summary").click()
    page.run("document.querySelector(arguments[0]).focus()", f"{card} button[data-plan='stop::']")
    failed = pb.Application(phase="Failed", detail="exited with code 1")
    _, second = healthy()
    first = answer("node-a", "Primary", in_sync=True, application=failed, virtual_ips=[VIP])
    bench.modules.shown[0] = mirror_view([first, second])
    page.until(lambda: "Not serving" in page.text(f"{card} .state"))
    assert "exited with code 1" in page.text(card)
    assert page.run("return document.querySelector(arguments[0]).open", f"{card} details")
    assert page.run("return document.activeElement.dataset.plan") == "stop::"
    assert "Not serving" in page.said()
    bench.modules.shown.pop()
    page.until(lambda: not page.all(page.card(FARM_KEY)))


def test_an_order_by_keyboard_alone(bench: Bench, page: Browser) -> None:
    for _ in range(60):
        page.press(Keys.TAB)
        if page.run("return document.activeElement.dataset.plan") == "drain:node-b:":
            break
    page.press(Keys.ENTER)
    page.until(lambda: page.run("return document.activeElement.textContent") == "Cancel")
    page.press(Keys.ESCAPE)
    page.until(lambda: not page.one("dialog").is_displayed())
    assert page.run("return document.activeElement.dataset.plan") == "drain:node-b:"
    assert bench.modules.orders == []
    page.press(Keys.ENTER)
    page.until(lambda: page.run("return document.activeElement.textContent") == "Cancel")
    page.press(Keys.TAB, Keys.ENTER)
    page.until(lambda: bench.modules.orders)
    assert bench.modules.orders[0]["action"] == "drain"


def test_names_and_reasons_are_texts_and_never_markup(bench: Bench, page: Browser) -> None:
    reports = [
        answer(
            "node-a", "Primary", reason=HOSTILE, application=READY, virtual_ips=[VIP], events=events(HOSTILE)
        ),
        answer("node-b", "Waiting", reason=f"{HOSTILE}</script>\u2028\n\nevent: gone", reason_code=HOSTILE),
    ]
    bench.modules.shown[:] = [mirror_view(reports, module(HOSTILE))]
    page.until(lambda: HOSTILE in page.text("#modules h2"))
    assert HOSTILE in page.text(".node .reason")
    assert page.run("return document.querySelectorAll('#modules img, #modules script').length") == 0
    assert "twinhull" in page.driver.title
    assert page.complaints() == []


def test_what_may_lose_data_cannot_be_confirmed_by_a_click_alone(bench: Bench, page: Browser) -> None:
    waits = answer("node-b", "Waiting", reason="cannot know that its data is the newest")
    bench.modules.shown[0] = mirror_view([silent("node-a", healthy()[0]), waits])
    page.until(lambda: page.all(f"{page.card(MIRROR_KEY)} button.danger"))
    page.button(MIRROR_KEY, "force-primary:node-b:").click()
    page.until(lambda: "Data may be lost" in page.text("dialog"))
    page.one("#confirm").send_keys("node-a")
    page.one("dialog button[type=submit]").click()
    page.until(lambda: "Type node-b to confirm" in page.text("dialog"))
    assert bench.modules.orders == []
    page.one("#confirm").clear()
    page.one("#confirm").send_keys("node-b", Keys.ENTER)
    page.until(lambda: bench.modules.orders)


def test_who_may_not_is_told_so_before_anything_happens(bench: Bench) -> None:
    with browser(bench.base) as page:
        page.open("t-bob")
        page.button(MIRROR_KEY, "stop::").click()
        page.until(lambda: "it needs the verb stop on mirrormodules" in page.text("dialog"))
        assert not page.all("dialog button[type=submit]")


def test_a_revoked_token_leads_to_the_sign_in_with_the_reason(bench: Bench, page: Browser) -> None:
    page.button(MIRROR_KEY, "stop::").click()
    page.until(lambda: page.all("dialog button[type=submit]"))
    bench.kube.expired.add("t-alice")
    page.one("dialog button[type=submit]").click()
    page.until(lambda: "token has expired" in page.text("#login"))
    assert not page.all("article")
    assert bench.modules.orders == []


def test_without_the_api_server_and_without_modules_the_page_says_what_to_do(
    bench: Bench, page: Browser
) -> None:
    bench.modules.shown.clear()
    page.until(lambda: "No modules" in page.text("#modules"))
    bench.kube.down = True
    page.until(lambda: "The API server does not answer" in page.text("#banner"))
    bench.kube.down = False
    page.until(lambda: "The API server" not in page.text("#banner"))


def test_every_state_in_light_and_dark_and_on_a_phone_has_no_barrier(bench: Bench, page: Browser) -> None:
    peer = pb.Peer(node="node-b", heard=True, role="Secondary", links=LINKS)
    progress = pb.SyncProgress(bytes_done=31 << 30, bytes_total=72 << 30, files_done=120, files_total=480)
    began = time.time() - 600
    timeline = pb.Timeline(
        cause="node-b was silent for 3 s on all links",
        peer_lost=began,
        detected=began + 2.93,
        promoted=began + 2.95,
        vip_announced=began + 2.98,
        application_started=began + 3.0,
        application_ready=began + 3.26,
    )
    serves = {"application": READY, "virtual_ips": [VIP], "peer": peer}
    follows = {"in_sync": True, "reason": "follows node-a", "peer": pb.Peer(links=LINKS)}
    split = [
        answer(node, "Waiting", reason="both nodes wrote alone: waits for a choice", reason_code="SplitBrain")
        for node in ("node-a", "node-b")
    ]
    failing = pb.Checker(name="http", passing=False, detail="connection refused")
    lost = pb.Peer(node="node-b", heard=False, links=[pb.Link(name="nodes"), pb.Link(name="direct")])
    alone = answer("node-a", "Alone", reason="serves without node-b", **(serves | {"peer": lost}))
    silent_b = replace(
        silent("node-b", answer("node-b", "Secondary", **follows)), unreachable_since=time.time()
    )
    happened = events(
        "node-b is silent on all links", "became primary", "node-b is back", "both nodes are in sync"
    )
    block = pb.Difference(volume="data", path="base/16384/2619", what="content", offset=40960, length=4096)
    block.repaired = True
    repaired = pb.Verification(
        repair=True,
        begun=began,
        ended=began + 95,
        files=1208,
        bytes=41 << 30,
        found=1,
        repaired=1,
        differences=[block],
    )
    primary = answer(
        "node-a",
        "Primary",
        in_sync=True,
        reason="serves; node-b holds every write",
        last_failover=timeline,
        events=happened,
        verification=repaired,
        **serves,
    )
    catching_up = [
        answer("node-a", "Primary", reason="serves; node-b catches up", sync=progress, **serves),
        answer("node-b", "Syncing", reason="catches up with node-a", sync=progress),
    ]
    draining = farm_answer("node-b", "Draining", draining=True, checkers=[failing], reason="was drained")
    bench.modules.shown[:] = [
        mirror_view([primary, answer("node-b", "Secondary", **follows)], module("accounts", uid="1")),
        mirror_view([alone, silent_b], module("billing", uid="2")),
        farm_view([healthy_farm()[0], draining]),
        mirror_view(catching_up, module("orders", uid="3")),
        mirror_view(split, module("split", uid="4")),
    ]
    page.until(lambda: len(page.all("article")) == 5)
    page.one(f"{page.card('MirrorModule/db/accounts')} summary").click()
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name, scheme, width in (("light", "light", 1280), ("dark", "dark", 1280), ("phone", "light", 360)):
        page.look(scheme=scheme, width=width, height=1400)
        page.picture(PICTURES / f"{name}.png")
        page.run("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert page.barriers() == [], name
        assert page.run("return document.documentElement.scrollWidth <= innerWidth"), name
        page.run("document.querySelectorAll('details').forEach((details, at) => { details.open = !at; })")
    page.look()
    page.button("MirrorModule/db/split", "force-primary:node-a:discard").click()
    page.until(lambda: page.all("#confirm"))
    assert page.barriers() == []
    assert page.complaints() == []
