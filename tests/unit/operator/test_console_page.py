"""What the page shows of a module."""

from __future__ import annotations

import json
from dataclasses import replace

from tests.unit.operator.console_bench import FakeModules, events, farm_view, mirror_view
from tests.unit.operator.samples import answer, farm_answer, healthy, healthy_farm, silent
from twinhull_operator.console.board import Board
from twinhull_operator.console.page import judge as judge_situation
from twinhull_operator.console.page import render_page, situation_of
from twinhull_operator.console.page_failover import render_failover
from twinhull_operator.console.sync_rate import SyncRate
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.problem import Problem
from twinhull_operator.report import NodeReport
from twinhull_operator.status_module import Findings
from twinhull_sidecar.api import sidecar_pb2 as pb


def page(view: ModuleView) -> dict[str, object]:
    """The page of a module."""
    return render_page(view, SyncRate(), (), 1.0)


def judge(view: ModuleView) -> tuple[str, str]:
    """Colour and state."""
    colour, state, _ = judge_situation(situation_of(view, 1.0))
    return colour, state


def primary(**fields: object) -> NodeReport:
    """node-a, alone or not."""
    application = pb.Application(phase="Running", ready=True)
    vip = pb.VirtualIP(address="192.168.10.50", held=True)
    usual: dict[str, object] = {"virtual_ips": [vip], "application": application}
    return answer("node-a", "Primary", **(usual | fields))


def test_green_is_a_module_whose_nodes_may_fail() -> None:
    assert judge(mirror_view()) == ("green", "Protected")
    assert judge(farm_view()) == ("green", "Protected")


def test_orange_serves_without_protection_and_says_why() -> None:
    view = mirror_view([primary(), answer("node-b", "Syncing")])
    assert judge(view) == ("orange", "Serving, not protected")
    assert page(view)["why"]
    lost = farm_view([healthy_farm()[0], silent("node-b")])
    assert judge(lost) == ("orange", "Serving, not protected")


def test_orange_is_in_transition() -> None:
    starting = pb.Application(phase="Starting")
    view = mirror_view([primary(application=starting), answer("node-b", "Secondary")])
    assert judge(view) == ("orange", "In transition")


def test_red_does_not_serve_and_says_why() -> None:
    failed = pb.Application(phase="Failed", detail="exited with code 1")
    view = mirror_view([primary(application=failed), answer("node-b", "Secondary")])
    assert judge(view) == ("red", "Not serving")
    assert "exited with code 1" in str(page(view)["why"])
    both = mirror_view([answer("node-a", "Waiting"), answer("node-b", "Waiting")])
    assert judge(both) == ("red", "Not serving")


def test_a_stopped_module_is_red_and_names_the_way_out() -> None:
    view = mirror_view([answer("node-a", "Stopped"), answer("node-b", "Stopped")])
    assert judge(view) == ("red", "Stopped")
    assert "Start ends that" in str(page(view)["why"])


def test_nobody_who_can_be_asked_is_unknown_not_down() -> None:
    known = healthy()
    view = mirror_view([silent("node-a", known[0]), silent("node-b", known[1])])
    assert judge(view) == ("orange", "Unknown")


def test_an_operator_that_has_just_started_says_so() -> None:
    view = mirror_view([NodeReport("node-a"), NodeReport("node-b")])
    assert judge(view) == ("orange", "Starting")
    assert [node["contact"] for node in page(view)["nodes"]] == ["asking", "asking"]  # type: ignore[attr-defined]


def test_an_invalid_specification_that_never_ran_is_red() -> None:
    found = Findings(problems=(Problem("spec.nodes[1].name", "no such node", "name a node"),))
    view = replace(mirror_view([NodeReport("node-a"), NodeReport("node-b")]), findings=found)
    assert judge(view) == ("red", "Invalid specification")


def test_a_silent_node_shows_what_it_said_last_and_what_its_peer_knows() -> None:
    known = healthy()
    peer = pb.Peer(node="node-b", heard=False)
    view = mirror_view([primary(peer=peer), silent("node-b", known[1])])
    node = page(view)["nodes"][1]  # type: ignore[index]
    assert (node["contact"], node["stale"], node["role"]) == ("silent", True, "Secondary")
    assert node["byPeer"] == "node-a does not hear it either"


def test_who_answers_for_a_virtual_ip() -> None:
    assert page(mirror_view())["vips"] == [
        {"address": "192.168.10.50", "ports": "5432/TCP", "answers": ["node-a"], "problem": ""}
    ]
    both = [farm_answer("node-a", announcing=True), farm_answer("node-b")]
    assert page(farm_view(both))["vips"][0]["answers"] == ["node-a"]  # type: ignore[index]


def test_progress_has_an_end_as_soon_as_it_can_be_told() -> None:
    rate = SyncRate()
    rate.see(0.0, 1000)
    assert rate.seconds_left(5000) is None
    rate.see(10.0, 2000)
    assert (rate.bytes_per_second, rate.seconds_left(5000)) == (100.0, 30.0)
    rate.see(11.0, 10)
    assert rate.seconds_left(5000) is None
    sync = pb.SyncProgress(bytes_done=1, bytes_total=4, files_done=1, files_total=2)
    shown = page(mirror_view([primary(sync=sync), answer("node-b", "Syncing")]))["sync"]
    assert shown["progress"]["percent"] == 25  # type: ignore[index]
    # More than was planned: there is no estimate.
    sync = pb.SyncProgress(bytes_done=9, bytes_total=4)
    shown = page(mirror_view([primary(sync=sync), answer("node-b", "Syncing")]))["sync"]
    assert shown["progress"]["percent"] is None  # type: ignore[index]
    assert shown["progress"]["secondsLeft"] is None  # type: ignore[index]


def test_a_split_brain_is_not_called_newest_data_on_one_node() -> None:
    split = [answer(name, "Waiting", reason_code="SplitBrain") for name in ("node-a", "node-b")]
    assert page(mirror_view(split))["sync"]["word"] == "Split"  # type: ignore[index]


def test_the_steps_of_a_failover_are_told_from_the_first_one_on() -> None:
    timeline = {
        "node": "node-b",
        "cause": "node-a fell silent",
        "peerLost": "2024-01-01T00:00:00.000Z",
        "detected": "2024-01-01T00:00:02.850Z",
        "promoted": "not a time",
        "applicationReady": "2024-01-01T00:00:03.250Z",
    }
    shown = render_failover("MirrorModule", timeline)
    assert shown is not None
    assert [(step["label"], step["after"]) for step in shown["steps"]] == [
        ("Last sign of life", 0.0),
        ("Detected", 2.85),
        ("Application ready", 3.25),
    ]
    assert (shown["took"], shown["cause"]) == (3.25, "node-a fell silent")
    assert render_failover("MirrorModule", None) is None


def test_events_of_both_nodes_are_one_list_newest_first() -> None:
    view = mirror_view([primary(events=events("old", "new")), answer("node-b", "Secondary")])
    shown = page(view)["events"]
    assert [event["message"] for event in shown] == ["new", "old"]  # type: ignore[attr-defined]


def test_a_board_makes_a_page_anew_only_where_something_changed() -> None:
    modules = FakeModules()
    board = Board(modules.views)
    assert len(board.refresh(1.0)) == 2
    assert board.refresh(2.0) == set()
    modules.shown[1] = farm_view([healthy_farm()[0], silent("node-b")])
    assert board.refresh(3.0) == {"FarmModule/db/front"}
    modules.shown.clear()
    assert len(board.refresh(4.0)) == 2
    assert board.cards == {}


def test_a_module_that_cannot_be_shown_does_not_hide_the_others() -> None:
    modules = FakeModules()
    modules.shown[0] = replace(modules.shown[0], reports=[])
    board = Board(modules.views)
    assert board.refresh(1.0) == {"FarmModule/db/front"}


def test_a_page_is_one_line_of_json_whatever_a_reason_says() -> None:
    hostile = primary(reason="</script>\n\ndata: x\u2028")
    text = json.dumps(page(mirror_view([hostile, answer("node-b", "Secondary")])))
    assert "\n" not in text
