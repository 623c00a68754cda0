"""The part of the configuration that names a mirror's checkers: each field checked, an error names it and the mend."""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from twinhull_sidecar.config import ConfigError, ModuleConfig, Watch

if TYPE_CHECKING:
    from twinhull_sidecar.config_reader import Fields

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_INTERFACE = re.compile(r"[^/ ]{1,15}")
#: Which fields belong to which kind, beside those of all kinds.
_OWN: dict[str, tuple[str, ...]] = {
    "process": (),
    "tcp": ("port",),
    "http": ("port", "path"),
    "exec": ("command",),
    "ping": ("address",),
    "interface": ("interface",),
}
OF_THE_NODE = ("ping", "interface")


def read_watch(fields: Fields) -> Watch:
    """One entry of ``checkers``. Raises ConfigError."""
    name = fields.text("name", _NAME, "a name of lower-case letters, digits and '-'")
    kind = fields.choice("kind", tuple(_OWN))
    own = _OWN[kind]
    for other in sorted({name for names in _OWN.values() for name in names} - set(own)):
        if fields.get(other):
            raise fields.error(
                other, f"is no field of a checker of kind {kind}", "remove it, or change the kind"
            )
    if fields.get("threshold") is None:
        mend = "say after how many failures in a row the action is taken, for example 3"
        raise fields.error("threshold", "is missing", mend)
    action = fields.choice("action", ("Restart", "Failover", "Stop"))
    if kind in OF_THE_NODE and action == "Restart":
        mend = "write Failover or Stop"
        raise fields.error("action", f"Restart of the application mends nothing that {kind} checks", mend)
    command = fields.strings("command") if "command" in own else None
    if "command" in own and not command:
        raise fields.error("command", "is missing", 'give the command, as ["/bin/check", "--now"]')
    path = (fields.optional_text("path") or "/") if "path" in own else ""
    if path and not path.startswith("/"):
        raise fields.error("path", f"{path!r} does not begin with /", "give an absolute path")
    return Watch(
        name=name,
        kind=kind,
        threshold=fields.integer("threshold", 1, 1000),
        action=action,
        interval=fields.number("interval", 0.1, 3600, 5),
        timeout=fields.number("timeout", 0.1, 60, 2),
        startup=fields.number("startup", 0, 86400, 60),
        port=fields.integer("port", 1, 65535) if "port" in own else 0,
        path=path,
        command=command or (),
        address=str(fields.address("address")) if "address" in own else "",
        interface=fields.text("interface", _INTERFACE, "a network interface's name")
        if "interface" in own
        else "",
    )


def check_watches(config: ModuleConfig) -> None:
    """What concerns several fields. Raises ConfigError."""
    names: set[str] = set()
    processes = 0
    for index, one in enumerate(config.checkers):
        field = f"checkers[{index}]"
        if one.name in names:
            raise ConfigError(f"{field}.name", f"{one.name!r} is there twice", "name each once")
        names.add(one.name)
        processes += one.kind == "process"
        if one.kind == "process" and processes > 1:
            raise ConfigError(f"{field}.kind", "process is there twice", "keep one of them")
        if in_container(config, one) and one.action != "Restart":
            message = f"{one.action} cannot follow a command that runs in a container"
            raise ConfigError(f"{field}.action", message, "write Restart")
        _check_address(config, one, field)


def in_container(config: ModuleConfig, one: Watch) -> bool:
    """The command runs in a container: its gate runs it, not the sidecar, and ends the application at the threshold."""
    return one.kind == "exec" and config.application.adapter == "pod"


def asked_by_sidecar(config: ModuleConfig) -> tuple[Watch, ...]:
    """The checkers that the sidecar makes itself. That a process ends, its gate says at once."""
    return tuple(one for one in config.checkers if one.kind != "process" and not in_container(config, one))


def _check_address(config: ModuleConfig, one: Watch, field: str) -> None:
    if one.kind != "ping":
        return
    address = ipaddress.ip_address(one.address)
    own = {ipaddress.ip_address(text): node for link in config.links for node, text in link.addresses.items()}
    if address in own:
        mend = "give the address of a third machine, such as the gateway: what the nodes hear of each other is known"
        raise ConfigError(f"{field}.address", f"{address} is {own[address]}'s own address", mend)
    if any(ipaddress.ip_address(vip.address) == address for vip in config.virtual_ips):
        mend = "give the address of a third machine, such as the gateway"
        raise ConfigError(f"{field}.address", f"{address} is the module's virtual IP", mend)
