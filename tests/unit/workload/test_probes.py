"""Rewriting a container for the gate."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

import pytest

from twinhull_sidecar.workload.probes import GATE, GATE_DIR, ProbeError, gate_volume, rewrite_container


def container(**more: Any) -> dict[str, Any]:
    base = {"name": "db", "image": "postgres:16", "command": ["postgres"], "args": ["-c", "port=$(PORT)"]}
    return {**base, **more}


def words(probe: dict[str, Any]) -> list[str]:
    command: list[str] = probe["exec"]["command"]
    assert command[:2] == [GATE, "probe"]
    return command[2:]


def option(command: list[str], name: str) -> str:
    return command[command.index(name) + 1]


def test_the_command_goes_behind_the_gate_and_the_arguments_stay() -> None:
    given = container()
    before = deepcopy(given)
    result = rewrite_container(given)
    assert result["command"] == [GATE, "run", "--container", "db", "--", "postgres"]
    assert result["args"] == ["-c", "port=$(PORT)"]
    assert given == before, "the original is not changed"


def test_without_a_command_the_images_is_used() -> None:
    given = container()
    del given["command"]
    result = rewrite_container(given)
    assert result["command"] == [GATE, "run", "--container", "db", "--image-command", "--"]


def test_the_gates_volume_is_in_memory_and_mounted_read_only() -> None:
    assert gate_volume()["emptyDir"]["medium"] == "Memory"
    mounts = rewrite_container(container(volumeMounts=[{"name": "x", "mountPath": "/x"}]))["volumeMounts"]
    assert mounts == [
        {"name": "x", "mountPath": "/x"},
        {"name": "twinhull-gate", "mountPath": GATE_DIR, "readOnly": True},
    ]


def test_readiness_and_hooks_stay_as_they_are() -> None:
    more = {
        "readinessProbe": {"httpGet": {"port": 80}},
        "lifecycle": {"preStop": {"exec": {"command": ["x"]}}},
    }
    result = rewrite_container(container(**more))
    assert {key: result[key] for key in more} == more
    assert "env" not in result
    assert "livenessProbe" not in result


def test_liveness_by_http() -> None:
    probe = {
        "httpGet": {
            "port": "web",
            "path": "/alive?x",
            "scheme": "HTTPS",
            "host": "10.1.1.1",
            "httpHeaders": [{"name": "Host", "value": "shop"}],
        },
        "initialDelaySeconds": 5,
        "timeoutSeconds": 2,
        "periodSeconds": 7,
        "failureThreshold": 4,
        "terminationGracePeriodSeconds": 9,
    }
    ports = [{"name": "web", "containerPort": 8443}]
    result = rewrite_container(container(livenessProbe=probe, ports=ports), grace_seconds=60)
    live = result["livenessProbe"]
    command = words(live)
    assert command[0] == "http"
    assert option(command, "--port") == "8443"
    assert option(command, "--path") == "/alive?x"
    assert option(command, "--scheme") == "https"
    assert option(command, "--host") == "10.1.1.1"
    assert option(command, "--header") == "Host: shop"
    assert option(command, "--timeout-ms") == "2000"
    assert option(command, "--threshold") == "4"
    assert option(command, "--grace-ms") == "9000"
    assert option(command, "--initial-delay-ms") == "5000"
    assert (live["timeoutSeconds"], live["failureThreshold"], live["periodSeconds"]) == (3, 6, 7)
    assert live["terminationGracePeriodSeconds"] == 9
    assert "initialDelaySeconds" not in live, "the gate counts it from the application's own start"
    pod_ip = {"name": "TWINHULL_POD_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    assert result["env"] == [pod_ip]


def test_liveness_by_exec_keeps_the_command_last() -> None:
    result = rewrite_container(container(livenessProbe={"exec": {"command": ["pg_isready", "-q"]}}))
    command = words(result["livenessProbe"])
    assert command[0] == "exec"
    assert command[-3:] == ["--", "pg_isready", "-q"]
    assert option(command, "--grace-ms") == "30000"
    assert "env" not in result, "no address is needed"


@pytest.mark.parametrize(
    ("check", "expected"),
    [
        ({"tcpSocket": {"port": 5432}}, ["tcp", "--port", "5432"]),
        ({"tcpSocket": {"port": "5432", "host": "h"}}, ["tcp", "--port", "5432", "--host", "h"]),
        ({"grpc": {"port": 9000}}, ["grpc", "--port", "9000"]),
        ({"grpc": {"port": 9000, "service": "s"}}, ["grpc", "--port", "9000", "--service", "s"]),
        ({"httpGet": {"port": 80}}, ["http", "--port", "80", "--path", "/"]),
    ],
)
def test_the_startup_check_goes_into_both_probes(check: dict[str, Any], expected: list[str]) -> None:
    startup = {**check, "periodSeconds": 2, "failureThreshold": 30, "initialDelaySeconds": 3}
    liveness = {"exec": {"command": ["true"]}}
    result = rewrite_container(container(startupProbe=startup, livenessProbe=liveness))
    for name, kind in (("startupProbe", "none"), ("livenessProbe", "exec")):
        command = words(result[name])
        assert command[0] == kind
        assert json.loads(option(command, "--startup")) == expected
        assert option(command, "--startup-window-ms") == "63000"


def test_a_startup_probe_alone_gets_a_liveness_probe_for_later_starts() -> None:
    result = rewrite_container(container(startupProbe={"tcpSocket": {"port": 1}}))
    assert result["livenessProbe"] == result["startupProbe"]


@pytest.mark.parametrize(
    ("more", "field", "part"),
    [
        ({"name": ""}, "name", "is missing"),
        (
            {"livenessProbe": {"tcpSocket": {"port": "db"}}, "ports": [{"name": "web", "containerPort": 80}]},
            "livenessProbe.tcpSocket.port",
            "named ports: web",
        ),
        ({"livenessProbe": {"tcpSocket": {"port": 70000}}}, "livenessProbe.tcpSocket.port", "1 to 65535"),
        ({"startupProbe": {"periodSeconds": 1}}, "startupProbe", "exec, httpGet, tcpSocket, grpc"),
        ({"livenessProbe": {"exec": {"command": []}}}, "livenessProbe.exec.command", "is empty"),
        (
            {"livenessProbe": {"exec": {"command": ["x"]}, "timeoutSeconds": -1}},
            "livenessProbe.timeoutSeconds",
            "at least 0",
        ),
        (
            {"livenessProbe": {"httpGet": {"port": 1, "scheme": "FTP"}}},
            "livenessProbe.httpGet.scheme",
            "HTTPS",
        ),
        (
            {"volumeMounts": [{"name": "x", "mountPath": "/twinhull/gate/"}]},
            "volumeMounts[0].mountPath",
            "mount it elsewhere",
        ),
    ],
)
def test_mistakes_name_the_field_and_the_mend(more: dict[str, Any], field: str, part: str) -> None:
    with pytest.raises(ProbeError) as caught:
        rewrite_container(container(**more))
    assert caught.value.field == field
    assert part in str(caught.value)


def test_the_gate_is_told_where_the_replicated_volumes_are() -> None:
    mounts = [{"name": "data", "mountPath": "/var/lib/db"}, {"name": "tmp", "mountPath": "/tmp"}]
    result = rewrite_container(container(volumeMounts=mounts), replicated=["data"])
    assert result["command"][4:6] == ["--volume", "/var/lib/db"]
    assert result["command"].count("--volume") == 1
