"""The part of the configuration that says how a node is powered off: each field checked, with the mend."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from twinhull_sidecar.config import Bmc, ConfigError, ModuleConfig

if TYPE_CHECKING:
    from twinhull_sidecar.config_reader import Fields


def read_bmc(fields: Fields, nodes: tuple[str, str]) -> Bmc:
    """One entry of ``fencing``. Raises ConfigError."""
    node = fields.text("node")
    if node not in nodes:
        raise fields.error("node", f"{node!r} is not one of the nodes", f"choose {nodes[0]} or {nodes[1]}")
    endpoint = fields.text("endpoint", what="the controller's https address")
    try:
        parts = urlsplit(endpoint)
        right = parts.scheme == "https" and bool(parts.hostname) and not parts.username and not parts.query
        right = right and parts.path in ("", "/") and (parts.port is None or parts.port > 0)
    except ValueError:
        right = False
    if not right:
        mend = "give an address such as https://10.0.0.21"
        raise fields.error("endpoint", f"{endpoint!r} is not the address of a host over https", mend)
    system = fields.optional_text("system")
    if system is not None and not system.startswith("/redfish/"):
        mend = "give a path such as /redfish/v1/Systems/1, or leave it out"
        raise fields.error("system", f"{system!r} is no Redfish path", mend)
    return Bmc(node, endpoint, fields.text("secret", what="a directory"), system)


def check_fencing(config: ModuleConfig) -> None:
    """Both nodes can be powered off, each by its own controller, or neither. Raises ConfigError."""
    if not config.fencing:
        return
    named = [bmc.node for bmc in config.fencing]
    for node in config.nodes:
        if named.count(node) != 1:
            message = f"names {node} {named.count(node)} times"
            raise ConfigError("fencing", message, "give each node's controller once")
    first, second = config.fencing
    if (first.endpoint, first.system) == (second.endpoint, second.system):
        mend = "give each node its own controller, or its own system of a shared one"
        raise ConfigError("fencing[1].endpoint", f"{second.endpoint} is {first.node}'s as well", mend)
