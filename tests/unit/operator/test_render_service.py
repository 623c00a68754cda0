"""Service and EndpointSlices: a name that leads to the virtual IPs."""

from __future__ import annotations

from tests.unit.operator.samples import module
from twinhull_operator.render_endpointslice import render_endpointslices
from twinhull_operator.render_service import render_service

TWO = [
    {"address": "192.168.10.50/24", "ports": [{"name": "pg", "port": 5432}]},
    {"address": "fd00::50", "ports": [{"name": "pg", "port": 5432}, {"name": "m", "port": 9187}]},
]


def test_kube_proxy_has_nothing_to_do_with_the_address() -> None:
    spec = render_service(module())["spec"]
    assert spec["clusterIP"] == "None"
    assert "selector" not in spec


def test_the_name_leads_to_all_virtual_ips_whoever_holds_them() -> None:
    slices = render_endpointslices(module(virtualIPs=TWO))
    assert [(s["addressType"], s["endpoints"][0]["addresses"]) for s in slices] == [
        ("IPv4", ["192.168.10.50"]),
        ("IPv6", ["fd00::50"]),
    ]
    assert all(s["endpoints"][0]["conditions"]["ready"] for s in slices)
    assert all(s["metadata"]["labels"]["kubernetes.io/service-name"] == "postgres" for s in slices)
    assert len({s["metadata"]["name"] for s in slices}) == 2


def test_a_port_of_two_addresses_is_one_port_of_the_service() -> None:
    ports = render_service(module(virtualIPs=TWO))["spec"]["ports"]
    assert [(p["name"], p["port"]) for p in ports] == [("m", 9187), ("pg", 5432)]


def test_without_a_virtual_ip_the_name_leads_to_the_ready_pod() -> None:
    spec = render_service(module(virtualIPs=[]))["spec"]
    assert spec["selector"] == {"twinhull.dev/module": "postgres"}
    assert render_endpointslices(module(virtualIPs=[])) == []
