"""The sidecar's configuration file: what the operator renders and a sidecar reads.

One JSON document per module, the same on both nodes; which node it runs on comes from the environment
(``NODE_NAME``) or a flag. :func:`parse` turns bytes into :class:`ModuleConfig` or raises
:class:`ConfigError`, which names the field and the mend.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Literal

VERSION = 1
DEFAULT_DETECTION_TIMEOUT = 3.0
MIN_DETECTION_TIMEOUT = 0.5
MAX_DETECTION_TIMEOUT = 60.0
MAX_STARTUP_TIMEOUT = 3600.0
#: Of a FarmModule, which has no data that two nodes could both write.
DEFAULT_FARM_DETECTION_TIMEOUT = 1.0
MIN_FARM_DETECTION_TIMEOUT = 0.3


class ConfigError(ValueError):
    """A field of the configuration is wrong; ``field`` is its path, ``mend`` says what to write instead."""

    def __init__(self, field: str, message: str, mend: str) -> None:
        super().__init__(f"{field}: {message}; {mend}")
        self.field = field
        self.message = message
        self.mend = mend


@dataclass(frozen=True)
class Link:
    """One network path between the nodes: each node's own address on it."""

    name: str
    addresses: Mapping[str, str]


@dataclass(frozen=True)
class Ports:
    """Ports on the nodes' own addresses: UDP heartbeats, gRPC control, TCP replication stream."""

    heartbeat: int
    grpc: int
    replication: int


@dataclass(frozen=True)
class ServicePort:
    """``VIP:port`` goes to ``target_port`` of the application's pod."""

    name: str
    port: int
    target_port: int
    protocol: Literal["TCP", "UDP"] = "TCP"


@dataclass(frozen=True)
class VirtualIP:
    """A virtual address; ``prefix`` and ``interface`` are found from the node's own addresses when None."""

    address: str
    prefix: int | None = None
    interface: str | None = None
    ports: tuple[ServicePort, ...] = ()


@dataclass(frozen=True)
class Volume:
    """A replicated volume of the module."""

    name: str


@dataclass(frozen=True)
class Container:
    """An application container started by the gate. ``command`` None: the image's own entrypoint."""

    name: str
    image: str = ""
    command: tuple[str, ...] | None = None
    args: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Application:
    """How the application is started (adapter *pod* or *process*) and supervised."""

    adapter: Literal["pod", "process"]
    containers: tuple[Container, ...] = ()
    argv: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: str | None = None
    stop_grace: float = 30.0
    max_restarts: int = 3
    restart_window: float = 600.0


@dataclass(frozen=True)
class Checker:
    """A check of the application, made by the sidecar at its pod; times in seconds.

    ``kind`` tcp: a connection is accepted. http: an answer from 200 to 399. ``rise`` and ``fall``: how many results
    in a row change the verdict.
    """

    name: str
    kind: Literal["tcp", "http"]
    port: int
    path: str = "/"
    interval: float = 1.0
    timeout: float = 1.0
    rise: int = 1
    fall: int = 2


@dataclass(frozen=True)
class Watch:
    """A checker of a mirror, made by the sidecar of the node that serves; times in seconds.

    After ``threshold`` failures in a row ``action`` is taken: Restart (then, too often, Failover), Failover, or Stop
    (as by order). ``kind`` process: the application ends by itself (threshold: so often within ``restart_window``);
    tcp: a connection is accepted; http: an answer from 200 to 399; exec: ``command`` ends with code 0 (in a container
    its gate runs it); ping: ``address`` answers; interface: it has a carrier. The last two are made on both nodes,
    always: nobody fails over to a node that fails the same. ``startup``: how long an application may take to pass for
    the first time.
    """

    name: str
    kind: Literal["process", "tcp", "http", "exec", "ping", "interface"]
    threshold: int
    action: Literal["Restart", "Failover", "Stop"]
    interval: float = 5.0
    timeout: float = 2.0
    startup: float = 60.0
    port: int = 0
    path: str = ""
    command: tuple[str, ...] = ()
    address: str = ""
    interface: str = ""


WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True)
class MaintenanceWindow:
    """When something may be done that clients notice. ``start``, ``end``: minutes since midnight, UTC.

    One that ends before it starts goes on into the next day; ``days`` are those on which it starts.
    """

    days: tuple[str, ...]
    start: int
    end: int


@dataclass(frozen=True)
class Witness:
    """Somebody beside the peer who can be asked (docs/witnesses.md).

    ``kind`` ping: one of ``addresses`` answers an ICMP echo. tcp: one of them accepts a connection at ``port``. lease:
    the Lease ``lease`` in ``namespace`` of the cluster that the file ``kubeconfig`` leads to; a deciding one.
    """

    name: str
    kind: Literal["ping", "tcp", "lease"]
    addresses: tuple[str, ...] = ()
    port: int = 0
    kubeconfig: str = ""
    namespace: str = ""
    lease: str = ""

    @property
    def deciding(self) -> bool:
        """It has a vote, which only one node can get."""
        return self.kind == "lease"


@dataclass(frozen=True)
class Bmc:
    """The baseboard management controller of ``node``, which the other node powers it off with (Redfish).

    ``system``: path of the ComputerSystem; None: the only one. ``secret``: directory with the files username and
    password, and ca.crt where the system's authorities do not do.
    """

    node: str
    endpoint: str
    secret: str
    system: str | None = None


@dataclass(frozen=True)
class Farm:
    """How a FarmModule divides its clients. ``weights``: by node; 1 where a node is not named."""

    affinity: Literal["ClientIP", "ClientIPPort"] = "ClientIP"
    weights: Mapping[str, int] = field(default_factory=dict)
    checkers: tuple[Checker, ...] = ()


@dataclass(frozen=True)
class ModuleConfig:
    """Everything a sidecar needs to know of its module. Times in seconds."""

    namespace: str
    name: str
    uid: str
    nodes: tuple[str, str]
    links: tuple[Link, ...]
    ports: Ports
    base_dir: str
    application: Application
    volumes: tuple[Volume, ...] = ()
    virtual_ips: tuple[VirtualIP, ...] = ()
    kind: Literal["MirrorModule", "FarmModule"] = "MirrorModule"
    #: FarmModule only.
    farm: Farm | None = None
    detection_timeout: float = DEFAULT_DETECTION_TIMEOUT
    without_witness: Literal["Continue", "Wait"] = "Continue"
    #: How long a starting node waits for its peer before it starts alone; None: the detection timeout.
    startup_timeout: float | None = None
    #: Manual: no node takes over unasked.
    failover: Literal["Automatic", "Manual"] = "Automatic"
    witnesses: tuple[Witness, ...] = ()
    #: Both nodes' or none's.
    fencing: tuple[Bmc, ...] = ()
    #: A device that resets the node when this sidecar hangs or cannot give up what it must.
    watchdog: str | None = None
    #: MirrorModule only; a farm's are in :class:`Farm`.
    checkers: tuple[Watch, ...] = ()
    preferred_node: str | None = None
    adopt_from: str | None = None
    #: The deleted module whose data on the nodes become this one's.
    adopt_uid: str | None = None
    durability: Literal["write", "commit"] = "write"
    resync_rate: int = 0
    #: When both trees are compared (schedule.py), in UTC; None: only by order.
    verify_schedule: str | None = None
    #: Automatic: back to ``preferred_node`` when it could take over for ``failback_after`` seconds.
    failback: Literal["Manual", "Automatic"] = "Manual"
    failback_after: float = 300.0
    failback_window: MaintenanceWindow | None = None
    window_bytes: int = 32 << 20

    @property
    def module(self) -> str:
        """``namespace/name``, as logs and refusals name it."""
        return f"{self.namespace}/{self.name}"

    def peer_of(self, node: str) -> str:
        """The other node's name. Raises ConfigError for a node that is not one of the two."""
        if node == self.nodes[0]:
            return self.nodes[1]
        if node == self.nodes[1]:
            return self.nodes[0]
        mend = "run the sidecar on one of the module's nodes"
        raise ConfigError("nodes", f"this node {node!r} is not one of {list(self.nodes)}", mend)


def render(config: ModuleConfig) -> str:
    """The document that :func:`parse` reads: equal configurations are equal text (sorted keys)."""
    return json.dumps({"version": VERSION, **asdict(config)}, indent=1, sort_keys=True) + "\n"


def digest(config: ModuleConfig) -> str:
    """A short name of this exact configuration, so that a change not yet rolled out shows in status."""
    return hashlib.sha256(render(config).encode()).hexdigest()[:16]


def parse(document: bytes | str) -> ModuleConfig:
    """Read a configuration document.

    Raises ConfigError, naming the first wrong field and the mend; the result needs no further checks except
    those against this node's own network (see ``vip``).
    """
    # Imported here because the reader needs the classes above.
    from twinhull_sidecar import config_reader  # noqa: PLC0415

    return config_reader.read(document)
