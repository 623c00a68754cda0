"""The status message, built from what the loop knows. Pure."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.checkers import CheckState
from twinhull_sidecar.config import ConfigError, ModuleConfig, digest
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.orders import OrderState
from twinhull_sidecar.control.timeline import Timeline
from twinhull_sidecar.control.verification import Verification
from twinhull_sidecar.role.model import Decision, LinkView, Observation, Role
from twinhull_sidecar.vip import AddressState

_FIGURE = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Problem:
    """Bad input or a refusal: what is wrong and what mends it."""

    field: str
    message: str
    mend: str

    @classmethod
    def of(cls, error: ConfigError) -> Problem:
        """The same as a value."""
        return cls(error.field, error.message, error.mend)


@dataclass(frozen=True)
class Snapshot:
    """Everything that a status shows of a running loop."""

    config: ModuleConfig
    node: str
    incarnation: str
    observation: Observation
    decision: Decision
    engine: Mapping[str, Any]
    ready: bool
    virtual_ips: tuple[AddressState, ...]
    events: EventLog
    last_order: OrderState | None
    checks: tuple[CheckState, ...]
    timeline: Timeline | None
    problems: tuple[Problem, ...]
    verification: Verification | None = None


def refused(node: str, config: ModuleConfig | None, events: EventLog, problem: Problem) -> pb.Status:
    """The status of a sidecar that waits because it was given something wrong."""
    status = pb.Status(
        node=node,
        role=Role.WAITING,
        reason=f"refused: {problem.field}: {problem.message}; {problem.mend}",
        reason_code="Refused",
        problems=problem_list([problem]),
        events=event_list(events),
        application=pb.Application(phase="Held"),
    )
    if config is not None:
        status.module, status.uid, status.config_hash = config.module, config.uid, digest(config)
        status.peer.node = config.peer_of(node) if node in config.nodes else ""
    return status


def build(shot: Snapshot) -> pb.Status:
    """The status of a running loop."""
    seen, decision = shot.observation, shot.decision
    counters = shot.engine.get("counters", {})
    status = pb.Status(
        module=shot.config.module,
        uid=shot.config.uid,
        node=shot.node,
        role=decision.role,
        reason=decision.reason,
        reason_code=decision.code,
        generation=seen.record.generation,
        in_sync=seen.engine.in_sync and (seen.engine.mode != "idle"),
        virtual_ips=[pb.VirtualIP(**asdict(vip)) for vip in shot.virtual_ips],
        application=pb.Application(
            phase=seen.workload.phase,
            restarts=len(decision.state.failures),
            ready=shot.ready,
            detail=seen.workload.detail,
        ),
        peer=peer(
            shot.config,
            shot.node,
            seen.links,
            heard_at=seen.heard_at,
            role=seen.peer.message.role if seen.peer is not None else "",
            now=seen.now,
        ),
        events=event_list(shot.events),
        problems=problem_list(shot.problems),
        config_hash=digest(shot.config),
        replicated_bytes=counters.get("bytes", 0),
        replicated_operations=max(shot.engine.get("acked", 0), shot.engine.get("applied", 0)),
        incarnation=shot.incarnation,
        failover_held=decision.state.persisted.held,
    )
    if (latency := counters.get("latency")) is not None and seen.engine.mode == "primary":
        status.replication_latency.counts.extend(latency["counts"])
        status.replication_latency.sum_microseconds = latency["sum_us"]
    if (progress := shot.engine.get("progress")) is not None:
        # What is None is left out: it cannot be told yet.
        shown = {field.name: progress.get(field.name) for field in pb.SyncProgress.DESCRIPTOR.fields}
        status.sync.CopyFrom(pb.SyncProgress(**shown))
    if shot.verification is not None:
        status.verification.CopyFrom(verification(shot.verification))
    if shot.last_order is not None:
        status.last_order.CopyFrom(last_order(shot.last_order))
    status.checkers.extend(
        pb.Checker(name=one.name, passing=one.passing, detail=one.detail) for one in shot.checks
    )
    if shot.timeline is not None:
        status.last_failover.CopyFrom(pb.Timeline(**asdict(shot.timeline)))
    return status


def problems(config: ModuleConfig, seen: Observation, decision: Decision) -> list[Problem]:
    """What the running loop complains about."""
    found = []
    if seen.engine.error:
        found.append(Problem("storage", seen.engine.error, "see this node's disk and its kernel log"))
    if seen.engine.dropped:
        mend = "see the other node's disk; it resynchronises by itself afterwards"
        found.append(Problem("peer storage", seen.engine.dropped, mend))
    taken = [ipaddress.ip_address(address) for address in decision.state.trouble_taken]
    for number, virtual in enumerate(config.virtual_ips):
        if ipaddress.ip_address(virtual.address) in taken:
            message = f"another station on the LAN has {virtual.address}"
            mend = "remove it there, or give the module another; it is tried again"
            found.append(Problem(f"virtual_ips[{number}].address", message, mend))
    for complaint in seen.complaints:
        number = next(n for n, one in enumerate(config.checkers) if one.name == complaint.checker)
        mend = f"mend it on {decision.state.settings.node}; action {complaint.action}"
        found.append(Problem(f"checkers[{number}]", f"{complaint.checker} fails: {complaint.detail}", mend))
    if decision.state.trouble and not taken:
        found.append(Problem("effect", decision.state.trouble, "it is tried again"))
    return found


def fencing_problems(decision: Decision, watchdog: str, controller: str) -> list[Problem]:
    """What could not be given up, a watchdog that does not watch, a controller that would not power the peer off."""
    found = []
    if decision.stuck:
        found.append(
            Problem("node", decision.stuck, "end what holds it, or reset the node before the other serves")
        )
    if watchdog:
        found.append(Problem("watchdog", watchdog, "name a device that no other program has open"))
    if controller:
        mend = "see the controller, the way to it and its Secret: without it this node does not go on alone"
        found.append(Problem("fencing", f"the peer could not be powered off: {controller}", mend))
    return found


def wording(sentence: str) -> str:
    """A sentence without its figures: "silent for 1.2 s" and "silent for 1.3 s" say the same."""
    return _FIGURE.sub("#", sentence)


def essence(shot: Snapshot) -> tuple[object, ...]:
    """What a watcher wants to hear of at once: all but counters and ages. Cheap to make and to compare."""
    seen, timeout = shot.observation, shot.config.detection_timeout
    return (
        (shot.decision.role, shot.decision.code, wording(shot.decision.reason)),
        seen.record,
        (seen.engine.mode, seen.engine.in_sync, seen.engine.syncing),
        seen.workload,
        shot.ready,
        shot.decision.state.persisted.held,
        shot.virtual_ips,
        shot.last_order,
        shot.timeline,
        shot.verification and replace(shot.verification, files=0, bytes=0),
        shot.problems,
        tuple(one.passing for one in shot.checks),
        shot.events.newest,
        seen.peer and seen.peer.message.role,
        tuple((view.mine, view.holder, view.generation, view.detail) for view in seen.witnesses),
        tuple(link.heard_at is not None and seen.now - link.heard_at < timeout for link in seen.links),
    )


def peer(
    config: ModuleConfig,
    node: str,
    seen: Iterable[LinkView],
    *,
    heard_at: float | None,
    role: str,
    now: float,
) -> pb.Peer:
    """The other node as this one hears it."""
    timeout = config.detection_timeout
    silent = 0.0 if heard_at is None else now - heard_at
    links = []
    for link in seen:
        age = None if link.heard_at is None else now - link.heard_at
        up = age is not None and age < timeout
        silence = round(age or 0.0, 1)
        links.append(
            pb.Link(name=link.name, up=up, silent_seconds=silence, heartbeats=link.accepted, lost=link.lost)
        )
    return pb.Peer(
        node=config.peer_of(node),
        heard=heard_at is not None and silent < timeout,
        silent_seconds=round(silent, 1),
        role=role,
        links=links,
    )


def verification(known: Verification) -> pb.Verification:
    """As the message has it."""
    return pb.Verification(
        running=known.running,
        repair=known.repair,
        begun=known.begun,
        ended=known.ended or 0.0,
        files=known.files,
        bytes=known.bytes,
        found=known.found,
        repaired=known.repaired,
        stopped=known.stopped,
        resync=known.resync,
        differences=[pb.Difference(**asdict(one)) for one in known.differences],
    )


def last_order(known: OrderState) -> pb.LastOrder:
    """As the message has it."""
    order = known.order
    return pb.LastOrder(id=order.id, action=order.action, state=known.state, message=known.message)


def problem_list(problems: Iterable[Problem]) -> list[pb.Problem]:
    """As the message has them."""
    return [pb.Problem(field=item.field, message=item.message, mend=item.mend) for item in problems]


def event_list(events: EventLog) -> list[pb.Event]:
    """As the message has them."""
    return [
        pb.Event(time=event.time, type=event.type, code=event.code, message=event.message) for event in events
    ]
