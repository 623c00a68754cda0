"""A mirror's checkers in the operator: configuration, pod, checks, status, condition, metrics."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.samples import NODES, SETTINGS, answer, module
from twinhull_operator.constants import CHECKERS_PASS
from twinhull_operator.metrics import definitions
from twinhull_operator.metrics.collect import samples
from twinhull_operator.metrics.view import ModuleView
from twinhull_operator.module import Module
from twinhull_operator.render_config import render_config, resource_field
from twinhull_operator.render_pod import render_pod_template
from twinhull_operator.report import Facts, NodeReport
from twinhull_operator.status_mirror import mirror_conditions, mirror_words
from twinhull_operator.validate_module import check_module
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import Watch
from twinhull_sidecar.config_checker import asked_by_sidecar

ENDS: dict[str, Any] = {"name": "ends", "type": "Process", "threshold": 2, "action": "Failover"}
SQL: dict[str, Any] = {"name": "sql", "type": "TCP", "threshold": 3, "action": "Restart", "port": "postgres"}
WEB: dict[str, Any] = {
    "name": "web",
    "type": "HTTP",
    "threshold": 3,
    "action": "Stop",
    "port": 8080,
    "path": "/healthz",
    "interval": "500ms",
    "timeout": "1s",
    "startupTimeout": "2m",
}
DEEP: dict[str, Any] = {
    "name": "deep",
    "type": "Exec",
    "threshold": 4,
    "action": "Restart",
    "command": ["pg_isready", "-q"],
}
GATEWAY: dict[str, Any] = {
    "name": "gateway",
    "type": "Ping",
    "threshold": 5,
    "action": "Failover",
    "address": "192.0.2.254",
}
CABLE: dict[str, Any] = {
    "name": "cable",
    "type": "Interface",
    "threshold": 1,
    "action": "Failover",
    "interface": "eth0",
}
ALL = [ENDS, SQL, WEB, DEEP, GATEWAY, CABLE]


def checked(*checkers: dict[str, Any]) -> Module:
    """The example with these checkers, a named port, and no probes."""
    made = module(checkers=list(checkers))
    [container] = made.containers
    container.pop("livenessProbe", None)
    container.pop("startupProbe", None)
    container["ports"] = [{"name": "postgres", "containerPort": 5432}]
    return made


def problems(*checkers: dict[str, Any]) -> list[str]:
    return [str(p) for p in check_module(checked(*checkers), NODES, ()) if "checkers" in p.field]


def test_the_sidecar_learns_of_them_in_their_order() -> None:
    config = render_config(checked(*ALL), NODES, 7400)
    assert config.checkers == (
        Watch("ends", "process", 2, "Failover"),
        Watch("sql", "tcp", 3, "Restart", port=5432),
        Watch("web", "http", 3, "Stop", 0.5, 1.0, 120.0, 8080, "/healthz"),
        Watch("deep", "exec", 4, "Restart", command=("pg_isready", "-q")),
        Watch("gateway", "ping", 5, "Failover", address="192.0.2.254"),
        Watch("cable", "interface", 1, "Failover", interface="eth0"),
    )
    assert [one.name for one in asked_by_sidecar(config)] == ["sql", "web", "gateway", "cable"]


def test_a_command_runs_in_its_container_by_the_gate() -> None:
    made = checked({**DEEP, "interval": "10s", "startupTimeout": "95s"})
    [container] = made.containers
    pod = render_pod_template(made, render_config(made, NODES, 7400), SETTINGS)
    [gated] = pod["spec"]["containers"]
    command = gated["livenessProbe"]["exec"]["command"]
    assert command[-3:] == ["--", "pg_isready", "-q"]
    assert command[command.index("--threshold") + 1] == "4"
    assert command[command.index("--startup-window-ms") + 1] == "100000"
    assert gated["livenessProbe"]["periodSeconds"] == 10
    assert "livenessProbe" not in container, "the template itself is not changed"


def test_a_startup_probe_of_the_containers_own_stays() -> None:
    made = checked(DEEP)
    [container] = made.containers
    container["startupProbe"] = {"tcpSocket": {"port": 5432}, "periodSeconds": 1, "failureThreshold": 7}
    pod = render_pod_template(made, render_config(made, NODES, 7400), SETTINGS)
    command = pod["spec"]["containers"][0]["livenessProbe"]["exec"]["command"]
    assert command[command.index("--startup-window-ms") + 1] == "7000"


def test_what_is_right_is_no_problem() -> None:
    assert problems(*ALL) == []


@pytest.mark.parametrize(
    ("checker", "field", "message", "mend"),
    [
        ({**SQL, "port": "sql"}, "port", "no container has a TCP port named 'sql'", "one of: postgres"),
        ({**GATEWAY, "address": "192.0.2.2"}, "address", "192.0.2.2 is node node-b's own", "third machine"),
        ({**GATEWAY, "address": "fd00::0:2"}, "address", "is node node-b's own", "third machine"),
        ({**DEEP, "container": "pg"}, "container", "no container 'pg'", "use one of: postgres"),
        ({**DEEP, "interval": "2500ms"}, "interval", "2.5 s cannot be kept", "whole seconds"),
        ({**DEEP, "timeout": "100ms"}, "timeout", "0.1 s cannot be kept", "whole seconds"),
    ],
)
def test_a_mistake_is_named_with_its_mend(
    checker: dict[str, Any], field: str, message: str, mend: str
) -> None:
    [problem] = problems(ENDS, checker)
    assert problem.startswith(f"spec.checkers[1].{field}: ")
    assert message in problem
    assert mend in problem


def test_a_virtual_address_is_no_third_machine() -> None:
    made = checked(GATEWAY)
    address = made.virtual_ips[0].address
    [problem] = problems({**GATEWAY, "address": address})
    assert f"{address} is a virtual IP of the module" in problem


def test_a_container_has_one_liveness_check() -> None:
    assert "'deep' runs in 'postgres' already" in problems(DEEP, {**DEEP, "name": "deeper"})[0]
    made = checked(DEEP)
    made.containers[0]["livenessProbe"] = {"tcpSocket": {"port": 5432}}
    [problem] = [p for p in check_module(made, NODES, ()) if "checkers" in p.field]
    assert problem.field == "spec.checkers[0].container"
    assert problem.message == "'postgres' has a livenessProbe of its own"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("checkers", "spec.checkers"),
        ("checkers[3]", "spec.checkers[3]"),
        ("checkers[0].kind", "spec.checkers[0].type"),
        ("checkers[0].startup", "spec.checkers[0].startupTimeout"),
        ("checkers[0].command[1]", "spec.checkers[0].command[1]"),
    ],
)
def test_a_sidecars_word_on_a_field_leads_to_the_resources(field: str, path: str) -> None:
    assert resource_field(field) == path


def reports(*, passing: bool) -> tuple[NodeReport, NodeReport]:
    """Both sidecars answer; the cable's checker passes on node-a, or not."""
    detail = "eth0 is up" if passing else "there is no interface eth0"
    first = pb.Checker(name="cable", passing=passing, detail=detail)
    second = pb.Checker(name="cable", passing=True, detail="eth0 is up")
    return (
        answer("node-a", role="Primary", checkers=[first]),
        answer("node-b", role="Secondary", checkers=[second]),
    )


def condition(made: Module, found: tuple[NodeReport, ...]) -> tuple[str, ...]:
    """Status, reason and message; empty: there is no such condition."""
    facts = Facts(made, found, {}, 0.0)
    return next((tuple(rest) for kind, *rest in mirror_conditions(facts) if kind == CHECKERS_PASS), ())


def test_the_condition_names_checker_node_and_finding() -> None:
    made = checked(CABLE)
    assert condition(made, reports(passing=True)) == ("True", "Passing", "no checker of the sidecars fails")
    why = "cable fails on node-a (there is no interface eth0)"
    assert condition(made, reports(passing=False)) == ("False", "Failing", why)
    silent = (reports(passing=True)[0], NodeReport("node-b"))
    assert condition(made, silent)[0] == "Unknown"
    assert condition(checked(), reports(passing=True)) == ()


def test_status_and_metrics_have_the_state_of_each_checker() -> None:
    made, found = checked(CABLE), reports(passing=False)
    status = found[0].status
    assert status is not None
    words = mirror_words(status, {}, Facts(made, found, {}, 0.0, {}, None))
    assert words["checkers"] == [{"name": "cable", "passing": False, "detail": "there is no interface eth0"}]
    shown = {
        labels[2:]: value
        for metric, labels, value in samples(ModuleView(made, found, {}, {}, {}))
        if metric is definitions.CHECKER_PASSING
    }
    assert shown == {("node-a", "cable"): False, ("node-b", "cable"): True}
