"""The resource definitions: what users and other parts rely on. Their rules run in
tests/lab/test_resource_rules.py and test_farm_rules.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.unit.operator.samples import ROOT, farm, healthy, healthy_farm, module
from twinhull_operator.report import Drain
from twinhull_operator.status_module import Findings, render_status

CRDS = ROOT / "crds"
CHART_CRDS = ROOT / "charts" / "twinhull" / "crds"


MIRROR, FARM = "mirrormodule", "farmmodule"
both_kinds = pytest.mark.parametrize("kind", [MIRROR, FARM])


def definition(kind: str) -> dict[str, Any]:
    """The definition of a kind."""
    found: dict[str, Any] = yaml.safe_load((CRDS / f"{kind}s.twinhull.dev.yaml").read_text())
    return found


def version(kind: str) -> dict[str, Any]:
    """Its only version."""
    (found,) = definition(kind)["spec"]["versions"]
    return dict(found)


def spec_fields(schema: dict[str, Any], path: str = "spec") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field below a schema, with its path."""
    for name, child in (schema.get("properties") or {}).items():
        yield f"{path}.{name}", child
        yield from spec_fields(child, f"{path}.{name}")
        if "items" in child:
            yield from spec_fields(child["items"], f"{path}.{name}[]")


def spec_schema(kind: str) -> dict[str, Any]:
    """The schema of ``spec``."""
    found: dict[str, Any] = version(kind)["schema"]["openAPIV3Schema"]["properties"]["spec"]
    return found


def test_the_chart_has_the_same_definitions() -> None:
    names = sorted(path.name for path in CRDS.iterdir())
    assert names == sorted(path.name for path in CHART_CRDS.iterdir())
    for name in names:
        assert (CRDS / name).read_bytes() == (CHART_CRDS / name).read_bytes(), name


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        (MIRROR, ["Role", "Primary", "Secondary", "Sync", "VIP", "Age"]),
        (FARM, ["Up", "Announcer", "Shares", "VIP", "Age"]),
    ],
)
def test_the_columns_are_those_a_user_looks_for(kind: str, expected: list[str]) -> None:
    columns = version(kind)["additionalPrinterColumns"]
    assert [c["name"] for c in columns if not c.get("priority")] == expected
    assert [c["name"] for c in columns if c.get("priority")] == ["Valid", "Reason"]
    assert version(kind)["subresources"] == {"status": {}}


@both_kinds
def test_every_rule_has_a_message(kind: str) -> None:
    def rules(schema: Any) -> Iterator[dict[str, Any]]:
        if isinstance(schema, dict):
            yield from schema.get("x-kubernetes-validations", [])
            for child in schema.values():
                yield from rules(child)

    found = list(rules(version(kind)["schema"]))
    assert len(found) > 20
    assert all(rule.get("message") for rule in found)


@pytest.mark.parametrize(
    ("kind", "field", "default"),
    [
        (MIRROR, "spec.failover.detectionTimeout", "3s"),
        (MIRROR, "spec.failover.withoutWitness", "Continue"),
        (MIRROR, "spec.failover.maxRestarts", 3),
        (MIRROR, "spec.failover.restartWindow", "10m"),
        (MIRROR, "spec.replication.durability", "write"),
        (MIRROR, "spec.reclaimPolicy", "Retain"),
        (FARM, "spec.failover.detectionTimeout", "1s"),
        (FARM, "spec.failover.maxRestarts", 3),
        (FARM, "spec.failover.restartWindow", "10m"),
        (FARM, "spec.affinity", "ClientIP"),
        (FARM, "spec.checkers[].type", "TCP"),
        (FARM, "spec.checkers[].interval", "1s"),
    ],
)
def test_defaults(kind: str, field: str, default: object) -> None:
    assert dict(spec_fields(spec_schema(kind)))[field]["default"] == default


@both_kinds
def test_only_the_pod_template_takes_unknown_fields(kind: str) -> None:
    open_fields = [
        path
        for path, schema in spec_fields(spec_schema(kind))
        if schema.get("x-kubernetes-preserve-unknown-fields")
    ]
    assert open_fields == ["spec.template.spec"]


@both_kinds
def test_the_reference_names_every_field(kind: str) -> None:
    text = (ROOT / "docs" / "reference" / f"{kind}.md").read_text()
    missing = [
        path
        for path, _ in spec_fields(spec_schema(kind))
        if not path.startswith("spec.template.") and f"`{path.removeprefix('spec.')}`" not in text
    ]
    assert not missing


@pytest.mark.parametrize(
    ("kind", "rendered"),
    [
        (MIRROR, render_status(module(), healthy(), Findings(), {}, now=1.0)),
        (FARM, render_status(farm(), healthy_farm(), Findings(drained=Drain("node-a", 1.0)), {}, now=1.0)),
    ],
)
def test_the_status_that_is_written_is_in_the_schema(kind: str, rendered: dict[str, Any]) -> None:
    """The API server drops what is not, without a word."""

    def unknown(value: Any, schema: dict[str, Any], path: str) -> Iterator[str]:
        if isinstance(value, dict):
            for name, child in value.items():
                known = schema.get("properties", {})
                if name in known:
                    yield from unknown(child, known[name], f"{path}.{name}")
                else:
                    yield f"{path}.{name}"
        elif isinstance(value, list):
            for child in value:
                yield from unknown(child, schema["items"], path)

    schema = version(kind)["schema"]["openAPIV3Schema"]["properties"]["status"]
    assert list(unknown(rendered, schema, "status")) == []
