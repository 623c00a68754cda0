"""Status and conditions, from both sidecars' answers and from silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.unit.operator.samples import NODES, answer, healthy, module, silent
from twinhull_operator.problem import Problem
from twinhull_operator.render_config import render_config
from twinhull_operator.report import NodeReport
from twinhull_operator.status_module import Findings, read_findings, render_status, status_patch
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.control.assembly import foreign_data


def status(
    reports: Sequence[NodeReport], previous: dict[str, Any] | None = None, findings: Findings | None = None
) -> dict[str, Any]:
    """The status without the fields that say nothing."""
    found = render_status(module(), reports, findings or Findings(), previous or {}, now=2000.0)
    return {key: value for key, value in found.items() if value is not None}


def condition(found: dict[str, Any], kind: str) -> tuple[str, str]:
    """Status and reason of a condition."""
    (entry,) = (c for c in found["conditions"] if c["type"] == kind)
    return entry["status"], entry["reason"]


def test_a_healthy_pair() -> None:
    found = status(healthy())
    assert (found["role"], found["primary"], found["secondary"]) == ("Primary", "node-a", "node-b")
    assert (found["sync"], found["vip"], found["basePort"]) == ("InSync", "192.168.10.50", 7400)
    assert {c["type"]: (c["status"], c["reason"]) for c in found["conditions"]} == {
        "Available": ("True", "ApplicationReady"),
        "InSync": ("True", "InSync"),
        "Degraded": ("False", "AsExpected"),
        "ConfigurationValid": ("True", "Valid"),
        "SidecarsReachable": ("True", "Connected"),
        "UpToDate": ("True", "UpToDate"),
    }


def test_a_held_failover_shows_and_takes_the_protection_away() -> None:
    found = status([answer_held(report) for report in healthy()])
    assert found["failoverHeld"] is True
    assert condition(found, "Degraded") == ("True", "FailoverHeld")
    assert condition(found, "Available")[0] == "True"
    # While nobody answers it is as it was; one node's word is enough.
    assert status([silent("node-a"), silent("node-b")], found)["failoverHeld"] is True
    assert status([silent("node-a"), healthy()[1]], found)["failoverHeld"] is False


def answer_held(report: NodeReport) -> NodeReport:
    """The same report of a node that knows of the order."""
    assert report.status is not None
    report.status.failover_held = True
    return report


def test_the_primarys_node_died_and_the_other_took_over() -> None:
    before = status(healthy())
    alone = answer("node-b", "Alone", application=pb.Application(ready=True))
    found = status([silent("node-a", healthy()[0]), alone], before)
    assert (found["primary"], found["role"], found["sync"]) == ("node-b", "Alone", "OutOfSync")
    assert "secondary" not in found
    assert condition(found, "Available") == ("True", "ApplicationReady")
    assert condition(found, "Degraded") == ("True", "SidecarUnreachable")


def test_nobody_can_be_asked_keeps_the_last_primary_and_says_so() -> None:
    before = status(healthy())
    found = status([silent("node-a"), silent("node-b")], before)
    assert (found["primary"], found["primaryLastKnown"], found["role"]) == ("node-a", True, "Unknown")
    assert condition(found, "Available") == ("Unknown", "PrimaryUnreachable")
    assert condition(found, "InSync") == ("Unknown", "Unknown")
    assert found["nodes"][0]["role"] == "Primary"
    assert found["nodes"][0]["unreachableSince"] == "1970-01-01T00:16:40Z"


def test_a_primary_that_only_its_peer_hears_is_confirmed() -> None:
    found = status([silent("node-a"), healthy()[1]], status(healthy()))
    assert (found["primary"], found["primaryLastKnown"], found["role"]) == ("node-a", False, "Primary")
    assert found["sync"] == "InSync"
    assert condition(found, "Available") == ("Unknown", "PrimaryUnreachable")


def test_a_primary_that_says_it_is_none_any_more_is_forgotten() -> None:
    waiting = [answer("node-a", "Waiting", reason_code="PeerUnknown"), answer("node-b", "Waiting")]
    found = status(waiting, status(healthy()))
    assert "primary" not in found
    assert found["role"] == "Waiting"
    assert condition(found, "Available") == ("False", "NoPrimary")
    assert condition(found, "Degraded") == ("True", "NoPrimary")


def test_two_primaries_are_said_loudly_and_the_known_one_is_kept() -> None:
    both = [answer("node-a", "Alone"), answer("node-b", "Alone")]
    found = status(both, {"primary": "node-b"})
    assert found["primary"] == "node-b"
    assert condition(found, "Degraded") == ("True", "TwoPrimaries")
    assert found["sync"] == "Unknown"


def test_a_split_brain_has_its_own_reason() -> None:
    waiting = answer("node-b", "Waiting", reason_code="SplitBrain", reason="both ran alone")
    assert condition(status([answer("node-a", "Alone"), waiting]), "Degraded") == ("True", "SplitBrain")


def test_progress_of_a_resynchronisation() -> None:
    syncing = answer("node-b", "Syncing", sync=pb.SyncProgress(bytes_done=43, bytes_total=100))
    found = status([answer("node-a", "Alone"), syncing])
    assert (found["sync"], found["secondary"]) == ("Syncing 43%", "node-b")
    assert condition(found, "InSync") == ("False", "Syncing")
    assert found["nodes"][1]["syncedPercent"] == 43


def test_an_application_that_is_not_ready_and_an_address_that_is_not_held() -> None:
    reports = healthy()
    assert reports[0].status is not None
    reports[0].status.application.ready = False
    assert condition(status(reports), "Available") == ("False", "ApplicationNotReady")
    reports[0].status.virtual_ips[0].held = False
    found = status(reports)
    assert condition(found, "Available") == ("False", "VirtualIPNotHeld")
    assert "vip" not in found


def test_problems_of_the_specification_and_of_a_node() -> None:
    own = Findings(problems=(Problem("spec.nodes[1].name", "no such node", "add it"),))
    found = status(healthy(), findings=own)
    assert condition(found, "ConfigurationValid") == ("False", "InvalidSpecification")
    assert found["problems"] == [{"field": "spec.nodes[1].name", "message": "no such node", "mend": "add it"}]
    reports = healthy()
    assert reports[1].status is not None
    reports[1].status.problems.add(field="virtual_ips[0].address", message="in use", mend="free it")
    reported = status(reports)
    assert condition(reported, "ConfigurationValid") == ("False", "ReportedByNode")
    assert reported["problems"] == [
        {"field": "spec.virtualIPs[0].address", "message": "in use", "mend": "free it", "node": "node-b"}
    ]


def test_kept_data_of_a_deleted_module_are_refused_with_the_line_to_write() -> None:
    old = "5f0c1c1e-1ab0-4b0e-9d5e-0123456789ab"
    refusal = foreign_data(render_config(module(), NODES, 7400), old)
    reports = [answer("node-a", "Waiting"), answer("node-b", "Waiting")]
    for report in reports:
        assert report.status is not None
        report.status.problems.add(field=refusal.field, message=refusal.message, mend=refusal.mend)
    (message,) = (c["message"] for c in status(reports)["conditions"] if c["type"] == "ConfigurationValid")
    assert message.startswith(
        f"spec.adoptUID (node node-a): the data on this node belong to a module with UID {old}"
    )
    assert message.count(f'write "adoptUID: {old}" under spec to take them over') == 2


def test_a_pod_that_does_not_start_says_why() -> None:
    findings = Findings(pod_problems={"node-b": "container twinhull: ImagePullBackOff"})
    found = status([healthy()[0], silent("node-b")], findings=findings)
    (message,) = (c["message"] for c in found["conditions"] if c["type"] == "SidecarsReachable")
    assert "ImagePullBackOff" in message


def test_nothing_new_gives_an_equal_status() -> None:
    first = status(healthy())
    reports = healthy()
    for report in reports:
        assert report.status is not None
        report.status.peer.silent_seconds = 0.7
        report.status.replicated_bytes = 12345
    again = {
        key: value
        for key, value in render_status(module(), reports, Findings(), first, now=9999.0).items()
        if value is not None
    }
    assert again == first
    assert status_patch(first, again) == {}


def test_the_time_of_a_transition_stays_while_the_condition_stays() -> None:
    before = status(healthy())
    before["conditions"] = [c | {"lastTransitionTime": "2020-01-01T00:00:00Z"} for c in before["conditions"]]
    after = status([healthy()[0], silent("node-b")], before)
    times = {c["type"]: c["lastTransitionTime"] for c in after["conditions"]}
    assert times["Available"] == "2020-01-01T00:00:00Z"
    assert times["Degraded"] == "1970-01-01T00:33:20Z"


@pytest.mark.parametrize("promoted", [0.0, 1700000001.5])
def test_the_last_failover_is_kept_and_replaced_by_a_later_one(promoted: float) -> None:
    previous = {"lastFailover": {"node": "node-b", "cause": "old", "promoted": "2023-11-14T22:13:20.000Z"}}
    timeline = pb.Timeline(cause="PeerLost", detected=1700000001.0, promoted=promoted)
    found = status([answer("node-a", "Alone", last_failover=timeline), silent("node-b")], previous)
    assert found["lastFailover"]["cause"] == ("PeerLost" if promoted else "old")
    if promoted:
        assert found["lastFailover"]["promoted"] == "2023-11-14T22:13:21.500Z"
        assert "vipAnnounced" not in found["lastFailover"]


def test_an_operator_that_takes_over_knows_what_the_other_one_found() -> None:
    problem = Problem("spec.nodes[1].name", "no such node", "name a node")
    found = Findings((problem,), "deletes a pod", {"node-a": "pg-1"}, {"node-b": "there is no pod"})
    reports = healthy()
    assert reports[0].status is not None
    reports[0].status.problems.append(pb.Problem(field="storage", message="full", mend="make room"))
    written = render_status(module(), reports, found, {}, now=1.0)
    assert read_findings(written) == found
    assert read_findings({}) == Findings()


def test_a_merge_patch_says_null_for_what_is_gone() -> None:
    before = {"a": 1, "b": {"x": 1, "y": 2}, "c": [1]}
    after = {"a": 1, "b": {"x": 1}, "d": 2}
    assert status_patch(before, after) == {"b": {"y": None}, "c": None, "d": 2}


def test_what_a_comparison_of_both_trees_found() -> None:
    reports = healthy()
    assert reports[0].status is not None
    known = reports[0].status.verification
    known.CopyFrom(pb.Verification(running=True, files=7))
    assert status(reports)["verify"] == "Running: 7 files, 0 differences"
    known.running = False
    before = status(reports)
    assert before["verify"] == "Equal: 7 files"
    assert condition(before, "Degraded")[0] == "False"
    known.found = 1
    known.differences.append(pb.Difference(volume="data", path="base/1", what="content"))
    found = status(reports)
    assert found["verify"] == "Differences: 1"
    assert condition(found, "Degraded") == ("True", "TreesDiffer")
    known.repaired = 1
    assert status(reports)["verify"] == "Repaired: 1 differences"
    known.repaired, known.resync = 0, True
    assert status(reports)["verify"] == "Resynchronising: 1 differences"
    assert condition(status(reports), "Degraded") == ("True", "TreesDiffer")
    # While nobody answers it is as it was.
    assert status([silent("node-a"), silent("node-b")], before)["verify"] == "Equal: 7 files"
