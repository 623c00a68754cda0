"""Checks of a farm against its template and the modules of both kinds."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.operator.samples import NODES, farm, farm_with_container, module
from twinhull_operator.module import Module, ModuleNode
from twinhull_operator.ports import allot_base_port
from twinhull_operator.problem import Problem
from twinhull_operator.validate_module import check_module

LATER = "2024-02-01T00:00:00Z"


def younger(made: Module, **fields: object) -> Module:
    """The same, made after the samples."""
    return replace(made, **{"created": LATER, "base_port": 7402, **fields})  # type: ignore[arg-type]


def only(checked: Module, *others: Module) -> Problem:
    """The one finding."""
    (problem,) = check_module(checked, NODES, others)
    return problem


def test_the_site_is_valid() -> None:
    mirror, front = module(), younger(farm())
    assert check_module(mirror, NODES, [front]) == ()
    assert check_module(front, NODES, [mirror]) == ()


def test_a_checker_of_an_unknown_port_name() -> None:
    problem = only(farm(checkers=[{"name": "a", "port": 80}, {"name": "web", "port": "nope"}]))
    assert problem.field == "spec.checkers[1].port"
    assert problem.mend == "use a number or one of: health, postgres"


def test_a_checker_does_not_ask_a_udp_port() -> None:
    ports = [
        {"name": "postgres", "containerPort": 5432},
        {"name": "dns", "containerPort": 53, "protocol": "UDP"},
    ]
    made = farm_with_container(ports=ports)
    assert made.farm is not None
    checkers = farm(checkers=[{"name": "d", "port": "dns"}]).farm
    assert only(replace(made, farm=checkers)).field == "spec.checkers[0].port"


@pytest.mark.parametrize("fields", [{"hostNetwork": True}, {"nodeName": "node-a"}])
def test_the_template_is_checked_as_a_mirrors(fields: dict[str, object]) -> None:
    made = farm()
    spec = {**made.template["spec"], **fields}
    (name,) = fields
    assert only(replace(made, template={"spec": spec})).field == f"spec.template.spec.{name}"


def test_an_address_follows_one_module_of_either_kind() -> None:
    address = [{"address": "192.168.10.50/24", "ports": [{"port": 81, "targetPort": "postgres"}]}]
    front = younger(farm(virtualIPs=address))
    problem = only(front, module())
    assert problem.field == "spec.virtualIPs[0].address"
    assert problem.message == "192.168.10.50 belongs to module db/postgres"
    assert only(younger(module()), replace(farm(virtualIPs=address), base_port=7410)).field == problem.field


def test_a_name_belongs_to_one_module_of_either_kind() -> None:
    problem = only(younger(farm("postgres")), module())
    assert problem.field == "metadata.name"
    assert problem.message == "MirrorModule db/postgres has this name"
    # Made in the same second, one of the two still goes on.
    twins = [farm("postgres"), replace(module(virtualIPs=[]), base_port=7404)]
    found = [check_module(one, NODES, twins) for one in twins]
    assert sorted(map(len, found)) == [0, 1]


def test_a_host_port_of_another_module_on_a_shared_node() -> None:
    ports = [{"name": "postgres", "containerPort": 5432, "hostPort": 5432}]
    older = farm_with_container(ports=ports)
    new = younger(farm_with_container(ports=ports), name="other", uid="u", virtual_ips=())
    problem = only(new, older)
    assert problem.field == "spec.template.spec.containers[0].ports[0].hostPort"
    assert problem.message == "5432/TCP is also that of module db/front on node-a, node-b"
    elsewhere = replace(older, nodes=(ModuleNode("node-c"), ModuleNode("node-d")))
    assert check_module(new, NODES, [elsewhere]) == ()


def test_base_ports_are_allotted_across_kinds() -> None:
    assert allot_base_port(replace(farm(), base_port=None), [module()]) == 7402
