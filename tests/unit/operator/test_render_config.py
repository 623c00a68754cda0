"""The sidecars' configuration, which their own reader must accept."""

from __future__ import annotations

import pytest

from tests.unit.operator.samples import NODES, module, with_container
from twinhull_operator.problem import InvalidModuleError
from twinhull_operator.render_config import render_config, resource_field
from twinhull_operator.render_configmap import render_configmap
from twinhull_sidecar.config import Link, MaintenanceWindow, Ports, ServicePort, parse


def test_the_whole_configuration() -> None:
    config = render_config(module(), NODES, 7402)
    assert config.module == "db/postgres"
    assert config.nodes == ("node-a", "node-b")
    assert config.links == (Link("nodes", {"node-a": "192.0.2.1", "node-b": "192.0.2.2"}),)
    assert config.ports == Ports(7402, 7402, 7403)
    assert config.application.stop_grace == 60
    assert config.application.containers[0].command is None
    assert config.virtual_ips[0].ports == (ServicePort("postgres", 5432, 5432),)


def test_the_module_whose_data_are_adopted_is_handed_on() -> None:
    old = "5f0c1c1e-1ab0-4b0e-9d5e-0123456789ab"
    assert render_config(module(adoptUID=old), NODES, 7400).adopt_uid == old
    assert render_config(module(), NODES, 7400).adopt_uid is None


def test_the_return_to_the_preferred_node_is_handed_on() -> None:
    window = {"start": "22:30", "end": "02:00", "days": ["Sun", "Sat"]}
    made = module(preferredNode="node-b", failback="Automatic", failbackAfter="1m30s", failbackWindow=window)
    config = render_config(made, NODES, 7400)
    assert (config.failback, config.failback_after) == ("Automatic", 90)
    assert config.failback_window == MaintenanceWindow(("Sat", "Sun"), 22 * 60 + 30, 120)
    every_day = module(failbackWindow={"start": "02:00", "end": "03:00"})
    found = render_config(every_day, NODES, 7400).failback_window
    assert found is not None
    assert len(found.days) == 7
    assert render_config(module(), NODES, 7400).failback == "Manual"


def test_a_return_to_no_node_names_the_field() -> None:
    with pytest.raises(InvalidModuleError) as caught:
        render_config(module(failback="Automatic"), NODES, 7400)
    assert caught.value.problems[0].field == "spec.failback"


def test_dedicated_links_come_first_and_the_nodes_own_stays() -> None:
    link = {"name": "direct", "addresses": {"node-a": "10.0.0.1", "node-b": "10.0.0.2"}}
    config = render_config(module(links=[link]), NODES, 7400)
    assert [entry.name for entry in config.links] == ["direct", "nodes"]


def test_a_dedicated_link_over_the_nodes_own_addresses_is_not_there_twice() -> None:
    link = {"name": "lan", "addresses": {"node-a": "192.0.2.1", "node-b": "192.0.2.2"}}
    assert [entry.name for entry in render_config(module(links=[link]), NODES, 7400).links] == ["lan"]


def test_commands_are_handed_on() -> None:
    (container,) = render_config(
        with_container(command=["a"], args=["b"]), NODES, 7400
    ).application.containers
    assert (container.command, container.args) == (("a",), ("b",))


def test_what_the_sidecars_reader_refuses_names_the_resources_field() -> None:
    with pytest.raises(InvalidModuleError) as caught:
        render_config(module(virtualIPs=[{"address": "fd00::5"}, {"address": "fd00:0::5"}]), NODES, 7400)
    assert caught.value.problems[0].field == "spec.virtualIPs"


@pytest.mark.parametrize(
    ("field", "path"),
    [
        ("virtual_ips[0].ports[1].target_port", "spec.virtualIPs[0].ports[1].targetPort"),
        ("application.stop_grace", "spec.template.spec.terminationGracePeriodSeconds"),
        ("links[0].addresses", "spec.links[0].addresses"),
        ("name", "metadata.name"),
        ("adopt_uid", "spec.adoptUID"),
        ("uid", "uid"),
    ],
)
def test_field_names(field: str, path: str) -> None:
    assert resource_field(field) == path


def test_each_configuration_has_an_immutable_configmap_of_its_own() -> None:
    one = render_configmap(module(), render_config(module(), NODES, 7400))
    same = render_configmap(module(), render_config(module(), NODES, 7400))
    changed = module(failover={"detectionTimeout": "5s"})
    other = render_configmap(changed, render_config(changed, NODES, 7400))
    assert one == same
    assert one["immutable"] is True
    assert one["metadata"]["name"] != other["metadata"]["name"]
    assert parse(other["data"]["module.json"]).detection_timeout == 5
