"""What the API server itself refuses of a FarmModule: the message names the field and the mend."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.cluster.topology import REPOSITORY
from tests.lab.api_server import ApiServer, RefusedError, api_server
from tests.lab.test_resource_rules import create
from tests.unit.operator.samples import farm_resource

__all__ = ["api_server"]
PORT: dict[str, Any] = {"name": "web", "port": 80, "targetPort": 8080}
VIP: dict[str, Any] = {"address": "10.0.0.60", "ports": [PORT]}
CHECKER: dict[str, Any] = {"name": "web", "port": 8080}
EXAMPLES = sorted(path.name for path in (REPOSITORY / "examples").glob("*.yaml"))


def manifest(name: str = "front", **spec: Any) -> dict[str, Any]:
    """The example as a user writes it, with fields of its specification replaced (None: removed)."""
    made = farm_resource(name)
    made["metadata"] = {"name": name, "namespace": "default"}
    del made["status"]
    for field, value in spec.items():
        if value is None:
            del made["spec"][field]
        else:
            made["spec"][field] = copy.deepcopy(value)
    return made


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_example_is_accepted(api_server: ApiServer, name: str) -> None:
    documents = list(yaml.safe_load_all((REPOSITORY / "examples" / name).read_text()))
    assert documents
    for document in documents:
        create(api_server, document)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"weights": None, "checkers": None, "failover": None, "affinity": None},
        {"virtualIPs": [VIP, VIP | {"address": "fd00::60/64", "interface": "eth0"}]},
        {"virtualIPs": [VIP | {"ports": [PORT, {"name": "dns", "port": 80, "protocol": "UDP"}]}]},
        {"affinity": "ClientIPPort"},
        {"weights": {"node-a": 0, "node-b": 1}},
        {"weights": {"node-a": 0}},
        {"weights": {}},
        {"weights": {"node-b": 1000}},
        {"checkers": []},
        {"checkers": [CHECKER, CHECKER | {"name": "page", "type": "HTTP", "path": "/x?y=1"}]},
        {"checkers": [CHECKER | {"interval": "100ms", "timeout": "60s", "rise": 100, "fall": 1}]},
        {"failover": {"detectionTimeout": "300ms"}},
        {"failover": {"detectionTimeout": "60s", "restartWindow": "24h", "maxRestarts": 0}},
    ],
)
def test_what_is_right_is_accepted(api_server: ApiServer, spec: dict[str, Any]) -> None:
    create(api_server, manifest(**spec))


@pytest.mark.parametrize(
    ("spec", "field", "mend"),
    [
        ({"nodes": [{"name": "node-a"}, {"name": "node-a"}]}, "spec.nodes", "name two different nodes"),
        ({"nodes": [{"name": "node-a"}]}, "spec.nodes", "at least 2 items"),
        ({"virtualIPs": None}, "spec.virtualIPs", "Required value"),
        ({"virtualIPs": []}, "spec.virtualIPs", "at least 1 items"),
        ({"virtualIPs": [{"address": "10.0.0.60"}]}, "spec.virtualIPs[0].ports", "Required value"),
        ({"virtualIPs": [VIP | {"ports": []}]}, "spec.virtualIPs[0].ports", "at least 1 items"),
        ({"virtualIPs": [VIP | {"address": "10.0.0.0.1"}]}, "spec.virtualIPs[0].address", "for example"),
        ({"virtualIPs": [VIP | {"address": "ff02::1"}]}, "spec.virtualIPs[0].address", "choose a free"),
        ({"virtualIPs": [VIP, VIP]}, "spec.virtualIPs", "put all its ports under one entry"),
        (
            {"virtualIPs": [VIP | {"ports": [PORT, {"port": 80, "targetPort": 9}]}]},
            "spec.virtualIPs[0].ports",
            "each leads to one targetPort",
        ),
        (
            {"virtualIPs": [VIP | {"ports": [PORT | {"protocol": "SCTP"}]}]},
            "spec.virtualIPs[0].ports[0].protocol",
            '"TCP", "UDP"',
        ),
        ({"virtualIPs": [VIP | {"interface": "no such"}]}, "interface", "for example eth0"),
        ({"affinity": "Cookie"}, "spec.affinity", '"ClientIP", "ClientIPPort"'),
        ({"weights": {"node-a": 0, "node-b": 0}}, "spec.weights", "at least 1"),
        ({"weights": {"node-z": 1}}, "spec.weights", "only the two of spec.nodes"),
        ({"weights": {"node-a": 1001}}, "spec.weights.node-a", "less than or equal to 1000"),
        ({"weights": {"node-a": -1}}, "spec.weights.node-a", "greater than or equal to 0"),
        ({"checkers": [CHECKER, CHECKER]}, "spec.checkers", "names must differ"),
        ({"checkers": [{"name": "web"}]}, "spec.checkers[0].port", "Required value"),
        ({"checkers": [CHECKER | {"port": 0}]}, "spec.checkers[0].port", "greater than or equal to 1"),
        ({"checkers": [CHECKER | {"type": "Ping"}]}, "spec.checkers[0].type", '"TCP", "HTTP"'),
        ({"checkers": [CHECKER | {"path": "/x"}]}, "spec.checkers[0].path", "write type HTTP"),
        (
            {"checkers": [CHECKER | {"type": "HTTP", "path": "x"}]},
            "spec.checkers[0].path",
            "for example /healthz",
        ),
        ({"checkers": [CHECKER | {"interval": "10ms"}]}, "spec.checkers[0].interval", "from 100ms to 1h"),
        ({"checkers": [CHECKER | {"timeout": "61s"}]}, "spec.checkers[0].timeout", "from 100ms to 60s"),
        ({"checkers": [CHECKER | {"fall": 0}]}, "spec.checkers[0].fall", "greater than or equal to 1"),
        ({"failover": {"detectionTimeout": "299ms"}}, "spec.failover.detectionTimeout", "from 300ms to 60s"),
        ({"failover": {"detectionTimeout": "1"}}, "spec.failover.detectionTimeout", "for example 1s"),
        ({"failover": {"restartWindow": "1s"}}, "spec.failover.restartWindow", "from 10s to 24h"),
        (
            {"links": [{"name": "x", "addresses": {"node-a": "10.0.0.1", "node-z": "10.0.0.2"}}]},
            "spec.links",
            "each of the two names in spec.nodes",
        ),
        ({"template": {"spec": {"containers": []}}}, "spec.template.spec.containers", "at least 1 items"),
        # What only a mirror has.
        ({"volumes": [{"name": "data"}]}, 'unknown field "spec.volumes"', "strict decoding"),
        (
            {"failover": {"withoutWitness": "Wait"}},
            'unknown field "spec.failover.withoutWitness"',
            "strict decoding",
        ),
    ],
)
def test_what_is_wrong_is_refused_with_field_and_mend(
    api_server: ApiServer, spec: dict[str, Any], field: str, mend: str
) -> None:
    with pytest.raises(RefusedError) as refused:
        create(api_server, manifest(**spec))
    assert field in str(refused.value)
    assert mend in str(refused.value)


def test_a_name_that_no_service_could_have(api_server: ApiServer) -> None:
    with pytest.raises(RefusedError, match=r"metadata\.name names the module's Service"):
        create(api_server, manifest("9lives"))


def test_nodes_stay_and_what_divides_the_clients_may_change(api_server: ApiServer) -> None:
    api_server.apply(manifest("fixed-farm"))
    try:
        moved = manifest("fixed-farm", nodes=[{"name": "node-a"}, {"name": "node-c"}], weights=None)
        with pytest.raises(RefusedError, match=r"nodes cannot be changed.*create it with the new nodes"):
            api_server.apply(moved)
        changes = {"weights": {"node-a": 3}, "affinity": "ClientIPPort", "virtualIPs": [VIP]}
        api_server.apply(manifest("fixed-farm", **changes))
    finally:
        api_server.kubectl("delete", "farmmodule", "fixed-farm")


def test_defaults_are_filled_in(api_server: ApiServer) -> None:
    given = {"failover": None, "affinity": None, "weights": None, "checkers": [CHECKER]}
    api_server.apply(manifest("default-farm", **given))
    try:
        spec = api_server.get("farmmodule", "default-farm")["spec"]
    finally:
        api_server.kubectl("delete", "farmmodule", "default-farm")
    assert spec["failover"] == {"detectionTimeout": "1s", "maxRestarts": 3, "restartWindow": "10m"}
    assert spec["affinity"] == "ClientIP"
    assert "weights" not in spec
    times = {"interval": "1s", "timeout": "1s", "rise": 1, "fall": 2}
    assert spec["checkers"] == [CHECKER | times | {"type": "TCP"}]
    assert spec["virtualIPs"][0]["ports"][0]["protocol"] == "TCP"
