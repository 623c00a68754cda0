"""The part of the configuration that names the witnesses: each field checked, an error names it and the mend."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from twinhull_sidecar.config import ConfigError, ModuleConfig, Witness

if TYPE_CHECKING:
    from twinhull_sidecar.config_reader import Fields

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")


def read_witness(fields: Fields) -> Witness:
    """One entry of ``witnesses``. Raises ConfigError."""
    name = fields.text("name", _DNS_LABEL, "a name of lower-case letters, digits and '-'")
    kind = fields.choice("kind", ("ping", "tcp", "lease"))
    if kind == "lease":
        path = fields.text("kubeconfig", what="the path of a kubeconfig file")
        witness = Witness(
            name,
            kind,
            kubeconfig=path,
            namespace=fields.text("namespace", _DNS_LABEL, "a namespace's name"),
            lease=fields.text("lease", _DNS_NAME, "a Lease's name"),
        )
        _without(fields, kind, ("addresses", "port"))
        return witness
    _without(fields, kind, ("kubeconfig", "namespace", "lease"))
    addresses = fields.addresses("addresses")
    if kind == "ping":
        _without(fields, kind, ("port",))
        return Witness(name, kind, addresses)
    return Witness(name, kind, addresses, port=fields.integer("port", 1, 65535))


def check_witnesses(config: ModuleConfig) -> None:
    """A witness stands outside the pair: its addresses are neither the nodes' nor the module's. Raises ConfigError."""
    owners = {
        ipaddress.ip_address(address): f"{node}'s own address"
        for link in config.links
        for node, address in link.addresses.items()
    }
    owners |= {ipaddress.ip_address(vip.address): "the module's virtual IP" for vip in config.virtual_ips}
    names: set[str] = set()
    for index, witness in enumerate(config.witnesses):
        if witness.name in names:
            raise ConfigError(
                f"witnesses[{index}].name", f"{witness.name!r} is there twice", "name each once"
            )
        names.add(witness.name)
        for number, text in enumerate(witness.addresses):
            address = ipaddress.ip_address(text)
            field = f"witnesses[{index}].addresses[{number}]"
            if (owner := owners.get(address)) is not None:
                mend = "give the address of a third machine, such as the gateway"
                raise ConfigError(field, f"{address} is {owner}", mend)
            if address.is_loopback or address.is_unspecified or address.is_multicast:
                mend = "give the unicast address of a third machine, such as the gateway"
                raise ConfigError(field, f"{address} is no machine's own address", mend)


def _without(fields: Fields, kind: str, names: tuple[str, ...]) -> None:
    for name in names:
        if fields.get(name):
            raise fields.error(name, f"is no field of a {kind} witness", "remove it, or change the kind")
