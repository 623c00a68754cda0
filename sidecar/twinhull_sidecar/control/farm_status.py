"""A farm node's status message, built from what its loop knows. Pure."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.checkers import CheckState
from twinhull_sidecar.config import ModuleConfig, digest
from twinhull_sidecar.control import status
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.farm_role import FarmRole, Standing
from twinhull_sidecar.control.orders import OrderState
from twinhull_sidecar.control.status import Problem
from twinhull_sidecar.control.timeline import Timeline
from twinhull_sidecar.role.model import LinkView
from twinhull_sidecar.vip import AddressState
from twinhull_sidecar.workload import WorkloadState


@dataclass(frozen=True)
class FarmShot:
    """Everything that a farm's status shows. ``share``: 0 to 1; ``heard_at``, ``now``: CLOCK_BOOTTIME."""

    config: ModuleConfig
    node: str
    incarnation: str
    standing: Standing
    share: float
    announcing: bool
    connections: int
    draining: bool
    checks: tuple[CheckState, ...]
    workload: WorkloadState
    restarts: int
    ready: bool
    virtual_ips: tuple[AddressState, ...]
    links: tuple[LinkView, ...]
    heard_at: float | None
    peer_role: str
    now: float
    events: EventLog
    last_order: OrderState | None
    timeline: Timeline | None
    problems: tuple[Problem, ...]


def starting(config: ModuleConfig, node: str) -> pb.Status:
    """The status before the first turn."""
    return pb.Status(
        module=config.module,
        uid=config.uid,
        node=node,
        role=FarmRole.WAITING,
        reason="starts",
        reason_code="Starting",
        config_hash=digest(config),
        farm=pb.Farm(),
    )


def build(shot: FarmShot) -> pb.Status:
    """The status of a running loop."""
    checkers = [pb.Checker(name=one.name, passing=one.passing, detail=one.detail) for one in shot.checks]
    found = pb.Status(
        module=shot.config.module,
        uid=shot.config.uid,
        node=shot.node,
        role=shot.standing.role,
        reason=shot.standing.reason,
        reason_code=shot.standing.code,
        virtual_ips=[pb.VirtualIP(**asdict(vip)) for vip in shot.virtual_ips],
        application=pb.Application(
            phase=shot.workload.phase,
            restarts=shot.restarts,
            ready=shot.ready,
            detail=shot.workload.exit,
        ),
        peer=status.peer(
            shot.config, shot.node, shot.links, heard_at=shot.heard_at, role=shot.peer_role, now=shot.now
        ),
        events=status.event_list(shot.events),
        problems=status.problem_list(shot.problems),
        config_hash=digest(shot.config),
        incarnation=shot.incarnation,
        farm=pb.Farm(
            share=shot.share,
            announcing=shot.announcing,
            connections=shot.connections,
            draining=shot.draining,
            checkers=checkers,
        ),
    )
    if shot.last_order is not None:
        found.last_order.CopyFrom(status.last_order(shot.last_order))
    if shot.timeline is not None:
        found.last_failover.CopyFrom(pb.Timeline(**asdict(shot.timeline)))
    return found


def essence(shot: FarmShot) -> tuple[object, ...]:
    """What a watcher wants to hear of at once: all but counters and ages."""
    timeout = shot.config.detection_timeout
    standing = shot.standing
    return (
        (standing.role, standing.code, status.wording(standing.reason)),
        (shot.share, shot.announcing, shot.draining, shot.ready),
        tuple((one.name, one.passing) for one in shot.checks),
        (shot.workload, shot.restarts),
        shot.virtual_ips,
        shot.last_order,
        shot.timeline,
        shot.problems,
        shot.events.newest,
        shot.peer_role,
        tuple(link.heard_at is not None and shot.now - link.heard_at < timeout for link in shot.links),
    )
