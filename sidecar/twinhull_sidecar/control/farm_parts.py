"""What a farm's control loop and what it tells of itself work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from twinhull_sidecar.checkers import Checkers
from twinhull_sidecar.config import ModuleConfig
from twinhull_sidecar.control import farm_flows
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.farm_driver import Driver
from twinhull_sidecar.control.farm_orders import FarmDesk
from twinhull_sidecar.control.farm_watch import NetworkWatch
from twinhull_sidecar.control.farm_wishes import Wishes
from twinhull_sidecar.farm import FarmSettings
from twinhull_sidecar.heartbeat import Heartbeat
from twinhull_sidecar.workload import Workload


@dataclass
class FarmParts:
    """What the loop drives. ``count``: this node's flows, but for those that the given addresses answer."""

    config: ModuleConfig
    settings: FarmSettings
    node: str
    heartbeat: Heartbeat
    driver: Driver
    watch: NetworkWatch
    workload: Workload
    checkers: Checkers
    desk: FarmDesk
    wishes: Wishes
    events: EventLog
    count: Callable[[tuple[str, ...]], farm_flows.Flows]
