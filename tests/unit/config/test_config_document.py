"""The configuration document: what is rendered is read back, and each wrong field is named with its mend."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from typing import Any

import pytest

from twinhull_sidecar.config import (
    Application,
    Checker,
    ConfigError,
    Container,
    Farm,
    Link,
    MaintenanceWindow,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    Volume,
    digest,
    parse,
    render,
)


def module() -> ModuleConfig:
    return ModuleConfig(
        namespace="shop",
        name="orders",
        uid="7e0d",
        nodes=("a", "b"),
        links=(
            Link("lan", {"a": "10.0.0.1", "b": "10.0.0.2"}),
            Link("direct", {"a": "fd00::1", "b": "fd00::2"}),
        ),
        ports=Ports(heartbeat=7400, grpc=7400, replication=7401),
        base_dir="/var/lib/twinhull/shop-orders",
        application=Application(
            adapter="pod",
            containers=(
                Container("db", "postgres:16", None, ("-c", "fsync=on")),
                Container("exporter", "x", ("/x",)),
            ),
            env={"A": "b"},
            stop_grace=12.5,
        ),
        volumes=(Volume("data"), Volume("wal")),
        virtual_ips=(
            VirtualIP("10.0.0.9", 24, "eth0", (ServicePort("pg", 5432, 5432),)),
            VirtualIP("fd00::9"),
        ),
        preferred_node="b",
        failback="Automatic",
        failback_after=60.0,
        failback_window=MaintenanceWindow(("Sat", "Sun"), 120, 60),
    )


def test_a_rendered_configuration_is_read_back_equal() -> None:
    assert parse(render(module())) == module()
    assert digest(parse(render(module()))) == digest(module())


def _set(document: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    where: Any = document
    for name in parents:
        where = where[int(name)] if name.isdigit() else where[name]
    if value is _MISSING:
        del where[last]
    elif last.isdigit():
        where[int(last)] = value
    else:
        where[last] = value


_MISSING = object()


@pytest.mark.parametrize(
    ("path", "value", "field", "message", "mend"),
    [
        ("version", 2, "version", "is 2, this sidecar reads 1", "one release"),
        ("kind", "FarmModul", "kind", "'FarmModul' is not known", "MirrorModule"),
        ("name", "", "name", "is not an object's name", "give an object's name"),
        ("nodes", ["a"], "nodes", "are not two node names", "name the two nodes"),
        ("nodes", ["a", "a"], "nodes", "named twice", "two different nodes"),
        ("links", [], "links", "is empty", "at least 1"),
        (
            "links.0.addresses",
            {"a": "10.0.0.1"},
            "links[0].addresses",
            "not the two nodes",
            "a's and b's address",
        ),
        ("links.0.addresses.b", "10.0.0.1", "links[0].addresses", "given to both nodes", "its own address"),
        ("links.0.addresses.b", "10.0.0", "links[0].addresses.b", "is not an IP address", "IPv4 or IPv6"),
        ("links.0.addresses.b", "fd00::7", "links[0].addresses", "two IP versions", "of one version"),
        ("links.1.name", "lan", "links", "'lan' is there twice", "name each once"),
        ("ports", _MISSING, "ports", "is missing", "add it"),
        ("ports.grpc", 0, "ports.grpc", "0 is not a whole number", "such a number"),
        ("ports.replication", 7400, "ports.replication", "is the grpc port as well", "its own number"),
        ("base_dir", "var/lib", "base_dir", "not an absolute path", "below /"),
        ("application.adapter", "vm", "application.adapter", "'vm' is not known", "pod, process"),
        ("application.containers", [], "application.containers", "is empty", "at least 1"),
        ("application.stop_grace", "30s", "application.stop_grace", "'30s' is not a number", "such a number"),
        ("application.max_restarts", True, "application.max_restarts", "not a whole number", "such a number"),
        ("volumes", [], "volumes", "is empty", "at least 1"),
        ("volumes.0.name", "Da/ta", "volumes[0].name", "'Da/ta' is not a volume's name", "a volume's name"),
        ("volumes.1.name", "data", "volumes", "'data' is there twice", "name each once"),
        (
            "virtual_ips.0.address",
            "10.0.0.300",
            "virtual_ips[0].address",
            "is not an IP address",
            "IPv4 or IPv6",
        ),
        (
            "virtual_ips.0.address",
            "224.0.0.1",
            "virtual_ips[0].address",
            "cannot be served",
            "unicast address",
        ),
        ("virtual_ips.0.address", "10.0.0.2", "virtual_ips[0].address", "is b's own address", "no node has"),
        ("virtual_ips.0.prefix", 33, "virtual_ips[0].prefix", "from 1 to 32", "such a number"),
        (
            "virtual_ips.0.ports.0.port",
            70000,
            "virtual_ips[0].ports[0].port",
            "from 1 to 65535",
            "such a number",
        ),
        ("detection_timeout", 0.1, "detection_timeout", "from 0.5 to 60", "such a number"),
        ("without_witness", "wait", "without_witness", "'wait' is not known", "Continue, Wait"),
        ("preferred_node", "c", "preferred_node", "not one of the module's nodes", "a or b"),
        ("adopt_from", "c", "adopt_from", "not one of the module's nodes", "a or b"),
        ("adopt_uid", "", "adopt_uid", "'' is not a non-empty string", "non-empty string"),
        ("failback", "auto", "failback", "'auto' is not known", "Manual, Automatic"),
        ("failback_after", 0, "failback_after", "from 1 to 86400", "such a number"),
        ("failback_window", {"days": ["Sat"]}, "failback_window", "days, start and end", "exactly these"),
        (
            "failback_window",
            {"days": ["Caturday"], "start": 1, "end": 2},
            "failback_window.days",
            "Caturday",
            "Mon, Tue",
        ),
        (
            "failback_window",
            {"days": ["Sat"], "start": 1440, "end": 2},
            "failback_window.start",
            "1440",
            "0 to 1439",
        ),
        ("failback_window", {"days": ["Sat"], "start": 2, "end": 2}, "failback_window.end", "same", "leave"),
        ("preferred_node", None, "failback", "no node to return to", "preferred_node"),
        ("durability", "async", "durability", "'async' is not known", "write, commit"),
        ("window_bytes", 1, "window_bytes", "not a whole number", "such a number"),
        ("detection_timout", 3, "detection_timout", "is not a known field", "detection_timeout"),
        ("volumes.0.size", 3, "volumes[0].size", "is not a known field", "remove it"),
    ],
)
def test_a_wrong_field_is_named_with_its_mend(
    path: str, value: Any, field: str, message: str, mend: str
) -> None:
    document = copy.deepcopy(json.loads(render(module())))
    _set(document, path, value)
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(document))
    assert caught.value.field == field
    assert message in caught.value.message
    assert mend in caught.value.mend


@pytest.mark.parametrize("document", ["", "{", b"\xff", "[]", "null", '"x"', "{}"])
def test_what_is_no_configuration_at_all_is_refused(document: str | bytes) -> None:
    with pytest.raises(ConfigError):
        parse(document)


def test_the_process_adapter_needs_a_command() -> None:
    document = json.loads(render(module()))
    document["application"] = {"adapter": "process"}
    with pytest.raises(ConfigError, match=r"application.argv: is missing; give the command"):
        parse(json.dumps(document))


def farm() -> ModuleConfig:
    return replace(
        module(),
        kind="FarmModule",
        volumes=(),
        preferred_node=None,
        failback="Manual",
        detection_timeout=0.3,
        farm=Farm("ClientIPPort", {"a": 2, "b": 1}, (Checker("web", "http", 8080, "/healthz"),)),
    )


def test_a_farm_is_read_back_equal() -> None:
    assert parse(render(farm())) == farm()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"weights": {"a": 0, "b": 0}}, "farm.weights"),
        ({"weights": {"c": 1}}, "farm.weights.c"),
        ({"weights": {"a": -1}}, "farm.weights.a"),
        ({"affinity": "None"}, "farm.affinity"),
        ({"checkers": [{"name": "x", "kind": "ping", "port": 1}]}, "farm.checkers[0].kind"),
        ({"checkers": [{"name": "x", "kind": "http", "port": 1, "path": "x"}]}, "farm.checkers[0].path"),
    ],
)
def test_a_wrong_field_of_a_farm_is_named(change: dict[str, Any], field: str) -> None:
    document = json.loads(render(farm()))
    document["farm"].update(change)
    with pytest.raises(ConfigError) as raised:
        parse(json.dumps(document))
    assert raised.value.field == field
    assert raised.value.mend


def test_what_belongs_to_the_other_kind_is_refused() -> None:
    mirror = json.loads(render(module())) | {"farm": {"affinity": "ClientIP"}}
    with pytest.raises(ConfigError, match="farm: is no field of a MirrorModule"):
        parse(json.dumps(mirror))
    with_volumes = json.loads(render(farm())) | {"volumes": [{"name": "data"}]}
    with pytest.raises(ConfigError, match="volumes: is no field of a FarmModule"):
        parse(json.dumps(with_volumes))
