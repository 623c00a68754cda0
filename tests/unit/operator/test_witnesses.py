"""Witnesses in the operator: configuration, Secrets, checks, status, metrics."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.samples import answer, healthy, module
from twinhull_operator.module import Module
from twinhull_operator.render_config import render_config, resource_field
from twinhull_operator.render_witness import render_witness_sources
from twinhull_operator.report import Facts
from twinhull_operator.status_mirror import mirror_conditions
from twinhull_operator.validate_module import check_module
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import Witness

NODES: dict[str, Any] = {
    name: {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
    for name, address in (("node-a", "192.168.10.1"), ("node-b", "192.168.10.2"))
}
SPEC = [
    {"name": "gateway", "type": "Ping", "addresses": ["192.168.10.254"]},
    {"name": "dns", "type": "TCP", "addresses": ["192.168.20.53"], "port": 53},
    {"name": "site-c", "type": "Lease", "kubeconfigSecret": {"name": "site-c"}},
]


def witnessed() -> Module:
    return module(witnesses=SPEC)


def test_the_sidecar_learns_of_them() -> None:
    config = render_config(witnessed(), NODES, 7400)
    assert config.witnesses == (
        Witness("gateway", "ping", ("192.168.10.254",)),
        Witness("dns", "tcp", ("192.168.20.53",), 53),
        Witness(
            "site-c",
            "lease",
            kubeconfig="/etc/twinhull/witness/site-c",
            namespace="default",
            lease=f"twinhull-{config.namespace}-{config.name}",
        ),
    )


def test_the_kubeconfig_is_mounted_where_the_sidecar_looks() -> None:
    [source] = render_witness_sources(witnessed())
    assert source["secret"] == {
        "name": "site-c",
        "items": [{"key": "kubeconfig", "path": "witness/site-c"}],
        "optional": True,
    }


def test_a_witness_that_is_a_node_is_refused() -> None:
    given = witnessed()
    inner = replace(given.witnesses[0], addresses=("192.168.10.9", "192.168.10.2"))
    [problem] = [
        found
        for found in check_module(replace(given, witnesses=(inner,)), NODES, ())
        if "witnesses" in found.field
    ]
    assert problem.field == "spec.witnesses[0].addresses[1]"
    assert problem.message == "192.168.10.2 is node node-b's own address"
    assert "third machine" in problem.mend


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("witnesses", "spec.witnesses"),
        ("witnesses[1]", "spec.witnesses[1]"),
        ("witnesses[0].kubeconfig", "spec.witnesses[0].kubeconfigSecret"),
        ("witnesses[2].addresses[0]", "spec.witnesses[2].addresses[0]"),
        ("witnesses[2].kind", "spec.witnesses[2].type"),
        ("failover", "spec.failover.mode"),
    ],
)
def test_problems_name_the_resources_field(field: str, path: str) -> None:
    assert resource_field(field) == path


def condition(answers: bool) -> dict[str, str]:
    witness = pb.Witness(name="gateway", type="Ping", answers=answers, detail="" if answers else "no route")
    reports = [
        answer("node-a", "Primary", witnesses=[witness]),
        answer("node-b", "Secondary", witnesses=[pb.Witness(name="gateway", answers=True)]),
    ]
    found = mirror_conditions(Facts(module=witnessed(), reports=reports, previous={}, now=1.0))
    return {kind: f"{status} {message}" for kind, status, _, message in found}


def test_the_condition_says_which_does_not_answer_whom() -> None:
    assert condition(True)["WitnessesAnswer"].startswith("True")
    assert condition(False)["WitnessesAnswer"] == "False gateway does not answer node-a (no route)"


def test_without_witnesses_there_is_no_such_condition() -> None:
    found = mirror_conditions(Facts(module=module(), reports=healthy(), previous={}, now=1.0))
    assert "WitnessesAnswer" not in {kind for kind, *_ in found}
