"""Witnesses in the configuration: refused with the field and the mend."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.unit.control.doubles import module
from twinhull_sidecar.config import ConfigError, VirtualIP, Witness, parse, render

GATEWAY = Witness("gateway", "ping", ("192.0.2.254",))
LEASE = Witness("site-c", "lease", kubeconfig="/etc/k", namespace="default", lease="l")


def test_what_is_rendered_is_read() -> None:
    config = module("/base", witnesses=(GATEWAY, Witness("dns", "tcp", ("192.0.2.53",), 53), LEASE))
    assert parse(render(config)) == config


@pytest.mark.parametrize(
    ("entry", "field", "message"),
    [
        ({"kind": "ping", "addresses": ["127.0.0.2"]}, "addresses[0]", "127.0.0.2 is b's own address"),
        ({"kind": "ping", "addresses": ["192.0.2.9"]}, "addresses[0]", "is the module's virtual IP"),
        ({"kind": "tcp", "addresses": ["127.0.0.1"], "port": 1}, "addresses[0]", "is a's own address"),
        ({"kind": "ping", "addresses": ["::1"]}, "addresses[0]", "no machine's own address"),
        ({"kind": "ping", "addresses": []}, "addresses", "is missing or empty"),
        ({"kind": "ping", "addresses": ["gw"]}, "addresses[0]", "'gw' is not an IP address"),
        ({"kind": "ping", "addresses": ["192.0.2.1"], "port": 7}, "port", "is no field of a ping witness"),
        ({"kind": "tcp", "addresses": ["192.0.2.1"]}, "port", "is not a whole number"),
        ({"kind": "arp"}, "kind", "'arp' is not known"),
        ({"kind": "lease", "kubeconfig": "/k", "lease": "l"}, "namespace", "is missing"),
        (
            {"kind": "lease", "kubeconfig": "/k", "namespace": "d", "lease": "l", "addresses": ["1.1.1.1"]},
            "addresses",
            "is no field of a lease witness",
        ),
    ],
)
def test_a_wrong_one_is_refused(entry: dict[str, Any], field: str, message: str) -> None:
    document = json.loads(render(module("/base", virtual_ips=(VirtualIP("192.0.2.9"),))))
    document["witnesses"] = [{"name": "w", **entry}]
    with pytest.raises(ConfigError) as caught:
        parse(json.dumps(document))
    assert caught.value.field == f"witnesses[0].{field}"
    assert message in caught.value.message
    assert caught.value.mend


def test_two_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"witnesses\[1\].name: 'gateway' is there twice"):
        parse(render(module("/base", witnesses=(GATEWAY, GATEWAY))))
