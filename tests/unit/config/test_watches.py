"""A mirror's checkers in the configuration: each mistake is refused with its field and its mend."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.config.test_config_document import module
from twinhull_sidecar.config import Application, ConfigError, ModuleConfig, Watch, parse, render
from twinhull_sidecar.config_checker import asked_by_sidecar

PROCESS = Application(adapter="process", argv=("serve",))
GIVEN = (
    Watch("ended", "process", threshold=2, action="Failover"),
    Watch("sql", "tcp", threshold=3, action="Restart", port=5432, startup=120.0),
    Watch("web", "http", threshold=3, action="Restart", port=80, path="/healthz"),
    Watch("deep", "exec", threshold=1, action="Stop", command=("check", "--now")),
    Watch("gateway", "ping", threshold=5, action="Failover", address="10.9.9.9"),
    Watch("cable", "interface", threshold=1, action="Failover", interface="eth0"),
)


def with_checkers() -> ModuleConfig:
    return replace(module(), application=PROCESS, checkers=GIVEN)


def test_every_kind_is_read_back_equal() -> None:
    assert parse(render(with_checkers())) == with_checkers()


@pytest.mark.parametrize(
    ("index", "changes", "field", "message", "mend"),
    [
        (1, {"threshold": None}, "threshold", "is missing", "after how many failures"),
        (1, {"threshold": 0}, "threshold", "0 is not a whole number", "such a number"),
        (1, {"action": None}, "action", "is not known", "Restart, Failover, Stop"),
        (1, {"kind": "udp"}, "kind", "'udp' is not known", "process, tcp, http"),
        (1, {"port": 0}, "port", "0 is not a whole number", "such a number"),
        (1, {"path": "/x"}, "path", "is no field of a checker of kind tcp", "change the kind"),
        (2, {"path": "x"}, "path", "does not begin with /", "absolute"),
        (3, {"command": []}, "command", "is missing", "give the command"),
        (4, {"action": "Restart"}, "action", "mends nothing that ping checks", "Failover or Stop"),
        (4, {"address": "10.0.0.1"}, "address", "a's own address", "third machine"),
        (5, {"interface": "a/b"}, "interface", "is not a network interface's name", "network interface"),
        (5, {"name": "sql"}, "name", "'sql' is there twice", "name each once"),
        (1, {"kind": "process", "port": 0}, "kind", "process is there twice", "keep one"),
        (1, {"interval": 0}, "interval", "0 is not a number", "such a number"),
    ],
)
def test_a_mistake_is_named_with_its_mend(
    index: int, changes: dict[str, Any], field: str, message: str, mend: str
) -> None:
    document = json.loads(render(with_checkers()))
    document["checkers"][index] |= changes
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(document))
    assert caught.value.field == f"checkers[{index}].{field}"
    assert message in caught.value.message
    assert mend in caught.value.mend


def test_in_a_container_only_a_restart_follows_a_command() -> None:
    moved = replace(module(), checkers=(replace(GIVEN[3], action="Failover"),))
    with pytest.raises(ConfigError, match=r"checkers\[0\].action: Failover cannot follow .*; write Restart"):
        parse(render(moved))


def test_the_sidecar_does_not_run_what_the_gate_runs() -> None:
    assert asked_by_sidecar(with_checkers()) == tuple(one for one in GIVEN if one.kind != "process")
    held = replace(module(), checkers=(replace(GIVEN[3], action="Restart"), GIVEN[1]))
    assert parse(render(held)).checkers == held.checkers
    assert asked_by_sidecar(held) == (GIVEN[1],)
