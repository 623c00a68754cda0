"""Bad manifests: refused, or a condition that names the field and the mend; what runs goes on as it was.

What the API server itself refuses is in tests/lab/test_resource_rules.py, what the operator finds without nodes in
tests/lab/test_operator.py. Here is what only real nodes know, and that a running application is not touched.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.cluster import images, kind
from tests.cluster.client import outside_client
from tests.cluster.command import CommandError
from tests.cluster.deployment import Module, example
from tests.cluster.topology import APP_REPOSITORY, CLIENT_ADDRESS, NODES, SUBNET

Change = Callable[[dict[str, Any]], None]
FREE_ADDRESS = SUBNET[51]
"""Not the PostgreSQL module's: two modules never share an address."""
SERVER = ["python3", "-m", "http.server", "8080", "--directory", "/www"]


def set_address(address: str) -> Change:
    """The module's virtual IP becomes this one."""

    def change(module: dict[str, Any]) -> None:
        module["spec"]["virtualIPs"][0]["address"] = address

    return change


def minimal(change: Change | None = None) -> list[dict[str, Any]]:
    """The minimal example with an image that the cluster has, and a change."""

    def adapt(module: dict[str, Any]) -> None:
        set_address(str(FREE_ADDRESS))(module)
        container = module["spec"]["template"]["spec"]["containers"][0]
        container |= {"image": f"{APP_REPOSITORY}:{images.release_tag()}", "command": SERVER}
        container["readinessProbe"] = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}
        if change is not None:
            change(module)

    return example("minimal-mirror.yaml", adapt)


@pytest.fixture
def module(powered: None) -> Iterator[Callable[[Change | None], Module]]:
    """Applies the minimal example, each time with another change; deletes it afterwards."""

    def apply(change: Change | None = None) -> Module:
        return Module.apply(minimal(change))

    yield apply
    Module("minimal").delete(minimal())


def validity(module: Module) -> tuple[str, str, str]:
    """Status, reason and message of ConfigurationValid of the present specification."""
    shown = json.loads(kind.kubectl("get", "mirrormodule", module.name, "-o", "json"))
    status = shown.get("status", {})
    if status.get("observedGeneration") == shown["metadata"]["generation"]:
        for condition in status.get("conditions", []):
            if condition["type"] == "ConfigurationValid":
                return condition["status"], condition["reason"], condition["message"]
    return "", "", ""


def wait_invalid(module: Module) -> tuple[str, str]:
    """Reason and message, once the specification is found invalid."""
    module.wait("ConfigurationValid is False", lambda: validity(module)[0] == "False")
    return validity(module)[1:]


def pods(module: Module) -> dict[str, str]:
    """The uid of the module's pod on each node that one has been scheduled to."""
    found = json.loads(
        kind.kubectl("get", "pods", f"--selector=twinhull.dev/module={module.name}", "-o", "json")
    )
    scheduled = [pod for pod in found["items"] if "nodeName" in pod["spec"]]
    return {pod["spec"]["nodeName"]: pod["metadata"]["uid"] for pod in scheduled}


@pytest.mark.timeout(400)
def test_an_address_in_no_subnet_of_the_nodes(module: Callable[[Change | None], Module]) -> None:
    made = module(set_address("203.0.113.7"))
    reason, message = wait_invalid(made)
    assert reason == "ReportedByNode"
    assert "spec.virtualIPs[0].address" in message
    assert "203.0.113.7 is in no subnet" in message
    assert f"give a free address of one of: {SUBNET}" in message


@pytest.mark.timeout(400)
def test_an_address_that_somebody_on_the_lan_has(module: Callable[[Change | None], Module]) -> None:
    with outside_client():
        made = module(set_address(str(CLIENT_ADDRESS)))
        reason, message = wait_invalid(made)
        assert reason == "ReportedByNode"
        assert "spec.virtualIPs[0].address" in message
        assert str(CLIENT_ADDRESS) in message
    # The other one is gone, so the address can be taken: nobody has to do anything.
    made.wait("ConfigurationValid is True", lambda: validity(made)[0] == "True")


@pytest.mark.timeout(400)
def test_an_unknown_node(module: Callable[[Change | None], Module]) -> None:
    def change(resource: dict[str, Any]) -> None:
        resource["spec"]["nodes"][1]["name"] = "no-such-node"

    made = module(change)
    reason, message = wait_invalid(made)
    assert reason == "InvalidSpecification"
    assert "spec.nodes[1].name: the cluster has no node 'no-such-node'" in message
    assert all(node.name in message for node in NODES)
    assert pods(made) == {}


@pytest.mark.timeout(600)
def test_a_running_module_is_not_touched(module: Callable[[Change | None], Module]) -> None:
    made = module(None)
    serving = made.wait_in_sync()
    before = pods(made)

    def container(**fields: Any) -> Change:
        def change(resource: dict[str, Any]) -> None:
            resource["spec"]["template"]["spec"]["containers"][0] |= fields

        return change

    for change, field in (
        (container(volumeMounts=[]), "spec.volumes[0].name"),
        (container(volumeMounts=[{"name": "www", "mountPath": "www"}]), "volumeMounts[0].mountPath"),
        (container(imagee="x"), "spec.template.spec.containers"),
        (set_address(str(NODES[0].address)), "spec.virtualIPs[0].address"),
    ):
        module(change)
        reason, message = wait_invalid(made)
        assert reason == "InvalidSpecification"
        assert field in message
        assert pods(made) == before
        assert made.status(serving)["role"] == "Primary"
    with pytest.raises(CommandError, match="name two different nodes"):
        module(lambda resource: resource["spec"].update(nodes=[{"name": NODES[0].name}] * 2))
    module(None)
    made.wait("ConfigurationValid is True", lambda: validity(made)[0] == "True")
    assert pods(made) == before


@pytest.mark.timeout(600)
def test_a_change_rolls_over_both_pods_and_the_application_moves(
    module: Callable[[Change | None], Module],
) -> None:
    made = module(None)
    made.wait_in_sync()
    before = pods(made)

    def change(resource: dict[str, Any]) -> None:
        resource["spec"]["template"]["metadata"] = {"labels": {"changed": "yes"}}

    module(change)
    made.wait(
        "both pods are new",
        lambda: len(after := pods(made)) == 2 and not set(after.values()) & set(before.values()),
        timeout=240,
    )
    made.wait_in_sync()
