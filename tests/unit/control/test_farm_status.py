"""What ``twinhullctl status`` shows of a farm, and which words it has for it."""

from __future__ import annotations

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.ctl import describe, parser


def test_a_farm_is_shown_without_data() -> None:
    status = pb.Status(module="shop/front", node="a", role="Draining", reason="draining")
    status.farm.CopyFrom(
        pb.Farm(
            share=0.25,
            announcing=True,
            connections=7,
            draining=True,
            checkers=[pb.Checker(name="web", passing=False, detail="status 503")],
        )
    )
    lines = describe(status)
    assert (
        "share        25% of the clients, 7 connections, announces the addresses, draining by order" in lines
    )
    assert "checker      web fails: status 503" in lines
    assert not [line for line in lines if line.startswith("data")]


def test_a_mirror_is_shown_with_its_data() -> None:
    lines = describe(pb.Status(module="shop/orders", node="a", role="Primary", generation="g1", in_sync=True))
    assert "data         generation g1, in sync" in lines


def test_drain_and_resume_are_orders() -> None:
    assert parser().parse_args(["drain"]).command == "drain"
    assert parser().parse_args(["resume", "--no-wait"]).no_wait
