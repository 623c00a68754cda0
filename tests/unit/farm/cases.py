"""Values that the farm's unit tests start from."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twinhull_sidecar.config import ServicePort, VirtualIP
from twinhull_sidecar.farm.decide import Application, Own, Peer
from twinhull_sidecar.farm.message import FarmMessage, Phase
from twinhull_sidecar.farm.plan import Plan, Service, Uplink
from twinhull_sidecar.farm.settings import FarmSettings

T = 1.0
NOW = 1000.0
PORTS = (ServicePort("http", 80, 8080), ServicePort("dns", 53, 5353, "UDP"))
MAC_A, MAC_B = "02:00:00:00:00:0a", "02:00:00:00:00:0b"


def settings(node: str = "a") -> FarmSettings:
    return FarmSettings(
        module="shop/front",
        nodes=("a", "b"),
        node=node,
        addresses=(VirtualIP("10.0.0.9", ports=PORTS), VirtualIP("fd00::9", ports=PORTS)),
        detection_timeout=T,
        lan_links=("lan",),
    )


def own(application: Application = Application.READY, **more: Any) -> Own:
    return Own(application, **{"holding": True, **more})


def message(phase: Phase = Phase.UP, **more: Any) -> FarmMessage:
    return FarmMessage(phase, **{"hears_ms": 20.0, **more})


def peer(said: FarmMessage, age: float = 0.01, lan_age: float | None = None) -> Peer:
    return Peer(said, NOW - age, NOW - (age if lan_age is None else lan_age))


def plan(**more: Any) -> Plan:
    services = tuple(
        Service(ip_address(address), protocol, port, target)
        for address in ("10.0.0.9", "fd00::9")
        for protocol, port, target in ((6, 80, 8080), (17, 53, 5353))
    )
    values: dict[str, Any] = {
        "table": "twinhull_farm_x",
        "uplinks": (Uplink("eth0", MAC_A, "10.0.0.1", "fd00::1", MAC_B),),
        "services": services,
        "own_range": range(32768),
        "by_port": False,
        "seed": 7,
        "pods": ("10.244.0.5", "fd44::5"),
    }
    return Plan(**{**values, **more})
