"""Builds the parts of one module's sidecar from its configuration, and takes them apart again."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from twinhull_sidecar.checkers.watching import Target, Watches
from twinhull_sidecar.config import ConfigError, ModuleConfig
from twinhull_sidecar.config_checker import asked_by_sidecar
from twinhull_sidecar.control import observe
from twinhull_sidecar.control.clock import boottime
from twinhull_sidecar.control.engine import (
    MOUNTS,
    QUARANTINE,
    STATE,
    VOLUMES,
    Engine,
    EngineRunner,
    engine_config,
)
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.executor import Executor
from twinhull_sidecar.control.farm_assembly import assembled_farm, first_address
from twinhull_sidecar.control.loop import ControlLoop, Parts
from twinhull_sidecar.control.orders import OrderDesk
from twinhull_sidecar.control.peer_orders import PeerOrders
from twinhull_sidecar.control.persisted import Store
from twinhull_sidecar.control.surroundings import ModuleLoop, Surroundings
from twinhull_sidecar.fencing.peer import PeerFence
from twinhull_sidecar.fencing.watchdog import Watchdog, timeout_for
from twinhull_sidecar.heartbeat import Heartbeat, ReceivedMessage
from twinhull_sidecar.role.decide import begin
from twinhull_sidecar.vip import VipHolder
from twinhull_sidecar.witness.watch import Witnesses
from twinhull_sidecar.workload import build_workload

log = logging.getLogger(__name__)

CLOSE_TIMEOUT = 10.0
#: A station of a LAN answers within milliseconds; three probes fit in this many seconds.
LONGEST_PROBE = 0.6


def make_engine(document: str) -> Engine:
    """The real replication engine."""
    from twinhull_sidecar._mirrorfs import Engine as Mirrorfs  # noqa: PLC0415

    return Mirrorfs(document)


def make_directories(base: Path) -> None:
    """The module's directories; only root enters the backing directories. Raises OSError."""
    base.mkdir(parents=True, exist_ok=True)
    for name, mode in ((STATE, 0o700), (VOLUMES, 0o700), (QUARANTINE, 0o700), (MOUNTS, 0o755)):
        directory = base / name
        directory.mkdir(exist_ok=True)
        directory.chmod(mode)


def foreign_data(config: ModuleConfig, owner: str) -> ConfigError:
    """The refusal of data that the module with the UID ``owner`` has left behind."""
    message = f"the data on this node belong to a module with UID {owner}, this one has {config.uid}"
    if config.adopt_uid is not None:
        message += f" and adopts {config.adopt_uid}"
    mend = (
        f'write "adoptUID: {owner}" under spec to take them over, '
        "or create the module under another name to leave them"
    )
    return ConfigError("adopt_uid", message, mend)


def _watches_of(config: ModuleConfig, around: Surroundings, wake: Callable[[], None]) -> Watches:
    """The module's checkers, those of the node's surroundings begun."""
    target = Target(first_address(around.pod_ip), config.application)
    watches = Watches(asked_by_sidecar(config), target.check, wake)
    watches.start()
    return watches


def _fence_of(config: ModuleConfig, node: str, wake: Callable[[], None]) -> PeerFence | None:
    """The means to power the peer off, already looking at its controller."""
    for bmc in config.fencing:
        if bmc.node != node:
            fence = PeerFence(bmc, boottime, wake)
            fence.start()
            return fence
    return None


def _watchdog_of(config: ModuleConfig, stack: AsyncExitStack) -> Watchdog | None:
    """The watchdog; stopped in order when everything else was given back without an error, else left running."""
    if config.watchdog is None:
        return None
    watchdog = Watchdog(Path(config.watchdog), timeout_for(config.detection_timeout))

    def end(kind: object, *_: object) -> None:
        if kind is None:
            watchdog.close()
        else:
            watchdog.abandon()

    stack.push(end)
    return watchdog


@asynccontextmanager
async def assembled(
    config: ModuleConfig,
    around: Surroundings,
    events: EventLog,
    on_change: Callable[[], None],
    engine: Callable[[str], Engine] = make_engine,
) -> AsyncIterator[ModuleLoop]:
    """The control loop of this kind of module with all its parts; see :func:`assembled_mirror`."""
    if config.kind == "FarmModule":
        async with assembled_farm(config, around, events, on_change) as farm:
            yield farm
    else:
        async with assembled_mirror(config, around, events, on_change, engine) as mirror:
            yield mirror


@asynccontextmanager
async def assembled_mirror(
    config: ModuleConfig,
    around: Surroundings,
    events: EventLog,
    on_change: Callable[[], None],
    engine: Callable[[str], Engine],
) -> AsyncIterator[ControlLoop]:
    """A control loop with all its parts, ready to run; at the end everything is given back.

    Raises ConfigError, OSError or MirrorfsError when a part refuses.
    """
    loop: ControlLoop | None = None

    def wake() -> None:
        if loop is not None:
            loop.wake()

    def heard(received: ReceivedMessage) -> None:
        if loop is not None:
            loop.heard(received)

    node = around.node
    base = Path(config.base_dir)
    async with AsyncExitStack() as stack:
        await asyncio.to_thread(make_directories, base)
        store = Store(base / STATE)
        persisted = await asyncio.to_thread(store.load)
        document = engine_config(config, node, around.identity.key)
        try:
            runner = await EngineRunner.open(lambda: engine(document), wake)
        except Exception as error:
            if (owner := getattr(error, "foreign_module", None)) is not None:
                raise foreign_data(config, owner) from error
            raise
        stack.push_async_callback(runner.close)
        if (adopted := runner.record.get("adopted")) is not None:
            message = (
                f"the data of the deleted module with UID {adopted} on {node} are this module's from now on"
            )
            events.add("Normal", "DataAdopted", message)
        vip = VipHolder(config, node, around.pod_ip, config.detection_timeout / 2)
        stack.push_async_callback(vip.close)
        workload = build_workload(
            config.application,
            gate_dir=around.gate_dir,
            gate_binary=around.gate_binary,
            cri_socket=around.cri_socket,
            on_change=wake,
        )
        await workload.open()
        stack.push_async_callback(workload.close)
        orders = OrderDesk(events, wake)
        peer_orders = PeerOrders(config, node, around.identity_now, orders.answer)
        stack.push_async_callback(peer_orders.close)
        witnesses = Witnesses(config, node, wake, boottime)
        witnesses.start()
        stack.push_async_callback(witnesses.close)
        fence = _fence_of(config, node, wake)
        if fence is not None:
            stack.push_async_callback(fence.close)
        watches = _watches_of(config, around, wake)
        stack.push_async_callback(watches.close)
        executor = Executor(
            engine=runner,
            workload=workload,
            vip=vip,
            store=store,
            witnesses=witnesses,
            fence=fence,
            now=boottime,
            lease=config.detection_timeout / 2,
            probe_timeout=min(config.detection_timeout / 5, LONGEST_PROBE),
            on_end=wake,
        )
        stack.push_async_callback(executor.settle, CLOSE_TIMEOUT)
        watchdog = _watchdog_of(config, stack)
        heartbeat = Heartbeat(config, node, around.identity.key, heard)
        loop = ControlLoop(
            Parts(
                config=config,
                node=node,
                engine=runner,
                heartbeat=heartbeat,
                vip=vip,
                workload=workload,
                executor=executor,
                orders=orders,
                peer_orders=peer_orders,
                watches=watches,
                events=events,
                watchdog=watchdog,
                state=begin(observe.settings(config, node), boottime(), persisted),
            ),
            on_change,
        )
        heartbeat.start()
        stack.callback(heartbeat.close)
        # Whatever ends the loop: first of all nothing is acknowledged any more (DESIGN.md R9).
        stack.callback(runner.engine.fence)
        yield loop
