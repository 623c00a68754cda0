"""Allotment of base ports: two ports of the nodes' own addresses per module, no clash on a shared node."""

from __future__ import annotations

import json
from collections.abc import Iterable

from twinhull_operator.constants import CONFIG_FILE, FIRST_BASE_PORT, LAST_BASE_PORT, PORT_STEP
from twinhull_operator.module import Module, Object


class NoFreePortError(Exception):
    """All base ports are taken on one of the module's nodes."""


def allot_base_port(module: Module, others: Iterable[Module]) -> int:
    """The module's base port: the one it has, for ever, or the lowest that no other module on its nodes has.

    Modules that share no node may get the same port. Raises NoFreePortError.
    """
    if module.base_port is not None:
        return module.base_port
    nodes = set(module.node_names)
    taken = {other.base_port for other in others if other.uid != module.uid and nodes & set(other.node_names)}
    for port in range(FIRST_BASE_PORT, LAST_BASE_PORT + 1, PORT_STEP):
        if port not in taken:
            return port
    where = " and ".join(sorted(nodes))
    raise NoFreePortError(f"all base ports from {FIRST_BASE_PORT} to {LAST_BASE_PORT} are taken on {where}")


def rendered_base_port(module: Module, configmaps: Iterable[Object]) -> int | None:
    """The base port in a ConfigMap that was made for this very module, or None.

    It is what running sidecars use, even if the resource's status was lost.
    """
    for configmap in configmaps:
        try:
            config = json.loads(configmap["data"][CONFIG_FILE])
            if config["uid"] == module.uid:
                return int(config["ports"]["grpc"])
        except (KeyError, TypeError, ValueError):
            continue
    return None
