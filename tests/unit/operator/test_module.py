"""Reading the resource."""

from __future__ import annotations

import pytest

from tests.unit.operator.samples import module, resource
from twinhull_operator.module import ModulePort, read_module
from twinhull_operator.quantities import parse_duration, parse_quantity


@pytest.mark.parametrize(
    ("text", "seconds"), [("3s", 3), ("500ms", 0.5), ("0.5s", 0.5), ("1m30s", 90), ("24h", 86400)]
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "3", "s", "3 s", "-3s", "3d", "3s5"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ("100Mi", 100 << 20),
        ("1.5Gi", 3 << 29),
        ("100M", 10**8),
        (65536, 65536),
        ("1e6", 10**6),
        ("2E3", 2000),
    ],
)
def test_quantities(value: int | str, number: int) -> None:
    assert parse_quantity(value) == number


def test_what_is_no_quantity_is_refused() -> None:
    with pytest.raises(ValueError, match="not a quantity"):
        parse_quantity("fast")


def test_fields_and_defaults() -> None:
    found = module(failover={}, replication={"resyncRateLimit": "10Mi"}, preferredNode="node-b")
    assert found.node_names == ("node-a", "node-b")
    assert (found.detection_timeout, found.max_restarts, found.restart_window) == (3.0, 3, 600.0)
    assert (found.durability, found.resync_rate) == ("write", 10 << 20)
    assert found.base_dir == "/var/lib/twinhull/db-postgres"
    assert found.stop_grace == 60
    assert found.base_port == 7400


def test_a_port_has_a_name_and_leads_to_itself_unless_said() -> None:
    found = module(virtualIPs=[{"address": "192.0.2.50/24", "ports": [{"port": 53, "protocol": "UDP"}]}])
    (vip,) = found.virtual_ips
    assert (vip.address, vip.prefix) == ("192.0.2.50", 24)
    assert vip.ports == (ModulePort("udp-53", 53, 53, "UDP"),)


def test_a_module_that_was_never_seen_has_no_base_port() -> None:
    new = resource()
    del new["status"]
    assert read_module(new).base_port is None
