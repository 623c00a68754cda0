"""How a farm divides its clients: the part of the sidecars' configuration that only a FarmModule has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from twinhull_operator.module import Module, ModuleChecker, Object
from twinhull_operator.validate_template import container_ports
from twinhull_sidecar.config import Checker, Farm

_LONGEST_INTERVAL = 3600
_LONGEST_TIMEOUT = 60
_MOST_IN_A_ROW = 100


def render_farm(module: Module) -> Farm | None:
    """The farm of a FarmModule that :func:`check_module` found right, else None."""
    if module.farm is None:
        return None
    checkers = module.farm.checkers
    return Farm(
        affinity=module.farm.affinity,
        weights={name: module.farm.weights.get(name, 1) for name in module.node_names},
        checkers=default_checkers(module) if checkers is None else tuple(_named(module, c) for c in checkers),
    )


def default_checkers(module: Module) -> tuple[Checker, ...]:
    """From the containers' readiness probes, else a connection to each TCP target port of the virtual IPs."""
    return tuple(_from_probes(module)) or tuple(_from_ports(module))


def _named(module: Module, checker: ModuleChecker) -> Checker:
    return Checker(
        name=checker.name,
        kind="http" if checker.type == "HTTP" else "tcp",
        port=_number(checker.port, container_ports(module)),
        path=checker.path,
        interval=checker.interval,
        timeout=checker.timeout,
        rise=checker.rise,
        fall=checker.fall,
    )


def _from_probes(module: Module) -> Iterator[Checker]:
    for container in module.containers:
        probe = container.get("readinessProbe") or {}
        http = probe.get("httpGet")
        action = http or probe.get("tcpSocket") or {}
        port = action.get("port")
        if isinstance(port, str):
            port = _own_ports(container).get(port)
        if not isinstance(port, int):
            # Another kind of probe, or one that the API server will refuse with the template.
            continue
        # What the probe does not say is as in any checker: kubelet's 10 s would make a failover slow.
        yield Checker(
            name=container["name"],
            kind="http" if http and _is_plain(http) else "tcp",
            port=port,
            path="/" + str(http.get("path", "")).lstrip("/") if http else "/",
            interval=float(_whole(probe, "periodSeconds", 1, _LONGEST_INTERVAL)),
            timeout=float(_whole(probe, "timeoutSeconds", 1, _LONGEST_TIMEOUT)),
            rise=_whole(probe, "successThreshold", 1, _MOST_IN_A_ROW),
            fall=_whole(probe, "failureThreshold", 2, _MOST_IN_A_ROW),
        )


def _own_ports(container: Object) -> dict[str, int]:
    return {
        port["name"]: port["containerPort"]
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort") and port.get("protocol", "TCP") == "TCP"
    }


def _whole(probe: Object, name: str, default: int, most: int) -> int:
    value = probe.get(name)
    return min(value, most) if isinstance(value, int) and value > 0 else default


def _is_plain(action: Object) -> bool:
    """Whether the sidecar's own request is the probe's; else a connection to the same port is all it can try."""
    return action.get("scheme", "HTTP") == "HTTP" and not action.get("host") and not action.get("httpHeaders")


def _from_ports(module: Module) -> Iterator[Checker]:
    named = container_ports(module)
    numbers = {
        _number(port.target, named)
        for vip in module.virtual_ips
        for port in vip.ports
        if port.protocol == "TCP"
    }
    for number in sorted(numbers):
        yield Checker(name=f"tcp-{number}", kind="tcp", port=number)


def _number(port: int | str, named: Mapping[tuple[str, str], int]) -> int:
    return named[port, "TCP"] if isinstance(port, str) else int(port)
