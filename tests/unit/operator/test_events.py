"""Kubernetes Events from the sidecars' own."""

from __future__ import annotations

from tests.unit.operator.samples import answer, module
from twinhull_operator.render_event import render_event, render_new_events
from twinhull_operator.times import rfc3339_micro
from twinhull_sidecar.api import sidecar_pb2 as pb

EVENTS = [
    pb.Event(time=100.0, type="Normal", code="Started", message="started"),
    pb.Event(time=200.25, type="Warning", code="PeerLost", message="all links silent"),
]


def test_each_event_is_published_once() -> None:
    report = answer("node-b", "Alone", events=EVENTS)
    first, second = render_new_events(module(), report, after="", oldest=0)
    assert (second["type"], second["reason"], second["message"]) == (
        "Warning",
        "PeerLost",
        "node-b: all links silent",
    )
    assert second["involvedObject"]["kind"] == "MirrorModule"
    assert first["metadata"]["name"] != second["metadata"]["name"]
    # After a restart of the operator the same event has the same name, so the API server refuses the copy.
    assert render_new_events(module(), report, after="", oldest=0)[1] == second
    assert render_new_events(module(), report, after=rfc3339_micro(100.0), oldest=0) == [second]
    assert render_new_events(module(), report, after=rfc3339_micro(200.25), oldest=0) == []


def test_events_that_kubernetes_would_have_forgotten_are_not_published() -> None:
    assert (
        len(render_new_events(module(), answer("node-b", "Alone", events=EVENTS), after="", oldest=150)) == 1
    )


def test_what_is_found_again_and_again_is_one_event() -> None:
    one, other = (
        render_event(module(), kind="Warning", reason="R", message="m", time=time, once_per="generation 3")
        for time in (1.0, 2.0)
    )
    assert one["metadata"]["name"] == other["metadata"]["name"]


def test_a_long_message_is_cut_to_what_the_api_takes() -> None:
    event = render_event(module(), kind="odd", reason="", message="x" * 5000, time=1.0)
    assert len(event["message"]) == 1024
    assert (event["type"], event["reason"]) == ("Normal", "Unspecified")
