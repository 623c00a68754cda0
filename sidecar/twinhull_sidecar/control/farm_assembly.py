"""Builds the parts of a farm's sidecar from its configuration, and takes them apart again."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from twinhull_sidecar.checkers import Checkers
from twinhull_sidecar.config import Farm, ModuleConfig
from twinhull_sidecar.control import farm_flows, farm_network
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.farm_driver import Driver
from twinhull_sidecar.control.farm_loop import FarmLoop
from twinhull_sidecar.control.farm_orders import FarmDesk
from twinhull_sidecar.control.farm_parts import FarmParts
from twinhull_sidecar.control.farm_persisted import FarmStore
from twinhull_sidecar.control.farm_watch import NetworkWatch
from twinhull_sidecar.control.farm_wishes import Wishes
from twinhull_sidecar.control.surroundings import Surroundings
from twinhull_sidecar.farm import FarmHolder
from twinhull_sidecar.heartbeat import Heartbeat, ReceivedMessage
from twinhull_sidecar.workload import build_workload

CLOSE_TIMEOUT = 10.0
STATE = "state"
#: Where the sidecar asks an application that runs on the node itself.
LOOPBACK = "127.0.0.1"


@asynccontextmanager
async def assembled_farm(
    config: ModuleConfig, around: Surroundings, events: EventLog, on_change: Callable[[], None]
) -> AsyncIterator[FarmLoop]:
    """A farm's loop with all its parts, ready to run; at the end everything is given back.

    Raises ConfigError or OSError when a part refuses.
    """
    loop: FarmLoop | None = None

    def wake() -> None:
        if loop is not None:
            loop.wake()

    def heard(received: ReceivedMessage) -> None:
        if loop is not None:
            loop.heard(received)

    def peer_macs() -> dict[str, str]:
        return {} if loop is None else loop.peer_macs()

    node, farm = around.node, config.farm or Farm()
    settings = farm_network.settings(config, node)
    addresses = [ipaddress.ip_address(one.address) for one in config.virtual_ips]
    state_dir = Path(config.base_dir) / STATE
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(make_directory, state_dir)
        store = FarmStore(state_dir, config.uid)
        wish = await asyncio.to_thread(store.load)
        workload = build_workload(
            config.application,
            gate_dir=around.gate_dir,
            gate_binary=around.gate_binary,
            cri_socket=around.cri_socket,
            on_change=wake,
        )
        await workload.open()
        stack.push_async_callback(workload.close)
        # Closed before the application is: nobody is sent to one that is being ended.
        driver = Driver(
            settings,
            lambda given: FarmHolder(given, around.pod_ip),
            boottime,
            wake,
            retry=settings.detection_timeout,
        )
        stack.push_async_callback(driver.close)
        heartbeat = Heartbeat(config, node, around.identity.key, heard)
        desk = FarmDesk(events, wake)
        wishes = Wishes(wish, store, desk, wake)
        stack.push_async_callback(wishes.settle, CLOSE_TIMEOUT)
        loop = FarmLoop(
            FarmParts(
                config=config,
                settings=settings,
                node=node,
                heartbeat=heartbeat,
                driver=driver,
                watch=NetworkWatch(
                    driver, settings, around.pod_ip, events, peer_macs=peer_macs, on_change=wake
                ),
                workload=workload,
                checkers=Checkers(farm.checkers, first_address(around.pod_ip), wake),
                desk=desk,
                wishes=wishes,
                events=events,
                count=lambda others: farm_flows.count(addresses, others),
            ),
            on_change,
        )
        heartbeat.start()
        stack.callback(heartbeat.close)
        yield loop


def make_directory(state_dir: Path) -> None:
    """The module's directory and its state's, which only root enters. Raises OSError."""
    state_dir.mkdir(parents=True, exist_ok=True)
    state_dir.chmod(0o700)


def first_address(pod_ip: str | None) -> str:
    """Where the checkers ask: the pod's first address, or this node itself."""
    return (pod_ip or "").split(",")[0].strip() or LOOPBACK
