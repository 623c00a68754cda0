"""Checks of a mirror's checkers that the API server cannot make: against the template and the module's addresses."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import ip_address

from twinhull_operator.module import Module, ModuleWatch
from twinhull_operator.problem import Problem
from twinhull_operator.validate_template import container_ports


def check_watches(module: Module, own: Mapping[str, str]) -> Iterator[Problem]:
    """All findings. ``own``: what is no third machine, by address, as the end of a sentence."""
    names = sorted(name for name, protocol in container_ports(module) if protocol == "TCP")
    used: dict[str, str] = {}
    for index, one in enumerate(module.checkers):
        field = f"spec.checkers[{index}]"
        if isinstance(one.port, str) and one.port not in names:
            yield Problem(
                f"{field}.port",
                f"no container has a TCP port named {one.port!r}",
                f"use a number or one of: {', '.join(names) or 'none is named'}",
            )
        if one.address and (owner := own.get(str(ip_address(one.address)))):
            yield Problem(
                f"{field}.address",
                f"{one.address} is {owner}",
                "give the address of a third machine, such as the gateway",
            )
        if one.type == "Exec":
            yield from _command(module, one, field, used)


def _command(module: Module, one: ModuleWatch, field: str, used: dict[str, str]) -> Iterator[Problem]:
    containers = {str(container["name"]): container for container in module.containers}
    name = one.container or next(iter(containers))
    if name not in containers:
        mend = f"use one of: {', '.join(sorted(containers))}"
        yield Problem(f"{field}.container", f"the template has no container {name!r}", mend)
        return
    if name in used:
        mend = "make one command of the two"
        yield Problem(f"{field}.container", f"{used[name]!r} runs in {name!r} already", mend)
    used[name] = one.name
    if containers[name].get("livenessProbe"):
        mend = "remove the probe, or the checker"
        yield Problem(f"{field}.container", f"{name!r} has a livenessProbe of its own", mend)
    for word, seconds in (("interval", one.interval), ("timeout", one.timeout)):
        if seconds != int(seconds):
            mend = "write whole seconds, for example 5s"
            yield Problem(f"{field}.{word}", f"{seconds:g} s cannot be kept by a probe of a container", mend)
