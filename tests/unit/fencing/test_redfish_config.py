"""Controllers in the configuration and in the operator: refused with the field and the mend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.control.doubles import module
from tests.unit.operator.samples import module as desired
from twinhull_operator.render_config import resource_field
from twinhull_operator.render_witness import render_bmc, render_fencing_sources
from twinhull_sidecar.config import Bmc, ConfigError, parse, render

RIGHT = [
    {"node": "a", "endpoint": "https://10.0.0.21", "secret": "/s/a"},
    {"node": "b", "endpoint": "https://10.0.0.22:443/", "secret": "/s/b", "system": "/redfish/v1/Systems/1"},
]


def read(entries: Any) -> Any:
    document = json.loads(render(module("/base")))
    return parse(json.dumps({**document, "fencing": entries}))


def test_what_is_right_is_read() -> None:
    config = read(RIGHT)
    assert config.fencing[0] == Bmc("a", "https://10.0.0.21", "/s/a")
    assert parse(render(config)) == config


@pytest.mark.parametrize(
    ("number", "changes", "field", "message"),
    [
        (0, {"endpoint": "http://10.0.0.21"}, "fencing[0].endpoint", "over https"),
        (0, {"endpoint": "https://user@10.0.0.21"}, "fencing[0].endpoint", "over https"),
        (0, {"endpoint": "https://10.0.0.21/redfish"}, "fencing[0].endpoint", "over https"),
        (0, {"endpoint": "https://[::"}, "fencing[0].endpoint", "over https"),
        (0, {"endpoint": None}, "fencing[0].endpoint", "is missing"),
        (0, {"node": "c"}, "fencing[0].node", "'c' is not one of the nodes"),
        (1, {"node": "a"}, "fencing", "names a 2 times"),
        (1, {"system": "Systems/1"}, "fencing[1].system", "no Redfish path"),
        (1, {"endpoint": "https://10.0.0.21", "system": None}, "fencing[1].endpoint", "is a's as well"),
        (1, {"secret": ""}, "fencing[1].secret", "is not a directory"),
        (1, {"insecure": True}, "fencing[1].insecure", "is not a known field"),
    ],
)
def test_what_is_wrong_is_refused(number: int, changes: dict[str, Any], field: str, message: str) -> None:
    entries = [dict(entry) for entry in RIGHT]
    entries[number] |= changes
    with pytest.raises(ConfigError) as caught:
        read(entries)
    assert (caught.value.field, message in caught.value.message) == (field, True), caught.value
    assert caught.value.mend


def test_one_controller_is_not_enough() -> None:
    with pytest.raises(ConfigError, match="fencing: names b 0 times"):
        read(RIGHT[:1])


def test_the_operator_renders_them_and_mounts_their_secrets() -> None:
    names = desired().node_names
    given = [
        {"node": name, "endpoint": f"https://bmc-{name}", "secret": {"name": f"bmc-{name}"}} for name in names
    ]
    made = desired(fencing={"redfish": given})
    assert render_bmc(made.fencing[0]) == Bmc(
        names[0], f"https://bmc-{names[0]}", f"/etc/twinhull/fencing/{names[0]}"
    )
    first = render_fencing_sources(made)[0]["secret"]
    assert (first["name"], first["optional"]) == (f"bmc-{names[0]}", True)
    assert {item["path"] for item in first["items"]} == {
        f"fencing/{names[0]}/{key}" for key in ("username", "password", "ca.crt")
    }
    assert resource_field("fencing[1].endpoint") == "spec.fencing.redfish[1].endpoint"
