"""A mirror's checkers: in the sidecars' configuration, and those that run in a container, in the pod. Pure."""

from __future__ import annotations

import math
import re
from typing import Final, Literal

from twinhull_operator.module import Module, ModuleWatch, Object
from twinhull_operator.validate_template import container_ports
from twinhull_sidecar.config import Watch

Kind = Literal["process", "tcp", "http", "exec", "ping", "interface"]
_KINDS: Final[dict[str, Kind]] = {
    "Process": "process",
    "TCP": "tcp",
    "HTTP": "http",
    "Exec": "exec",
    "Ping": "ping",
    "Interface": "interface",
}
_FIELDS: Final = {"kind": "type", "startup": "startupTimeout"}


def render_watches(module: Module) -> tuple[Watch, ...]:
    """As the sidecar knows them, in the order of the resource; :func:`check_module` found them right."""
    named = container_ports(module)
    return tuple(_watch(one, named) for one in module.checkers)


def _watch(one: ModuleWatch, named: dict[tuple[str, str], int]) -> Watch:
    return Watch(
        name=one.name,
        kind=_KINDS[one.type],
        threshold=one.threshold,
        action=one.action,
        interval=one.interval,
        timeout=one.timeout,
        startup=one.startup,
        port=named[one.port, "TCP"] if isinstance(one.port, str) else one.port,
        path=one.path if one.type == "HTTP" else "",
        command=one.command,
        address=one.address,
        interface=one.interface,
    )


def container_of(module: Module, one: ModuleWatch) -> str:
    """The name of the container in which a checker of type Exec runs."""
    return one.container or str(module.containers[0]["name"])


def with_commands(module: Module, container: Object) -> Object:
    """The container with its checker of type Exec as the liveness probe that the gate makes of it.

    The gate runs the command in the container, ends the application at the threshold, and the sidecar restarts it.
    """
    for one in module.checkers:
        if one.type != "Exec" or container_of(module, one) != container["name"]:
            continue
        action: Object = {"exec": {"command": list(one.command)}}
        timing: Object = {"periodSeconds": int(one.interval), "timeoutSeconds": int(one.timeout)}
        made = {**container, "livenessProbe": {**action, **timing, "failureThreshold": one.threshold}}
        if one.startup and not container.get("startupProbe"):
            tries = max(1, math.ceil(one.startup / one.interval))
            made["startupProbe"] = {**action, **timing, "failureThreshold": tries}
        return made
    return container


def watch_field(field: str) -> str | None:
    """The path in the resource of a field of the sidecar's ``checkers``; None for any other field."""
    match = re.fullmatch(r"(checkers\[\d+\])(?:\.(\w+)(.*))?|checkers", field)
    if match is None:
        return None
    if match[1] is None:
        return "spec.checkers"
    name = _FIELDS.get(match[2], match[2])
    return f"spec.{match[1]}" + (f".{name}{match[3]}" if name else "")
