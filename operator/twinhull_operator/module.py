"""A module as the operator reads it: the resource's fields with their defaults, in Python types."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from twinhull_operator.constants import ANNOTATION_UNPROTECTED, BASE_DIRECTORY, FARM, MIRROR, Kind
from twinhull_operator.quantities import parse_duration, parse_quantity, parse_time_of_day
from twinhull_sidecar.config import WEEKDAYS, MaintenanceWindow

Object = dict[str, Any]
DEFAULT_GRACE = 30


@dataclass(frozen=True)
class ModuleNode:
    """One of the module's nodes; ``addresses`` given by the user override what the Node reports."""

    name: str
    addresses: tuple[str, ...] = ()


@dataclass(frozen=True)
class ModuleLink:
    """A dedicated link: each node's address on it."""

    name: str
    addresses: Mapping[str, str]


@dataclass(frozen=True)
class ModulePort:
    """A port of a virtual IP; ``target`` is a number or the name of a container's port."""

    name: str
    port: int
    target: int | str
    protocol: Literal["TCP", "UDP"] = "TCP"


@dataclass(frozen=True)
class ModuleVirtualIP:
    """A virtual IP as the user wrote it, split into address and prefix length."""

    address: str
    prefix: int | None = None
    interface: str | None = None
    ports: tuple[ModulePort, ...] = ()


@dataclass(frozen=True)
class ModuleWitness:
    """Who is asked when the peer is lost; ``secret`` and ``key`` hold the kubeconfig that leads to a Lease."""

    name: str
    type: Literal["Ping", "TCP", "Lease"]
    addresses: tuple[str, ...] = ()
    port: int = 0
    secret: str = ""
    key: str = "kubeconfig"
    namespace: str = "default"
    lease: str = ""


@dataclass(frozen=True)
class ModuleBmc:
    """A node's baseboard management controller; ``secret`` has its username, password and ca.crt."""

    node: str
    endpoint: str
    secret: str
    system: str | None = None


@dataclass(frozen=True)
class ModuleChecker:
    """A check of a farm's application; ``port`` is a number or the name of a container's port."""

    name: str
    port: int | str
    type: Literal["TCP", "HTTP"] = "TCP"
    path: str = "/"
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 1
    fall: int = 2


@dataclass(frozen=True)
class ModuleWatch:
    """A checker of a mirror; ``port`` is a number or the name of a container's port. Of type Exec, ``container`` None:
    the first.
    """

    name: str
    type: Literal["Process", "TCP", "HTTP", "Exec", "Ping", "Interface"]
    threshold: int
    action: Literal["Restart", "Failover", "Stop"]
    interval: float = 5.0
    timeout: float = 2.0
    startup: float = 60.0
    port: int | str = 0
    path: str = "/"
    command: tuple[str, ...] = ()
    container: str | None = None
    address: str = ""
    interface: str = ""


@dataclass(frozen=True)
class ModuleFarm:
    """What only a FarmModule has. ``checkers`` None: those that follow from the template."""

    affinity: Literal["ClientIP", "ClientIPPort"] = "ClientIP"
    weights: Mapping[str, int] = field(default_factory=dict)
    checkers: tuple[ModuleChecker, ...] | None = None


@dataclass(frozen=True)
class Module:
    """The desired state of one module of either kind. Times in seconds, rates in bytes per second (0: no limit).

    ``roll_unprotected``: an administrator wants exactly this specification rolled out although no node could take over.

    ``farm`` is set for a FarmModule, which has none of the fields from ``volumes`` on.
    """

    kind: Kind
    namespace: str
    name: str
    uid: str
    generation: int
    created: str
    nodes: tuple[ModuleNode, ModuleNode]
    template: Object
    detection_timeout: float
    links: tuple[ModuleLink, ...] = ()
    virtual_ips: tuple[ModuleVirtualIP, ...] = ()
    max_restarts: int = 3
    restart_window: float = 600.0
    base_port: int | None = None
    roll_unprotected: bool = False
    farm: ModuleFarm | None = None
    volumes: tuple[str, ...] = ()
    durability: Literal["write", "commit"] = "write"
    resync_rate: int = 0
    verify_schedule: str | None = None
    without_witness: Literal["Continue", "Wait"] = "Continue"
    failover: Literal["Automatic", "Manual"] = "Automatic"
    witnesses: tuple[ModuleWitness, ...] = ()
    checkers: tuple[ModuleWatch, ...] = ()
    watchdog: str | None = None
    startup_timeout: float | None = None
    fencing: tuple[ModuleBmc, ...] = ()
    preferred_node: str | None = None
    failback: Literal["Manual", "Automatic"] = "Manual"
    failback_after: float = 300.0
    failback_window: MaintenanceWindow | None = None
    adopt_from: str | None = None
    adopt_uid: str | None = None

    @property
    def key(self) -> str:
        """``namespace/name``, as messages name the module."""
        return f"{self.namespace}/{self.name}"

    @property
    def node_names(self) -> tuple[str, str]:
        """The names of the two nodes in the order of the resource."""
        return self.nodes[0].name, self.nodes[1].name

    @property
    def base_dir(self) -> str:
        """The module's directory on both nodes."""
        return f"{BASE_DIRECTORY}/{self.namespace}-{self.name}"

    @property
    def stop_grace(self) -> int:
        """Seconds that the application gets to stop: the template's terminationGracePeriodSeconds."""
        grace = self.template["spec"].get("terminationGracePeriodSeconds")
        return DEFAULT_GRACE if grace is None else int(grace)

    @property
    def containers(self) -> list[Object]:
        """The application containers of the template."""
        return cast("list[Object]", self.template["spec"]["containers"])

    def child(self, suffix: str = "") -> str:
        """The name of an object that belongs to the module."""
        return f"{self.name}-twinhull-{suffix}" if suffix else self.name


def read_module(resource: Mapping[str, Any]) -> Module:
    """The module that a resource describes.

    The API server has checked the resource against its schema; a field that still cannot be read raises
    ValueError or KeyError, whose text names it.
    """
    metadata, spec = resource["metadata"], resource["spec"]
    kind: Kind = resource["kind"]
    failover = spec.get("failover") or {}
    first, second = (ModuleNode(n["name"], tuple(n.get("addresses") or ())) for n in spec["nodes"])
    return Module(
        kind=kind,
        namespace=metadata["namespace"],
        name=metadata["name"],
        uid=metadata["uid"],
        generation=int(metadata.get("generation", 0)),
        created=metadata.get("creationTimestamp", ""),
        nodes=(first, second),
        template=spec["template"],
        links=tuple(ModuleLink(e["name"], dict(e["addresses"])) for e in spec.get("links") or ()),
        virtual_ips=tuple(_virtual_ip(entry) for entry in spec.get("virtualIPs") or ()),
        max_restarts=int(failover.get("maxRestarts", 3)),
        restart_window=parse_duration(failover.get("restartWindow", "10m")),
        roll_unprotected=(metadata.get("annotations") or {}).get(ANNOTATION_UNPROTECTED)
        == str(metadata.get("generation")),
        base_port=(resource.get("status") or {}).get("basePort"),
        **_OWN_FIELDS[kind](spec, metadata),
    )


def _mirror_fields(spec: Mapping[str, Any], metadata: Mapping[str, Any]) -> dict[str, Any]:
    replication, failover = spec.get("replication") or {}, spec.get("failover") or {}
    return {
        "detection_timeout": parse_duration(failover.get("detectionTimeout", "3s")),
        "volumes": tuple(v["name"] for v in spec["volumes"]),
        "durability": replication.get("durability", "write"),
        "resync_rate": parse_quantity(replication.get("resyncRateLimit", 0)),
        "verify_schedule": replication.get("verifySchedule"),
        "without_witness": failover.get("withoutWitness", "Continue"),
        "failover": failover.get("mode", "Automatic"),
        "watchdog": failover.get("watchdog"),
        "startup_timeout": _optional_duration(failover.get("startupTimeout")),
        "fencing": tuple(
            ModuleBmc(entry["node"], entry["endpoint"], entry["secret"]["name"], entry.get("system"))
            for entry in (spec.get("fencing") or {}).get("redfish") or ()
        ),
        "witnesses": tuple(_witness(entry, metadata) for entry in spec.get("witnesses") or ()),
        "checkers": tuple(map(_watch, spec.get("checkers") or ())),
        "preferred_node": spec.get("preferredNode"),
        "failback": spec.get("failback", "Manual"),
        "failback_after": parse_duration(spec.get("failbackAfter", "5m")),
        "failback_window": _window(spec.get("failbackWindow")),
        "adopt_from": spec.get("adoptFrom"),
        "adopt_uid": spec.get("adoptUID"),
    }


def _window(entry: Mapping[str, Any] | None) -> MaintenanceWindow | None:
    if entry is None:
        return None
    days = tuple(day for day in WEEKDAYS if day in (entry.get("days") or WEEKDAYS))
    return MaintenanceWindow(days, parse_time_of_day(entry["start"]), parse_time_of_day(entry["end"]))


def _farm_fields(spec: Mapping[str, Any], _: Mapping[str, Any]) -> dict[str, Any]:
    failover, checkers = spec.get("failover") or {}, spec.get("checkers")
    return {
        "detection_timeout": parse_duration(failover.get("detectionTimeout", "1s")),
        "farm": ModuleFarm(
            affinity=spec.get("affinity", "ClientIP"),
            weights=dict(spec.get("weights") or {}),
            checkers=None if checkers is None else tuple(map(_checker, checkers)),
        ),
    }


_OWN_FIELDS: Final[Mapping[Kind, Callable[[Mapping[str, Any], Mapping[str, Any]], dict[str, Any]]]] = {
    MIRROR: _mirror_fields,
    FARM: _farm_fields,
}


def _optional_duration(text: str | None) -> float | None:
    return None if text is None else parse_duration(text)


def _witness(entry: Mapping[str, Any], metadata: Mapping[str, Any]) -> ModuleWitness:
    secret = entry.get("kubeconfigSecret") or {}
    return ModuleWitness(
        name=entry["name"],
        type=entry["type"],
        addresses=tuple(entry.get("addresses") or ()),
        port=int(entry.get("port", 0)),
        secret=secret.get("name", ""),
        key=secret.get("key", "kubeconfig"),
        namespace=entry.get("namespace", "default"),
        lease=entry.get("lease") or f"twinhull-{metadata['namespace']}-{metadata['name']}",
    )


def _watch(entry: Mapping[str, Any]) -> ModuleWatch:
    return ModuleWatch(
        name=entry["name"],
        type=entry["type"],
        threshold=int(entry["threshold"]),
        action=entry["action"],
        interval=parse_duration(entry.get("interval", "5s")),
        timeout=parse_duration(entry.get("timeout", "2s")),
        startup=parse_duration(entry.get("startupTimeout", "60s")),
        port=entry.get("port", 0),
        path=entry.get("path", "/"),
        command=tuple(entry.get("command") or ()),
        container=entry.get("container"),
        address=entry.get("address", ""),
        interface=entry.get("interface", ""),
    )


def _checker(entry: Mapping[str, Any]) -> ModuleChecker:
    return ModuleChecker(
        name=entry["name"],
        port=entry["port"],
        type=entry.get("type", "TCP"),
        path=entry.get("path", "/"),
        interval=parse_duration(entry.get("interval", "1s")),
        timeout=parse_duration(entry.get("timeout", "1s")),
        rise=int(entry.get("rise", 1)),
        fall=int(entry.get("fall", 2)),
    )


def _virtual_ip(entry: Mapping[str, Any]) -> ModuleVirtualIP:
    address, _, prefix = entry["address"].partition("/")
    return ModuleVirtualIP(
        address=address,
        prefix=int(prefix) if prefix else None,
        interface=entry.get("interface"),
        ports=tuple(_port(port) for port in entry.get("ports") or ()),
    )


def _port(entry: Mapping[str, Any]) -> ModulePort:
    number, protocol = int(entry["port"]), entry.get("protocol", "TCP")
    return ModulePort(
        name=entry.get("name") or f"{protocol.lower()}-{number}",
        port=number,
        target=entry.get("targetPort", number),
        protocol=protocol,
    )
