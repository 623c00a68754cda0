"""Witnesses and fencing of a module: in the sidecars' configuration, and the Secrets that they need."""

from __future__ import annotations

import re
from typing import Final, Literal

from twinhull_operator.constants import FENCING_DIRECTORY, WITNESS_DIRECTORY
from twinhull_operator.module import Module, ModuleBmc, ModuleWitness, Object
from twinhull_sidecar.config import Bmc, Witness

_KINDS: Final[dict[str, Literal["ping", "tcp", "lease"]]] = {"Ping": "ping", "TCP": "tcp", "Lease": "lease"}
_FIELDS: Final = {"kind": "type", "kubeconfig": "kubeconfigSecret"}


def render_witness(witness: ModuleWitness) -> Witness:
    """One witness as the sidecar knows it."""
    kind = _KINDS[witness.type]
    if kind == "lease":
        return Witness(
            name=witness.name,
            kind=kind,
            kubeconfig=f"{WITNESS_DIRECTORY}/{witness.name}",
            namespace=witness.namespace,
            lease=witness.lease,
        )
    return Witness(name=witness.name, kind=kind, addresses=witness.addresses, port=witness.port)


def render_bmc(bmc: ModuleBmc) -> Bmc:
    """One node's controller as the other node's sidecar knows it."""
    return Bmc(bmc.node, bmc.endpoint, f"{FENCING_DIRECTORY}/{bmc.node}", bmc.system)


def render_fencing_sources(module: Module) -> list[Object]:
    """Sources of the sidecar's projected volume, like those of the witnesses."""
    return [
        {
            "secret": {
                "name": bmc.secret,
                "items": [
                    {"key": key, "path": f"fencing/{bmc.node}/{key}"}
                    for key in ("username", "password", "ca.crt")
                ],
                "optional": True,
            }
        }
        for bmc in module.fencing
    ]


def render_witness_sources(module: Module) -> list[Object]:
    """Sources of the sidecar's projected volume. A missing Secret keeps no pod from running: the sidecar names it."""
    return [
        {
            "secret": {
                "name": witness.secret,
                "items": [{"key": witness.key, "path": f"witness/{witness.name}"}],
                "optional": True,
            }
        }
        for witness in module.witnesses
        if witness.type == "Lease"
    ]


def witness_field(field: str) -> str | None:
    """The path in the resource of a field of the sidecar's ``witnesses``; None for any other field."""
    match = re.fullmatch(r"(witnesses\[\d+\])(?:\.(\w+)(.*))?|witnesses", field)
    if match is None:
        return None
    if match[1] is None:
        return "spec.witnesses"
    name = _FIELDS.get(match[2], match[2])
    return f"spec.{match[1]}" + (f".{name}{match[3]}" if name else "")
