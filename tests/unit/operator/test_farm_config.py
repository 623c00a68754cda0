"""A farm's specification, and the configuration that its sidecars get."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.operator.samples import NODES, farm, farm_resource, farm_with_container, module
from twinhull_operator.module import Module, ModuleChecker, ModuleFarm, read_module
from twinhull_operator.problem import InvalidModuleError
from twinhull_operator.render_config import render_config, resource_field
from twinhull_operator.render_metadata import render_metadata
from twinhull_sidecar.config import Checker, Farm, parse, render


def checkers(made: Module) -> tuple[Checker, ...]:
    """The checkers that the sidecars make."""
    found = render_config(made, NODES, 7400).farm
    assert found is not None
    return found.checkers


def probed(**probe: Any) -> Module:
    """The farm without checkers of its own, its container with this readiness probe."""
    return farm_with_container(readinessProbe=probe)


def test_fields() -> None:
    found = farm(weights={"node-b": 3}, affinity="ClientIPPort")
    assert found.kind == "FarmModule"
    health = ModuleChecker("haproxy", "health", "HTTP", "/healthz", 0.5)
    assert found.farm == ModuleFarm("ClientIPPort", {"node-b": 3}, (health,))
    assert (found.detection_timeout, found.volumes, found.base_dir) == (1.0, (), "/var/lib/twinhull/db-front")
    assert module().farm is None


def test_defaults_of_a_resource_that_says_nothing() -> None:
    made = farm_resource()
    for name in ("affinity", "weights", "checkers", "failover"):
        del made["spec"][name]
    found = read_module(made)
    assert found.farm == ModuleFarm("ClientIP", {}, None)
    assert (found.detection_timeout, found.max_restarts, found.restart_window) == (1.0, 3, 600.0)


def test_the_whole_configuration() -> None:
    config = render_config(farm(weights={"node-b": 3}), NODES, 7402)
    assert config.kind == "FarmModule"
    assert config.farm == Farm(
        "ClientIP",
        {"node-a": 1, "node-b": 3},
        (Checker("haproxy", "http", 8404, "/healthz", 0.5, 1.0, 1, 2),),
    )
    assert (config.volumes, config.detection_timeout, config.ports.grpc) == ((), 1.0, 7402)
    assert parse(render(config)) == config
    assert render_config(module(), NODES, 7400).farm is None


def test_objects_belong_to_the_farm() -> None:
    (owner,) = render_metadata(farm())["ownerReferences"]
    assert (owner["kind"], owner["name"]) == ("FarmModule", "front")


def test_without_probes_each_tcp_target_port_is_tried_once() -> None:
    vips = [
        {"address": "192.168.10.71", "ports": [{"port": 80, "targetPort": 8080}, {"port": 53, "protocol": "UDP"}]},
        {"address": "fd00::71", "ports": [{"port": 81, "targetPort": 8080}, {"port": 5432, "targetPort": "postgres"}]},
    ]  # fmt: skip
    made = farm_resource(virtualIPs=vips)
    del made["spec"]["checkers"]
    found = checkers(read_module(made))
    assert [(c.name, c.kind, c.port) for c in found] == [("tcp-5432", "tcp", 5432), ("tcp-8080", "tcp", 8080)]
    assert (found[0].interval, found[0].timeout, found[0].rise, found[0].fall) == (1.0, 1.0, 1, 2)


def test_an_empty_list_of_checkers_is_none() -> None:
    assert checkers(farm(checkers=[])) == ()


def test_a_readiness_probe_becomes_a_checker() -> None:
    assert checkers(probed(httpGet={"port": "health", "path": "healthz"})) == (
        Checker("haproxy", "http", 8404, "/healthz"),
    )
    times = {"periodSeconds": 2, "timeoutSeconds": 3, "successThreshold": 4, "failureThreshold": 5}
    assert checkers(probed(tcpSocket={"port": 5432}, **times)) == (
        Checker("haproxy", "tcp", 5432, "/", 2.0, 3.0, 4, 5),
    )


@pytest.mark.parametrize(
    "more", [{"scheme": "HTTPS"}, {"host": "a.test"}, {"httpHeaders": [{"name": "a", "value": "b"}]}]
)
def test_a_request_that_the_sidecar_would_make_differently_becomes_a_connection(more: dict[str, Any]) -> None:
    (found,) = checkers(probed(httpGet={"port": 8404, "path": "/x", **more}))
    assert (found.kind, found.port) == ("tcp", 8404)


@pytest.mark.parametrize(
    "probe",
    [
        {"exec": {"command": ["true"]}},
        {"grpc": {"port": 1}},
        {"httpGet": {"port": "nope"}},
        {"httpGet": {}},
        {},
    ],
)
def test_other_probes_leave_it_at_the_ports(probe: dict[str, Any]) -> None:
    assert [checker.name for checker in checkers(probed(**probe))] == ["tcp-5432"]


def test_times_beyond_what_a_checker_takes_are_its_longest() -> None:
    times = {"periodSeconds": 10**6, "timeoutSeconds": 600, "failureThreshold": 10**4}
    (found,) = checkers(probed(tcpSocket={"port": 1}, **times))
    assert (found.interval, found.timeout, found.fall) == (3600.0, 60.0, 100)
    (broken,) = checkers(probed(tcpSocket={"port": 1}, periodSeconds="x", failureThreshold=0))
    assert (broken.interval, broken.fall) == (1.0, 2)


def test_what_the_sidecars_reader_refuses_names_the_resources_field() -> None:
    with pytest.raises(InvalidModuleError) as caught:
        render_config(farm(weights={"node-a": 0, "node-b": 0}), NODES, 7400)
    assert caught.value.problems[0].field == "spec.weights"
    assert resource_field("farm.checkers[1].path") == "spec.checkers[1].path"
