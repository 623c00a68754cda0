"""What the parts report, as values of the role decision. Pure: reports in, views out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from twinhull_sidecar.config import MAX_DETECTION_TIMEOUT, MIN_DETECTION_TIMEOUT, ModuleConfig
from twinhull_sidecar.role.model import (
    EngineView,
    PeerMessage,
    Phase,
    Record,
    Settings,
    WorkloadView,
)
from twinhull_sidecar.vip.holder import kernel_lifetime
from twinhull_sidecar.workload.adapter import Phase as WorkloadPhase
from twinhull_sidecar.workload.adapter import WorkloadState
from twinhull_sidecar.workload.gated import KILL_MARGIN

#: What the engine writes before the first synchronisation has ended (``record.rs``).
NO_GENERATION = "0" * 32


def settings(config: ModuleConfig, node: str) -> Settings:
    """The part of the configuration that the decision needs."""
    application = config.application
    on_exit = next((one for one in config.checkers if one.kind == "process"), None)
    return Settings(
        node=node,
        peer=config.peer_of(node),
        nodes=config.nodes,
        uid=config.uid,
        detection_timeout=config.detection_timeout,
        without_witness=config.without_witness,
        startup_timeout=config.startup_timeout or 0.0,
        failover=config.failover,
        votes=sum(witness.deciding for witness in config.witnesses),
        fencing=bool(config.fencing),
        tests=sum(not witness.deciding for witness in config.witnesses),
        preferred_node=config.preferred_node,
        adopt_from=config.adopt_from,
        has_vip=bool(config.virtual_ips),
        has_application=bool(application.containers or application.argv),
        failback=config.failback,
        failback_after=config.failback_after,
        stop_grace=application.stop_grace,
        max_restarts=application.max_restarts,
        restart_window=application.restart_window,
        on_exit=on_exit.action if on_exit is not None else "Restart",
        exit_threshold=on_exit.threshold if on_exit is not None else 1,
        longest_lease=longest_lease(config),
    )


def longest_lease(config: ModuleConfig) -> float:
    """The longest of this node's leases: the engine's, the application's with the time to kill, the addresses'."""
    lease = config.detection_timeout / 2
    leases = [lease]
    if config.application.containers or config.application.argv:
        leases.append(lease + KILL_MARGIN)
    if config.virtual_ips:
        leases.append(kernel_lifetime(lease, config.detection_timeout))
    return max(leases)


def record_view(record: Mapping[str, Any]) -> Record:
    """The engine's generation record.

    A node whose first synchronisation has begun but not ended is as good as new: what files it has are an
    unfinished copy, and its empty generation must not look like data of its own.
    """
    unfinished = record["generation"] == NO_GENERATION
    return Record(
        fresh=record["fresh"] or unfinished,
        has_data=record["has_data"] and not unfinished,
        generation="" if unfinished else record["generation"] or "",
        history=tuple(record["history"]),
        alone=record["alone"],
        consistent=record["consistent"],
        last_role=record["last_role"],
        token=record["token"],
    )


def engine_view(status: Mapping[str, Any], now: float) -> EngineView:
    """The engine's status; ages become times of CLOCK_BOOTTIME."""
    return EngineView(
        mode=status["mode"],
        connected=status["connected"],
        in_sync=status["in_sync"],
        syncing=status["syncing"],
        alone=status["alone"],
        stream=status["stream"],
        heard_at=_moment(status.get("heard_ms"), now),
        disconnected_at=_moment(status["disconnected_ms"], now),
        closed_by_peer=bool(status.get("closed_by_peer")),
        error=status["error"],
        dropped=status["dropped"],
        verifying=bool((status.get("verify") or {}).get("running")),
        recorded_at=_at(status.get("recorded_ns")),
        first_change_at=_at(status.get("first_change_ns")),
    )


def _at(boottime_ns: int | None) -> float | None:
    return boottime_ns / 1e9 if boottime_ns else None


def _moment(age_ms: float | None, now: float) -> float | None:
    return None if age_ms is None else now - age_ms / 1000


def workload_view(state: WorkloadState) -> WorkloadView:
    """The application's state.

    An application that someone else ends (kubelet stops the containers of a deleted pod before the sidecar,
    and a container whose liveness probe failed) has not failed: it stops, and is started again if its gate
    comes back without this sidecar having been told to end, too.
    """
    phase = Phase(state.phase.value)
    if state.terminating and state.phase is not WorkloadPhase.HELD:
        phase = Phase.STOPPING
    return WorkloadView(phase=phase, epoch=state.epoch, detail=state.exit)


def peer_message(payload: Mapping[str, Any]) -> PeerMessage:
    """Read a heartbeat's payload; a newer release's fields are ignored.

    Raises ValueError on a wrong type or a duration that no configuration gives.
    """
    known: dict[str, Any] = {}
    for item in fields(PeerMessage):
        if item.name not in payload:
            continue
        value = payload[item.name]
        if item.name == "history":
            if not isinstance(value, list | tuple) or not all(isinstance(entry, str) for entry in value):
                raise ValueError("history is not a list of strings")
            value = tuple(value)
        elif not isinstance(value, _TYPES[str(item.type)]) or (
            isinstance(value, bool) and item.type != "bool"
        ):
            raise ValueError(f"{item.name} is {value!r}")
        if item.name in _RANGES and value is not None:
            low, high = _RANGES[item.name]
            if not low <= value <= high:
                raise ValueError(f"{item.name} is {value!r}, not from {low:g} to {high:g}")
        known[item.name] = value
    if "node" not in known or "uid" not in known:
        raise ValueError("node and uid are missing")
    return PeerMessage(**known)


#: Of what the receiver waits for; a lease is at least half a detection timeout. NaN is in no range.
_RANGES: Mapping[str, tuple[float, float]] = {
    "detection_timeout": (MIN_DETECTION_TIMEOUT, MAX_DETECTION_TIMEOUT),
    "lease": (MIN_DETECTION_TIMEOUT / 2, MAX_DETECTION_TIMEOUT),
}
_NONE = type(None)
_TYPES: Mapping[str, tuple[type, ...]] = {
    "str": (str,),
    "bool": (bool,),
    "int": (int,),
    "str | None": (str, _NONE),
    "float | None": (int, float, _NONE),
}
