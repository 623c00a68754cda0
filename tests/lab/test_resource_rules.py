"""What the API server itself refuses of a MirrorModule: the message names the field and the mend."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from tests.lab.api_server import ApiServer, RefusedError, api_server
from tests.unit.operator.samples import resource

__all__ = ["api_server"]
PORT: dict[str, Any] = {"name": "pg", "port": 5432}
PING = {"name": "gateway", "type": "Ping", "addresses": ["192.168.10.254"]}
LEASE = {"name": "site-c", "type": "Lease", "kubeconfigSecret": {"name": "site-c"}}
BMCS = [
    {"node": node, "endpoint": f"https://10.0.9.{number}", "secret": {"name": f"bmc-{node}"}}
    for number, node in enumerate(("node-a", "node-b"), 1)
]
SQL = {"name": "sql", "type": "TCP", "threshold": 3, "action": "Restart", "port": 5432}
WEB = {**SQL, "name": "web", "type": "HTTP", "path": "/healthz", "startupTimeout": "2m"}
ENDS = {"name": "ends", "type": "Process", "threshold": 2, "action": "Failover"}
DEEP = {"name": "deep", "type": "Exec", "threshold": 3, "action": "Restart", "command": ["pg_isready"]}
GATEWAY = {**ENDS, "name": "gateway", "type": "Ping", "address": "192.168.10.254", "interval": "1s"}
CABLE = {**ENDS, "name": "cable", "type": "Interface", "interface": "eth0"}
LINK = {"name": "direct", "addresses": {"node-a": "10.0.0.1", "node-b": "10.0.0.2"}}


def manifest(name: str = "pg", **spec: Any) -> dict[str, Any]:
    """The example as a user writes it, with fields of its specification replaced (None: removed)."""
    made = resource(name)
    made["metadata"] = {"name": name, "namespace": "default"}
    del made["status"]
    for field, value in spec.items():
        if value is None:
            del made["spec"][field]
        else:
            made["spec"][field] = copy.deepcopy(value)
    return made


def create(server: ApiServer, made: dict[str, Any]) -> None:
    """Ask the API server without effect. Raises RefusedError."""
    server.kubectl("create", "--dry-run=server", "-f", "-", stdin=json.dumps(made))


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"virtualIPs": None},
        {"virtualIPs": [{"address": "10.0.0.50/24", "interface": "eth0", "ports": [PORT]}]},
        {"virtualIPs": [{"address": "fd00::50/64"}, {"address": "10.0.0.50"}]},
        {"virtualIPs": [{"address": "10.0.0.50", "ports": [PORT, PORT | {"name": "u", "protocol": "UDP"}]}]},
        {"failover": {"detectionTimeout": "500ms"}},
        {"failover": {"detectionTimeout": "1m", "restartWindow": "1h30m", "maxRestarts": 0}},
        {"replication": {"durability": "commit", "resyncRateLimit": "100Mi"}},
        {"replication": {"resyncRateLimit": 1000000}},
        {"links": [LINK]},
        {"preferredNode": "node-b", "failback": "Automatic", "failbackAfter": "10s"},
        {"failbackWindow": {"start": "23:00", "end": "04:30", "days": ["Sat"]}},
        {"preferredNode": "node-b", "adoptFrom": "node-a"},
        {"failover": {"mode": "Manual", "watchdog": "/dev/watchdog0", "startupTimeout": "5m"}},
        {"witnesses": [PING, {**PING, "name": "dns", "type": "TCP", "port": 53}, LEASE]},
        {"witnesses": [{**LEASE, "namespace": "twinhull", "lease": "orders"}]},
        {"checkers": [SQL, WEB, ENDS, DEEP, GATEWAY, CABLE]},
        {"checkers": [{**SQL, "port": "postgres", "action": "Stop"}, {**DEEP, "container": "postgres"}]},
        {"checkers": []},
        {"fencing": {"redfish": BMCS}},
        {"fencing": {"redfish": [BMCS[0], {**BMCS[1], "system": "/redfish/v1/Systems/1"}]}},
        {"adoptUID": "5f0c1c1e-1ab0-4b0e-9d5e-0123456789ab"},
        {"nodes": [{"name": "node-a", "addresses": ["fd00::1", "10.0.0.1"]}, {"name": "b.example.test"}]},
    ],
)
def test_what_is_right_is_accepted(api_server: ApiServer, spec: dict[str, Any]) -> None:
    create(api_server, manifest(**spec))


@pytest.mark.parametrize(
    ("spec", "field", "mend"),
    [
        ({"nodes": [{"name": "node-a"}, {"name": "node-a"}]}, "spec.nodes", "name two different nodes"),
        ({"failover": {"watchdog": "watchdog"}}, "spec.failover.watchdog", "for example /dev/watchdog"),
        ({"failover": {"startupTimeout": "2h"}}, "spec.failover.startupTimeout", "from 500ms to 1h"),
        ({"failover": {"mode": "Never"}}, "spec.failover.mode", '"Automatic", "Manual"'),
        ({"witnesses": [{**PING, "addresses": ["gw"]}]}, "spec.witnesses[0].addresses[0]", "for example"),
        ({"witnesses": [{**PING, "port": 7}]}, "spec.witnesses[0].port", "no other witness has"),
        ({"witnesses": [{**PING, "type": "TCP"}]}, "spec.witnesses[0].port", "a TCP witness needs"),
        (
            {"witnesses": [{**PING, "type": "Lease"}]},
            "spec.witnesses[0].kubeconfigSecret",
            "a Lease witness needs",
        ),
        ({"witnesses": [{**LEASE, "type": "Ping"}]}, "spec.witnesses[0].addresses", "witness needs"),
        ({"witnesses": [{**PING, "lease": "l"}]}, "spec.witnesses[0].type", "remove them"),
        ({"witnesses": [PING, PING]}, "spec.witnesses[1]", "Duplicate value"),
        (
            {"checkers": [{key: value for key, value in SQL.items() if key != "threshold"}]},
            "spec.checkers[0]",
            "threshold is missing; say after how many failures",
        ),
        ({"checkers": [{**SQL, "threshold": 0}]}, "spec.checkers[0].threshold", "or equal to 1"),
        ({"checkers": [SQL, SQL]}, "spec.checkers", "names must differ"),
        ({"checkers": [ENDS, {**ENDS, "name": "x"}]}, "spec.checkers", "keep one of them"),
        ({"checkers": [{**SQL, "type": "UDP"}]}, "spec.checkers[0].type", '"Process", "TCP", "HTTP"'),
        ({"checkers": [{**ENDS, "port": 1}]}, "spec.checkers[0].port", "a TCP or HTTP checker needs"),
        ({"checkers": [{**ENDS, "type": "TCP"}]}, "spec.checkers[0].port", "a TCP or HTTP checker needs"),
        ({"checkers": [{**SQL, "path": "/"}]}, "spec.checkers[0].path", "write type HTTP"),
        ({"checkers": [{**WEB, "path": "x"}]}, "spec.checkers[0].path", "for example /healthz"),
        ({"checkers": [{**SQL, "command": ["x"]}]}, "spec.checkers[0].command", "an Exec checker needs"),
        ({"checkers": [{**SQL, "container": "x"}]}, "spec.checkers[0].container", "remove it"),
        ({"checkers": [{**DEEP, "action": "Failover"}]}, "spec.checkers[0].action", "write Restart"),
        (
            {"checkers": [{**GATEWAY, "action": "Restart"}]},
            "spec.checkers[0].action",
            "write Failover or Stop",
        ),
        ({"checkers": [{**GATEWAY, "address": "gw"}]}, "spec.checkers[0].address", "for example"),
        ({"checkers": [{**SQL, "address": "10.0.0.1"}]}, "spec.checkers[0].address", "a Ping checker needs"),
        ({"checkers": [{**CABLE, "interface": "a/b"}]}, "spec.checkers[0].interface", "for example eth0"),
        ({"checkers": [{**SQL, "interface": "eth0"}]}, "spec.checkers[0].interface", "an Interface checker"),
        ({"checkers": [{**ENDS, "interval": "1s"}]}, "spec.checkers[0].type", "remove interval and timeout"),
        ({"checkers": [{**CABLE, "startupTimeout": "1s"}]}, "startupTimeout", "remove startupTimeout"),
        ({"checkers": [{**SQL, "interval": "10ms"}]}, "spec.checkers[0].interval", "from 100ms to 1h"),
        ({"checkers": [{**SQL, "timeout": "2m"}]}, "spec.checkers[0].timeout", "from 100ms to 60s"),
        ({"checkers": [{**SQL, "startupTimeout": "48h"}]}, "startupTimeout", "up to 24h"),
        ({"fencing": {"redfish": BMCS[:1]}}, "spec.fencing.redfish", "at least 2 items"),
        (
            {"fencing": {"redfish": [BMCS[0], {**BMCS[1], "node": "node-c"}]}},
            "spec.fencing",
            "needs its own entry",
        ),
        (
            {"fencing": {"redfish": [BMCS[0], {**BMCS[1], "endpoint": "http://10.0.9.2"}]}},
            "spec.fencing.redfish[1].endpoint",
            "https address",
        ),
        ({"failback": "Automatic"}, "spec.failback", "needs preferredNode"),
        ({"failbackAfter": "5s"}, "spec.failbackAfter", "from 10s to 24h"),
        ({"failbackWindow": {"start": "1:00", "end": "02:00"}}, "spec.failbackWindow.start", "02:30"),
        (
            {"failbackWindow": {"start": "02:00", "end": "02:00"}},
            "spec.failbackWindow",
            "leave failbackWindow out",
        ),
        ({"nodes": [{"name": "node-a"}]}, "spec.nodes", "at least 2 items"),
        ({"nodes": [{"name": "node-a"}, {"name": "No_de"}]}, "spec.nodes[1].name", "kubectl get nodes"),
        (
            {"nodes": [{"name": "node-a", "addresses": ["10.0.0.1/8"]}, {"name": "node-b"}]},
            "spec.nodes[0].addresses[0]",
            "without a prefix",
        ),
        (
            {"virtualIPs": [{"address": "300.1.1.1"}]},
            "spec.virtualIPs[0].address",
            "for example 192.168.10.50",
        ),
        ({"virtualIPs": [{"address": "10.0.0.1/33"}]}, "spec.virtualIPs[0].address", "for example"),
        ({"virtualIPs": [{"address": "127.0.0.1"}]}, "spec.virtualIPs[0].address", "choose a free address"),
        ({"virtualIPs": [{"address": "239.0.0.1"}]}, "spec.virtualIPs[0].address", "choose a free address"),
        ({"virtualIPs": [{"address": "::"}]}, "spec.virtualIPs[0].address", "choose a free address"),
        (
            {"virtualIPs": [{"address": "10.0.0.5"}, {"address": "10.0.0.5/24"}]},
            "spec.virtualIPs",
            "put all its ports under one entry",
        ),
        (
            {"virtualIPs": [{"address": "10.0.0.5", "ports": [PORT, {"port": 5432}]}]},
            "spec.virtualIPs[0].ports",
            "each leads to one targetPort",
        ),
        (
            {"virtualIPs": [{"address": "10.0.0.5", "ports": [PORT, {"port": 1, "name": "pg"}]}]},
            "spec.virtualIPs[0].ports",
            "names must differ",
        ),
        (
            {"virtualIPs": [{"address": "10.0.0.5", "ports": [PORT | {"targetPort": 70000}]}]},
            "spec.virtualIPs[0].ports[0].targetPort",
            "less than or equal to 65535",
        ),
        ({"virtualIPs": [{"address": "10.0.0.5", "interface": "a/b"}]}, "interface", "for example eth0"),
        ({"links": [{**LINK, "name": "nodes"}]}, "spec.links[0].name", "choose another one"),
        (
            {"links": [{"name": "x", "addresses": {"node-a": "10.0.0.1", "node-z": "10.0.0.2"}}]},
            "spec.links",
            "each of the two names in spec.nodes",
        ),
        ({"failover": {"detectionTimeout": "499ms"}}, "spec.failover.detectionTimeout", "from 500ms to 60s"),
        ({"failover": {"detectionTimeout": "61s"}}, "spec.failover.detectionTimeout", "from 500ms to 60s"),
        ({"failover": {"detectionTimeout": "3"}}, "spec.failover.detectionTimeout", "for example 3s"),
        ({"failover": {"restartWindow": "1s"}}, "spec.failover.restartWindow", "from 10s to 24h"),
        ({"failover": {"withoutWitness": "Maybe"}}, "spec.failover.withoutWitness", '"Continue", "Wait"'),
        ({"replication": {"durability": "none"}}, "spec.replication.durability", '"write", "commit"'),
        ({"replication": {"resyncRateLimit": "1k"}}, "spec.replication.resyncRateLimit", "at least 64Ki"),
        (
            {"replication": {"resyncRateLimit": "fast"}},
            "spec.replication.resyncRateLimit",
            "for example 100Mi",
        ),
        ({"preferredNode": "node-z"}, "spec.preferredNode", "one of spec.nodes"),
        ({"adoptFrom": "node-z"}, "spec.adoptFrom", "one of spec.nodes"),
        ({"adoptUID": "pg"}, "spec.adoptUID", "the UID of the deleted module"),
        ({"adoptUID": ""}, "spec.adoptUID", "the UID of the deleted module"),
        ({"reclaimPolicy": "Delete"}, "spec.reclaimPolicy", '"Retain"'),
        ({"volumes": None}, "spec.volumes", "Required value"),
        ({"volumes": [{"name": "a"}, {"name": "a"}]}, "spec.volumes", "names must differ"),
        ({"volumes": [{"name": "twinhull-x"}]}, "spec.volumes[0].name", "choose another one"),
        ({"template": None}, "spec.template", "Required value"),
        ({"template": {"spec": {"containers": []}}}, "spec.template.spec.containers", "at least 1 items"),
        ({"nodess": 1}, 'unknown field "spec.nodess"', "strict decoding"),
        (
            {"failover": {"detectiontimeout": "3s"}},
            'unknown field "spec.failover.detectiontimeout"',
            "strict",
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


@pytest.mark.parametrize("name", ["9lives", "a.b", "a" * 41])
def test_a_name_that_no_service_could_have(api_server: ApiServer, name: str) -> None:
    with pytest.raises(RefusedError, match=r"metadata\.name names the module's Service"):
        create(api_server, manifest(name))


def test_what_holds_the_data_together_cannot_be_changed(api_server: ApiServer) -> None:
    api_server.apply(manifest("fixed"))
    try:
        for spec, message in (
            ({"nodes": [{"name": "node-b"}, {"name": "node-a"}]}, "nodes cannot be changed"),
            ({"volumes": [{"name": "data"}, {"name": "more"}]}, "volumes cannot be changed"),
        ):
            with pytest.raises(RefusedError, match=f"{message}.*its data stays"):
                api_server.apply(manifest("fixed", **spec))
        api_server.apply(manifest("fixed", failover={"detectionTimeout": "5s"}))
        nodes = [{"name": "node-a", "addresses": ["10.0.0.1"]}, {"name": "node-b", "addresses": ["10.0.0.2"]}]
        api_server.apply(manifest("fixed", nodes=nodes))
    finally:
        api_server.kubectl("delete", "mirrormodule", "fixed")


def test_defaults_are_filled_in(api_server: ApiServer) -> None:
    api_server.apply(manifest("defaults", failover=None, replication=None))
    try:
        spec = api_server.get("mirrormodule", "defaults")["spec"]
    finally:
        api_server.kubectl("delete", "mirrormodule", "defaults")
    assert spec["failover"] == {
        "detectionTimeout": "3s",
        "withoutWitness": "Continue",
        "mode": "Automatic",
        "maxRestarts": 3,
        "restartWindow": "10m",
    }
    assert spec["replication"] == {"durability": "write"}
    assert spec["reclaimPolicy"] == "Retain"
    assert spec["virtualIPs"][0]["ports"][0]["protocol"] == "TCP"
