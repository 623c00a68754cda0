"""A farm's status and conditions, from both sidecars' answers and from silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.operator.samples import farm, farm_answer, healthy_farm, silent
from tests.unit.operator.test_status import condition
from twinhull_operator.problem import Problem
from twinhull_operator.render_event import render_event
from twinhull_operator.report import Drain, NodeReport
from twinhull_operator.status_farm import describe_share
from twinhull_operator.status_module import Findings, render_status
from twinhull_sidecar.api import sidecar_pb2 as pb


def status(
    reports: Sequence[NodeReport],
    previous: dict[str, Any] | None = None,
    findings: Findings | None = None,
    now: float = 2000.0,
) -> dict[str, Any]:
    """The status without the fields that say nothing."""
    found = render_status(farm(), reports, findings or Findings(), previous or {}, now=now)
    return {key: value for key, value in found.items() if value is not None}


def test_a_healthy_farm() -> None:
    found = status(healthy_farm(), findings=Findings(pods={"node-a": "front-x", "node-b": "front-y"}))
    assert (found["role"], found["up"], found["announcer"]) == ("Up", "2/2", "node-a")
    assert (found["shares"], found["vip"]) == ("node-a=50% node-b=50%", "192.168.10.71")
    assert {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]} == {
        "Available": ("True", "NodeUp"),
        "Degraded": ("False", "AsExpected"),
        "ConfigurationValid": ("True", "Valid"),
        "SidecarsReachable": ("True", "Connected"),
        "UpToDate": ("True", "UpToDate"),
    }
    first = found["nodes"][0]
    assert (first["name"], first["role"], first["share"], first["announcing"]) == (
        "node-a",
        "Up",
        "50%",
        True,
    )
    assert (first["connections"], first["pod"], first["draining"]) == (120, "front-x", False)
    assert not {"inSync", "generation", "syncedPercent"} & first.keys()


def test_one_node_died_and_the_other_serves_all() -> None:
    alone = farm_answer("node-b", share=1.0, announcing=True, peer=pb.Peer(node="node-a"))
    found = status([silent("node-a", healthy_farm()[0]), alone], status(healthy_farm()))
    assert (found["up"], found["announcer"], found["shares"]) == ("1/2", "node-b", "node-b=100%")
    assert condition(found, "Available") == ("True", "NodeUp")
    assert condition(found, "Degraded") == ("True", "SidecarUnreachable")


def test_nobody_can_be_asked() -> None:
    found = status([silent("node-a"), silent("node-b")], status(healthy_farm()))
    assert (found["role"], found["up"]) == ("Unknown", "?/2")
    assert not {"announcer", "shares"} & found.keys()
    assert condition(found, "Available") == ("Unknown", "NoNodeUp")
    assert found["nodes"][0]["share"] == "50%"
    assert found["nodes"][0]["reachable"] is False


def test_a_node_that_only_its_peer_hears_is_known() -> None:
    heard = farm_answer(
        "node-b", "Draining", draining=True, peer=pb.Peer(node="node-a", heard=True, role="Up")
    )
    found = status([silent("node-a"), heard])
    assert (found["up"], found["role"]) == ("1/2", "Up")
    assert condition(found, "Available") == ("Unknown", "NodeUnreachable")


def test_no_node_is_up() -> None:
    waiting = [
        farm_answer(node, "Waiting", reason="checker web does not pass") for node in ("node-a", "node-b")
    ]
    found = status(waiting)
    assert (found["up"], found["role"]) == ("0/2", "Waiting")
    assert condition(found, "Available") == ("False", "NoNodeUp")
    assert condition(found, "Degraded") == ("True", "NoNodeUp")
    assert "checker web does not pass" in found["reason"]


def test_a_node_out_of_the_farm_says_why() -> None:
    out = farm_answer(
        "node-b",
        "Waiting",
        reason="checker web does not pass",
        reason_code="ApplicationNotReady",
        checkers=[pb.Checker(name="web", passing=False, detail="connection refused")],
    )
    found = status([farm_answer("node-a", share=1.0, announcing=True), out])
    assert condition(found, "Available") == ("True", "NodeUp")
    assert condition(found, "Degraded") == ("True", "ApplicationNotReady")
    checker = {"name": "web", "passing": False, "detail": "connection refused"}
    assert found["nodes"][1]["checkers"] == [checker]


def test_two_announcers_are_said_loudly() -> None:
    both = [farm_answer(node, announcing=True, share=1.0) for node in ("node-a", "node-b")]
    found = status(both)
    assert found["announcer"] == "node-a,node-b"
    assert condition(found, "Degraded") == ("True", "TwoAnnouncers")


def test_an_address_that_is_held_by_no_node_or_by_one_only() -> None:
    gone = [pb.VirtualIP(address="192.168.10.71")]
    one = status([farm_answer("node-a", announcing=True), farm_answer("node-b", virtual_ips=gone)])
    assert condition(one, "Available") == ("True", "NodeUp")
    assert condition(one, "Degraded") == ("True", "VirtualIPNotHeld")
    none = status([farm_answer(node, virtual_ips=gone) for node in ("node-a", "node-b")])
    assert condition(none, "Available") == ("False", "VirtualIPNotHeld")


def test_nobody_answers_for_the_address() -> None:
    found = status([farm_answer("node-a"), farm_answer("node-b")])
    assert condition(found, "Available") == ("False", "NoAnnouncer")


def test_what_a_nodes_kernel_lacks_is_a_problem_of_that_node() -> None:
    reports = healthy_farm()
    assert reports[1].status is not None
    reports[1].status.problems.add(field="farm.weights", message="no nft", mend="install it")
    found = status(reports)
    assert condition(found, "ConfigurationValid") == ("False", "ReportedByNode")
    assert found["problems"][0]["field"] == "spec.weights"
    own = status(healthy_farm(), findings=Findings(problems=(Problem("spec.checkers[0].port", "m", "d"),)))
    assert condition(own, "ConfigurationValid") == ("False", "InvalidSpecification")


def test_changing_numbers_of_connections_are_written_every_fifteen_seconds() -> None:
    first = status(healthy_farm(), now=1000.0)
    assert first["connectionsCounted"] == "1970-01-01T00:16:40Z"
    more = [farm_answer("node-a", announcing=True, connections=500), healthy_farm()[1]]
    assert status(more, first, now=1014.0) == first
    later = status(more, first, now=1015.0)
    assert [node["connections"] for node in later["nodes"]] == [500, 80]
    assert later["connectionsCounted"] == "1970-01-01T00:16:55Z"
    # Nothing changed: nothing is written, however late.
    assert status(more, later, now=99999.0) == later


def test_the_last_takeover_is_kept() -> None:
    timeline = pb.Timeline(
        cause="PeerLost", peer_lost=99.0, detected=100.0, promoted=100.1, vip_announced=100.2
    )
    found = status([silent("node-a"), farm_answer("node-b", last_failover=timeline)])
    assert found["lastFailover"] == {
        "node": "node-b",
        "cause": "PeerLost",
        "peerLost": "1970-01-01T00:01:39.000Z",
        "detected": "1970-01-01T00:01:40.000Z",
        "promoted": "1970-01-01T00:01:40.100Z",
        "vipAnnounced": "1970-01-01T00:01:40.200Z",
    }
    assert status(healthy_farm(), found)["lastFailover"] == found["lastFailover"]


def test_the_drain_of_a_rollout_is_recorded() -> None:
    found = status(healthy_farm(), findings=Findings(rollout="drains", drained=Drain("node-b", 1000.0)))
    assert found["rolloutDrain"] == {"node": "node-b", "since": "1970-01-01T00:16:40.000Z"}
    assert condition(found, "UpToDate") == ("False", "RolloutInProgress")


@pytest.mark.parametrize(
    ("share", "text"), [(0.0, "0%"), (0.5, "50%"), (1.0, "100%"), (1 / 3, "33.3%"), (0.001, "0.1%")]
)
def test_shares(share: float, text: str) -> None:
    assert describe_share(share) == text


def test_events_are_the_farms() -> None:
    event = render_event(farm(), kind="Normal", reason="R", message="m", time=1.0)
    assert event["involvedObject"]["kind"] == "FarmModule"
