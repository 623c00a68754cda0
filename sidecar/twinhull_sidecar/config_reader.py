"""Reads the configuration document: every field is checked once, an error names the field and the mend."""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from twinhull_sidecar.config import (
    DEFAULT_DETECTION_TIMEOUT,
    DEFAULT_FARM_DETECTION_TIMEOUT,
    MAX_DETECTION_TIMEOUT,
    MAX_STARTUP_TIMEOUT,
    MIN_DETECTION_TIMEOUT,
    MIN_FARM_DETECTION_TIMEOUT,
    VERSION,
    Application,
    Checker,
    ConfigError,
    Container,
    Farm,
    Link,
    ModuleConfig,
    Ports,
    ServicePort,
    VirtualIP,
    Volume,
)
from twinhull_sidecar.config_checker import check_watches, read_watch
from twinhull_sidecar.config_fencing import check_fencing, read_bmc
from twinhull_sidecar.config_window import read_window
from twinhull_sidecar.config_witness import check_witnesses, read_witness
from twinhull_sidecar.schedule import read_schedule

T = TypeVar("T")
_OF_A_MIRROR = ("volumes", "witnesses", "checkers", "fencing", "watchdog", "startup_timeout")
IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_MIN_WINDOW = 2 << 20  # two of the largest requests that FUSE makes
_MAX_WINDOW = 1 << 30


class Fields:
    """One JSON object of the document: typed access to its fields, a complaint about unknown ones."""

    def __init__(self, path: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise ConfigError(path or "document", f"is {_kind(value)}, not an object", "write {...}")
        self._path = path
        self._value: dict[str, Any] = value
        self._asked: set[str] = set()

    def path(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def error(self, name: str, message: str, mend: str) -> ConfigError:
        return ConfigError(self.path(name), message, mend)

    def get(self, name: str) -> Any:
        self._asked.add(name)
        return self._value.get(name)

    def text(
        self, name: str, pattern: re.Pattern[str] | None = None, what: str = "a non-empty string"
    ) -> str:
        value = self.get(name)
        if value is None:
            raise self.error(name, "is missing", f"give {what}")
        if not isinstance(value, str) or not value or (pattern is not None and not pattern.fullmatch(value)):
            raise self.error(name, f"{value!r} is not {what}", f"give {what}")
        return value

    def optional_text(self, name: str) -> str | None:
        return None if self.get(name) is None else self.text(name)

    def choice(self, name: str, choices: tuple[str, ...], default: str | None = None) -> Any:
        value = self.get(name)
        if value is None:
            value = default
        if value not in choices:
            raise self.error(name, f"{value!r} is not known", f"choose one of {', '.join(choices)}")
        return value

    def number(self, name: str, low: float, high: float, default: float | None = None) -> float:
        value = self.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
            raise self.error(
                name, f"{value!r} is not a number from {low:g} to {high:g}", "give such a number"
            )
        return float(value)

    def integer(self, name: str, low: int, high: int, default: int | None = None) -> int:
        value = self.get(name)
        if value is None:
            value = default
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.error(
                name, f"{value!r} is not a whole number from {low} to {high}", "give such a number"
            )
        return value

    def address(self, name: str) -> IPAddress:
        text = self.text(name, what="an IP address")
        try:
            return ipaddress.ip_address(text)
        except ValueError:
            raise self.error(name, f"{text!r} is not an IP address", "give an IPv4 or IPv6 address") from None

    def addresses(self, name: str) -> tuple[str, ...]:
        """At least one IP address, none twice."""
        texts = self.strings(name)
        if not texts:
            raise self.error(name, "is missing or empty", "give at least one IP address")
        result = []
        for index, text in enumerate(texts):
            try:
                result.append(str(ipaddress.ip_address(text)))
            except ValueError:
                raise self.error(
                    f"{name}[{index}]", f"{text!r} is not an IP address", "give an IPv4 or IPv6 address"
                ) from None
        return tuple(result)

    def items(self, name: str, read: Callable[[Fields], T], at_least: int = 0) -> tuple[T, ...]:
        value = self.get(name)
        if value is None:
            value = []
        if not isinstance(value, list):
            raise self.error(name, f"is {_kind(value)}, not a list", "write [...]")
        if len(value) < at_least:
            raise self.error(name, "is empty", f"give at least {at_least}")
        result = []
        for index, item in enumerate(value):
            fields = Fields(f"{self.path(name)}[{index}]", item)
            result.append(read(fields))
            fields.done()
        return tuple(result)

    def strings(self, name: str) -> tuple[str, ...] | None:
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.error(name, "is not a list of strings", 'write ["...", "..."]')
        return tuple(value)

    def mapping(self, name: str) -> Mapping[str, str]:
        value = self.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            raise self.error(name, "is not an object of strings", 'write {"name": "value"}')
        return dict(value)

    def child(self, name: str) -> Fields:
        value = self.get(name)
        if value is None:
            raise self.error(name, "is missing", "add it")
        return Fields(self.path(name), value)

    def done(self) -> None:
        unknown = sorted(set(self._value) - self._asked)
        if unknown:
            known = ", ".join(sorted(self._asked))
            mend = f"remove it or correct its name; known are {known}"
            raise self.error(unknown[0], "is not a known field", mend)


def _kind(value: Any) -> str:
    kinds = {
        "dict": "an object",
        "list": "a list",
        "str": "a string",
        "NoneType": "null",
        "bool": "a boolean",
    }
    return kinds.get(type(value).__name__, "a number")


def read(document: bytes | str) -> ModuleConfig:
    """See :func:`twinhull_sidecar.config.parse`."""
    try:
        value = json.loads(document)
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError("document", f"is not JSON ({error})", "render it again from the module") from None
    fields = Fields("", value)
    version = fields.integer("version", 0, 1 << 31)
    if version != VERSION:
        mend = "use a sidecar and an operator of one release"
        raise ConfigError("version", f"is {version}, this sidecar reads {VERSION}", mend)
    nodes = _nodes(fields)
    kind = fields.choice("kind", ("MirrorModule", "FarmModule"), "MirrorModule")
    is_farm = kind == "FarmModule"
    for name in (
        ("volumes", "witnesses", "checkers", "fencing", "watchdog", "startup_timeout")
        if is_farm
        else ("farm",)
    ):
        if fields.get(name):
            raise fields.error(name, f"is no field of a {kind}", "remove it, or change the kind")
    config = ModuleConfig(
        kind=kind,
        farm=_farm(fields, nodes) if is_farm else None,
        namespace=fields.text("namespace", _DNS_LABEL, "a namespace's name"),
        name=fields.text("name", _DNS_NAME, "an object's name"),
        uid=fields.text("uid"),
        nodes=nodes,
        links=fields.items("links", lambda link: _link(link, nodes), at_least=1),
        ports=_ports(fields.child("ports")),
        base_dir=_absolute(fields, "base_dir"),
        application=_application(fields.child("application")),
        volumes=() if is_farm else fields.items("volumes", _volume, at_least=1),
        virtual_ips=fields.items("virtual_ips", _virtual_ip, at_least=1 if is_farm else 0),
        detection_timeout=fields.number(
            "detection_timeout",
            MIN_FARM_DETECTION_TIMEOUT if is_farm else MIN_DETECTION_TIMEOUT,
            MAX_DETECTION_TIMEOUT,
            DEFAULT_FARM_DETECTION_TIMEOUT if is_farm else DEFAULT_DETECTION_TIMEOUT,
        ),
        without_witness=fields.choice("without_witness", ("Continue", "Wait"), "Continue"),
        startup_timeout=None
        if fields.get("startup_timeout") is None
        else fields.number("startup_timeout", MIN_DETECTION_TIMEOUT, MAX_STARTUP_TIMEOUT),
        failover=fields.choice("failover", ("Automatic", "Manual"), "Automatic"),
        witnesses=fields.items("witnesses", read_witness),
        fencing=fields.items("fencing", lambda bmc: read_bmc(bmc, nodes)),
        watchdog=None if fields.get("watchdog") is None else _absolute(fields, "watchdog"),
        checkers=fields.items("checkers", read_watch),
        preferred_node=_one_of(fields, "preferred_node", nodes),
        adopt_from=_one_of(fields, "adopt_from", nodes),
        adopt_uid=fields.optional_text("adopt_uid"),
        durability=fields.choice("durability", ("write", "commit"), "write"),
        resync_rate=fields.integer("resync_rate", 0, 1 << 40, 0),
        verify_schedule=_schedule(fields.optional_text("verify_schedule")),
        failback=fields.choice("failback", ("Manual", "Automatic"), "Manual"),
        failback_after=fields.number("failback_after", 1, 86400, 300),
        failback_window=read_window("failback_window", fields.get("failback_window")),
        window_bytes=fields.integer("window_bytes", _MIN_WINDOW, _MAX_WINDOW, 32 << 20),
    )
    fields.done()
    _check_whole(config)
    return config


def _nodes(fields: Fields) -> tuple[str, str]:
    names = fields.strings("nodes")
    if names is None or len(names) != 2 or not all(names):
        raise fields.error("nodes", f"{names!r} are not two node names", "name the two nodes")
    if names[0] == names[1]:
        raise fields.error("nodes", f"node {names[0]!r} is named twice", "name two different nodes")
    return names[0], names[1]


def _one_of(fields: Fields, name: str, nodes: tuple[str, str]) -> str | None:
    value = fields.optional_text(name)
    if value is not None and value not in nodes:
        raise fields.error(
            name, f"{value!r} is not one of the module's nodes", f"choose {nodes[0]} or {nodes[1]}"
        )
    return value


def _absolute(fields: Fields, name: str) -> str:
    path = fields.text(name, what="an absolute path")
    if not path.startswith("/") or path.rstrip("/") == "" or ".." in path.split("/"):
        raise fields.error(name, f"{path!r} is not an absolute path", "give one below /")
    return path.rstrip("/")


def _link(fields: Fields, nodes: tuple[str, str]) -> Link:
    name = fields.text("name")
    addresses = fields.mapping("addresses")
    if set(addresses) != set(nodes):
        mend = f"give {nodes[0]}'s and {nodes[1]}'s address on this link"
        raise fields.error("addresses", f"names {sorted(addresses)}, not the two nodes", mend)
    parsed = {node: Fields(fields.path("addresses"), dict(addresses)).address(node) for node in nodes}
    first, second = parsed.values()
    if first == second:
        raise fields.error("addresses", f"{first} is given to both nodes", "give each node its own address")
    if first.version != second.version:
        raise fields.error(
            "addresses", f"{first} and {second} are of two IP versions", "give two of one version"
        )
    return Link(name=name, addresses=dict(addresses))


def _ports(fields: Fields) -> Ports:
    ports = Ports(*(fields.integer(name, 1, 65535) for name in ("heartbeat", "grpc", "replication")))
    if ports.grpc == ports.replication:
        mend = "give each TCP port its own number"
        raise fields.error("replication", f"{ports.replication} is the grpc port as well", mend)
    fields.done()
    return ports


def _application(fields: Fields) -> Application:
    adapter = fields.choice("adapter", ("pod", "process"))
    argv = fields.strings("argv") or ()
    containers = fields.items("containers", _container, at_least=1 if adapter == "pod" else 0)
    _unique(fields.path("containers"), [container.name for container in containers])
    if adapter == "process" and not argv:
        raise fields.error("argv", "is missing", "give the command that the process adapter runs")
    application = Application(
        adapter=adapter,
        containers=containers,
        argv=argv,
        env=fields.mapping("env"),
        cwd=None if fields.get("cwd") is None else _absolute(fields, "cwd"),
        stop_grace=fields.number("stop_grace", 0, 3600, 30),
        max_restarts=fields.integer("max_restarts", 0, 1000, 3),
        restart_window=fields.number("restart_window", 1, 86400, 600),
    )
    fields.done()
    return application


def _farm(fields: Fields, nodes: tuple[str, str]) -> Farm:
    farm = fields.child("farm")
    weights = Fields(farm.path("weights"), farm.get("weights") or {})
    by_node = {node: weights.integer(node, 0, 1000, 1) for node in nodes}
    weights.done()
    if sum(by_node.values()) == 0:
        raise farm.error("weights", "are zero for both nodes", "give one of them a weight of at least 1")
    checkers = farm.items("checkers", _checker)
    _unique(farm.path("checkers"), [checker.name for checker in checkers])
    read_farm = Farm(
        affinity=farm.choice("affinity", ("ClientIP", "ClientIPPort"), "ClientIP"),
        weights=by_node,
        checkers=checkers,
    )
    farm.done()
    return read_farm


def _checker(fields: Fields) -> Checker:
    checker = Checker(
        name=fields.text("name"),
        kind=fields.choice("kind", ("tcp", "http")),
        port=fields.integer("port", 1, 65535),
        path=fields.optional_text("path") or "/",
        interval=fields.number("interval", 0.1, 3600, 1),
        timeout=fields.number("timeout", 0.1, 60, 1),
        rise=fields.integer("rise", 1, 100, 1),
        fall=fields.integer("fall", 1, 100, 2),
    )
    if not checker.path.startswith("/"):
        raise fields.error("path", f"{checker.path!r} does not begin with /", "give an absolute path")
    return checker


def _container(fields: Fields) -> Container:
    image = fields.get("image")
    return Container(
        name=fields.text("name", _DNS_LABEL, "a container's name"),
        image="" if image in (None, "") else fields.text("image"),
        command=fields.strings("command"),
        args=fields.strings("args"),
    )


def _volume(fields: Fields) -> Volume:
    return Volume(name=fields.text("name", _DNS_LABEL, "a volume's name"))


def _virtual_ip(fields: Fields) -> VirtualIP:
    address = fields.address("address")
    if address.is_multicast or address.is_loopback or address.is_unspecified:
        raise fields.error(
            "address", f"{address} cannot be served to clients", "give a free unicast address of the LAN"
        )
    ports = fields.items("ports", _service_port)
    _unique(fields.path("ports"), [f"{port.protocol}/{port.port}" for port in ports])
    return VirtualIP(
        address=str(address),
        prefix=None if fields.get("prefix") is None else fields.integer("prefix", 1, address.max_prefixlen),
        interface=fields.optional_text("interface"),
        ports=ports,
    )


def _service_port(fields: Fields) -> ServicePort:
    port = fields.integer("port", 1, 65535)
    return ServicePort(
        name=fields.text("name"),
        port=port,
        target_port=fields.integer("target_port", 1, 65535, port),
        protocol=fields.choice("protocol", ("TCP", "UDP"), "TCP"),
    )


def _unique(path: str, names: list[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(path, f"{name!r} is there twice", "name each once")


def _check_whole(config: ModuleConfig) -> None:
    """Checks that concern several fields."""
    _unique("links", [link.name for link in config.links])
    _unique("volumes", [volume.name for volume in config.volumes])
    _unique("virtual_ips", [vip.address for vip in config.virtual_ips])
    if config.failback == "Automatic" and config.preferred_node is None:
        raise ConfigError("failback", "has no node to return to", "name preferred_node, or write Manual")
    check_witnesses(config)
    check_fencing(config)
    check_watches(config)
    own = {str(ipaddress.ip_address(a)): node for link in config.links for node, a in link.addresses.items()}
    for index, vip in enumerate(config.virtual_ips):
        if vip.address in own:
            mend = "give an address that no node has as its own"
            raise ConfigError(
                f"virtual_ips[{index}].address", f"{vip.address} is {own[vip.address]}'s own address", mend
            )


def _schedule(text: str | None) -> str | None:
    if text is not None:
        try:
            read_schedule(text)
        except ValueError as error:
            mend = "write five fields in UTC (minute hour day month weekday), for example '30 2 * * 6'"
            raise ConfigError("verify_schedule", str(error), mend) from None
    return text
