"""Checks against the cluster, the other modules and the template: each finding names field and mend."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.operator.samples import NODES, module, resource, with_container, with_pod
from twinhull_operator.module import Module, read_module
from twinhull_operator.problem import Problem
from twinhull_operator.validate_module import check_module, common_addresses

MOUNT = {"name": "data", "mountPath": "/data"}


def only(checked: Module, *others: Module) -> Problem:
    """The one finding."""
    (problem,) = check_module(checked, NODES, others)
    assert problem.message
    assert problem.mend
    return problem


def younger(name: str = "young", **spec: Any) -> Module:
    """A module that was made after the sample."""
    return replace(module(name, uid="young", **spec), created="2024-02-01T00:00:00Z", base_port=7402)


def test_the_example_is_valid() -> None:
    assert check_module(module(), NODES, []) == ()


def test_an_unknown_node() -> None:
    problem = only(module(nodes=[{"name": "node-a"}, {"name": "node-x"}]))
    assert problem.field == "spec.nodes[1].name"
    assert "'node-x'" in problem.message
    assert "node-a, node-b, node-c" in problem.mend


def test_nodes_without_a_common_ip_version() -> None:
    nodes = [{"name": "node-a", "addresses": ["fd00::1"]}, {"name": "node-b", "addresses": ["192.0.2.2"]}]
    assert only(module(nodes=nodes)).field == "spec.nodes"


def test_ipv4_comes_first_and_given_addresses_win() -> None:
    assert common_addresses(module(), NODES) == {"node-a": "192.0.2.1", "node-b": "192.0.2.2"}
    given = module(nodes=[{"name": "node-a", "addresses": ["fd00::a"]}, {"name": "node-b"}])
    assert common_addresses(given, NODES) == {"node-a": "fd00::a", "node-b": "fd00::2"}


@pytest.mark.parametrize("address", ["192.0.2.3", "fd00:0::1"])
def test_a_virtual_ip_that_is_a_nodes_own(address: str) -> None:
    problem = only(module(virtualIPs=[{"address": address}]))
    assert problem.field == "spec.virtualIPs[0].address"
    assert "own address" in problem.message


def test_a_virtual_ip_of_another_module_is_refused_to_the_younger_one() -> None:
    new = younger(virtualIPs=[{"address": "192.168.10.50/24"}])
    assert only(new, module()).message == "192.168.10.50 belongs to module db/postgres"
    assert check_module(module(), NODES, [new]) == ()


def test_one_port_name_for_two_ports() -> None:
    vips = [
        {"address": "192.168.10.50", "ports": [{"name": "web", "port": 80}]},
        {"address": "fd00::50", "ports": [{"name": "web", "port": 8080}]},
    ]
    assert only(module(virtualIPs=vips)).field == "spec.virtualIPs[1].ports[0].name"


def test_the_directory_of_another_module() -> None:
    # db-postgres is made of (db, postgres) and of (db-postgres's first part, rest) alike.
    twin = replace(younger("b-c", virtualIPs=[]), namespace="a")
    older = replace(module("c", uid="old", virtualIPs=[]), namespace="a-b")
    problem = only(twin, older)
    assert problem.field == "metadata.name"
    assert "/var/lib/twinhull/a-b-c" in problem.message


def test_the_base_port_of_another_module() -> None:
    clash = replace(younger(virtualIPs=[]), base_port=7400)
    assert only(clash, module()).field == "status.basePort"


def test_a_volume_that_nobody_mounts() -> None:
    problem = only(module(volumes=[{"name": "data"}, {"name": "wal"}]))
    assert problem.field == "spec.volumes[1].name"
    assert "volumeMounts" in problem.mend


def test_a_volume_that_the_template_defines_too() -> None:
    problem = only(with_pod(volumes=[{"name": "data", "emptyDir": {}}]))
    assert problem.field == "spec.template.spec.volumes[0].name"


@pytest.mark.parametrize(
    ("mount", "field"),
    [
        ({**MOUNT, "mountPath": "data"}, "mountPath"),
        ({**MOUNT, "subPath": "x"}, "subPath"),
        ({**MOUNT, "subPathExpr": "$(X)"}, "subPathExpr"),
    ],
)
def test_mounts_that_cannot_work(mount: dict[str, str], field: str) -> None:
    problem = only(with_container(volumeMounts=[mount]))
    assert problem.field == f"spec.template.spec.containers[0].volumeMounts[0].{field}"


def test_an_init_container_that_mounts_the_mirror() -> None:
    problem = only(with_pod(initContainers=[{"name": "i", "image": "x", "volumeMounts": [MOUNT]}]))
    assert problem.field == "spec.template.spec.initContainers[0].volumeMounts[0].name"


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"nodeName": "node-a"}, "nodeName"),
        ({"nodeSelector": {"a": "b"}}, "nodeSelector"),
        ({"hostNetwork": True}, "hostNetwork"),
        ({"hostPID": True}, "hostPID"),
        ({"shareProcessNamespace": True}, "shareProcessNamespace"),
        ({"affinity": {"nodeAffinity": {"x": 1}}}, "affinity.nodeAffinity"),
        ({"terminationGracePeriodSeconds": 4000}, "terminationGracePeriodSeconds"),
        ({"initContainers": [{"name": "twinhull", "image": "x"}]}, "initContainers[0].name"),
        ({"volumes": [{"name": "twinhull-base", "emptyDir": {}}]}, "volumes[0].name"),
    ],
)
def test_pod_fields_that_would_break_the_module(fields: dict[str, Any], field: str) -> None:
    assert only(with_pod(**fields)).field == f"spec.template.spec.{field}"


def test_an_unknown_port_name() -> None:
    problem = only(with_container(ports=[{"name": "pg", "containerPort": 5432}]))
    assert problem.field == "spec.virtualIPs[0].ports[0].targetPort"
    assert problem.mend == "use a number or one of: pg"


def test_a_tcp_port_does_not_serve_udp() -> None:
    vips = [
        {"address": "192.168.10.50", "ports": [{"port": 53, "targetPort": "postgres", "protocol": "UDP"}]}
    ]
    assert (
        only(read_module(resource(virtualIPs=vips))).message == "no container has a UDP port named 'postgres'"
    )


def test_data_is_not_adopted_from_a_module_that_exists() -> None:
    other = replace(module("other", uid="55555555-0000-4000-8000-000000000000"), base_port=7500)
    problem = only(module(adoptUID=other.uid), replace(other, virtual_ips=(), created="2030-01-01T00:00:00Z"))
    assert problem.field == "spec.adoptUID"
    assert f"{other.uid} is the UID of {other.key}, which is not deleted" in problem.message
    own = module()
    assert "this module itself" in only(replace(own, adopt_uid=own.uid)).message
    assert check_module(module(adoptUID="66666666-0000-4000-8000-000000000000"), NODES, []) == ()
