"""Every metric of a module: name, type, labels, help. docs/reference/metrics.md is made of this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

MODULE: Final = ("namespace", "module")
NODE: Final = (*MODULE, "node")


@dataclass(frozen=True)
class Metric:
    """``name`` as it is scraped; ``labels`` in the order of the values of its samples."""

    name: str
    type: Literal["gauge", "counter", "histogram"]
    help: str
    labels: tuple[str, ...] = NODE


INFO: Final = Metric("twinhull_module_info", "gauge", "1 for each module; its kind.", (*MODULE, "kind"))
CONDITION: Final = Metric(
    "twinhull_module_condition",
    "gauge",
    "1 for the status (true, false, unknown) that a condition of the module has now, 0 for the other two.",
    (*MODULE, "condition", "status"),
)
SPLIT_BRAIN: Final = Metric(
    "twinhull_module_split_brain",
    "gauge",
    "1 while both nodes serve, or while one waits because both have writes that the other has not.",
    MODULE,
)
PROBLEMS: Final = Metric(
    "twinhull_module_problems",
    "gauge",
    "Problems of the specification or of a node, as listed in the resource's status.",
    MODULE,
)
REACHABLE: Final = Metric(
    "twinhull_sidecar_reachable", "gauge", "1 while the node's sidecar answers the operator."
)
ROLE: Final = Metric(
    "twinhull_module_role",
    "gauge",
    "1 for the role that the node has now, 0 for the other roles of its kind of module.",
    (*NODE, "role"),
)
APPLICATION_READY: Final = Metric(
    "twinhull_module_application_ready", "gauge", "1 while the application runs on the node and is ready."
)
APPLICATION_RESTARTS: Final = Metric(
    "twinhull_module_application_restarts",
    "gauge",
    "Restarts of the application on the node within its restart window.",
)
VIP_HELD: Final = Metric(
    "twinhull_module_virtual_ip_held",
    "gauge",
    "1 while the node holds the virtual IP.",
    (*NODE, "address"),
)
PEER_HEARD: Final = Metric(
    "twinhull_module_peer_heard", "gauge", "1 while the node hears its peer on at least one link."
)
LINK_UP: Final = Metric(
    "twinhull_module_link_up",
    "gauge",
    "1 while the node hears its peer's heartbeats on the link.",
    (*NODE, "link"),
)
LINK_SILENCE: Final = Metric(
    "twinhull_module_link_silence_seconds",
    "gauge",
    "Seconds since the node heard its peer on the link, when it told the operator (at most 5 s ago).",
    (*NODE, "link"),
)
LINK_HEARTBEATS: Final = Metric(
    "twinhull_module_link_heartbeats_total",
    "counter",
    "Heartbeats of its peer that the node accepted on the link since its sidecar started; the peer sends at least "
    "ten in a detection timeout.",
    (*NODE, "link"),
)
LINK_LOST: Final = Metric(
    "twinhull_module_link_lost_heartbeats_total",
    "counter",
    "Heartbeats that the peer sent on the link and the node never received, or after a later one: gaps in their "
    "numbers, counted when the next one comes. Of a link that is down it stands still.",
    (*NODE, "link"),
)
IN_SYNC: Final = Metric(
    "twinhull_module_in_sync",
    "gauge",
    "1 while the node knows that both nodes hold every acknowledged write. Of a MirrorModule.",
)
REPLICATED_BYTES: Final = Metric(
    "twinhull_module_replicated_bytes_total",
    "counter",
    "Bytes that the node has put into the replication stream since it became primary.",
)
REPLICATED_OPERATIONS: Final = Metric(
    "twinhull_module_replicated_operations_total",
    "counter",
    "File operations that both nodes have, in the present replication stream.",
)
REPLICATION_LATENCY: Final = Metric(
    "twinhull_module_replication_latency_seconds",
    "histogram",
    "How long operations waited until the other node had applied them, since the node became primary.",
)
LATENCY_BOUNDS: Final = (
    *(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0),
)
"""Seconds; the engine's, see sidecar/mirrorfs/src/stream/primary/latency.rs."""
FAILOVER_HELD: Final = Metric(
    "twinhull_module_failover_held",
    "gauge",
    "1 while the node knows of an administrator's order that no node takes over unasked. Of a MirrorModule.",
)
RESYNC_DONE: Final = Metric(
    "twinhull_module_resync_done_bytes",
    "gauge",
    "Bytes compared or copied by the resynchronisation that runs; absent when none runs.",
)
RESYNC_SIZE: Final = Metric(
    "twinhull_module_resync_size_bytes",
    "gauge",
    "Bytes that the resynchronisation that runs has to compare; absent until they are counted.",
)
RESYNC_FILES_DONE: Final = Metric(
    "twinhull_module_resync_done_files", "gauge", "Files done by the resynchronisation that runs."
)
RESYNC_FILES: Final = Metric(
    "twinhull_module_resync_size_files",
    "gauge",
    "Files that the resynchronisation that runs has to do; absent until they are counted.",
)
RESYNC_LEFT: Final = Metric(
    "twinhull_module_resync_left_seconds",
    "gauge",
    "Time left of the resynchronisation that runs, at its mean speed until now; absent while that cannot be told.",
)
VERIFY_RUNNING: Final = Metric(
    "twinhull_module_verify_running", "gauge", "1 while both nodes' files are being compared.", MODULE
)
VERIFY_FILES: Final = Metric(
    "twinhull_module_verify_compared_files",
    "gauge",
    "Files compared by the comparison that runs, else by the last one that the serving node knows.",
    MODULE,
)
VERIFY_BYTES: Final = Metric(
    "twinhull_module_verify_compared_bytes", "gauge", "Bytes compared by the same comparison.", MODULE
)
VERIFY_DIFFERENCES: Final = Metric(
    "twinhull_module_verify_differences",
    "gauge",
    "Differences found by the same comparison, repaired or not.",
    MODULE,
)
VERIFY_REPAIRED: Final = Metric(
    "twinhull_module_verify_repaired_differences",
    "gauge",
    "Differences that the same comparison, or the resynchronisation that followed it, has repaired.",
    MODULE,
)
VERIFY_INCOMPLETE: Final = Metric(
    "twinhull_module_verify_incomplete",
    "gauge",
    "1 when the last comparison did not come to its end.",
    MODULE,
)
VERIFY_TIME: Final = Metric(
    "twinhull_module_last_verify_timestamp_seconds",
    "gauge",
    "When the newest comparison that came to its end ended, in Unix seconds; kept in the resource's status. "
    "Absent before the first.",
    MODULE,
)
FAILOVERS: Final = Metric(
    "twinhull_module_failovers_total",
    "counter",
    "Takeovers by a node that the operator saw since it started, switchovers and first starts included.",
    (*NODE, "cause"),
)
FAILOVER_TIME: Final = Metric(
    "twinhull_module_last_failover_timestamp_seconds",
    "gauge",
    "When the node last took over, in Unix seconds.",
    (*NODE, "cause"),
)
FAILOVER_STEP: Final = Metric(
    "twinhull_module_last_failover_step_seconds",
    "gauge",
    "Seconds from the peer's last sign of life (else from the decision) to a step of the node's last takeover.",
    (*NODE, "step"),
)
WITNESS_ANSWERS: Final = Metric(
    "twinhull_module_witness_answers",
    "gauge",
    "1 while the witness answers the node.",
    (*NODE, "witness"),
)
VOTE_HELD: Final = Metric(
    "twinhull_module_witness_vote_held",
    "gauge",
    "1 while the node has the vote of a Lease witness: it goes on, or may go on, without its peer.",
    (*NODE, "witness"),
)
CHECKER_PASSING: Final = Metric(
    "twinhull_module_checker_passing",
    "gauge",
    "1 while the mirror's checker has not failed as often in a row as its threshold says.",
    (*NODE, "checker"),
)
SHARE: Final = Metric(
    "twinhull_farm_share_ratio", "gauge", "Part of the clients that the node serves now, 0 to 1."
)
CONNECTIONS: Final = Metric(
    "twinhull_farm_connections", "gauge", "Connections through the virtual IPs that the node serves."
)
ANNOUNCING: Final = Metric(
    "twinhull_farm_announcing", "gauge", "1 while the node answers for the virtual IPs on the network."
)
DRAINING: Final = Metric("twinhull_farm_draining", "gauge", "1 while the node takes no new clients by order.")
CHECKER: Final = Metric(
    "twinhull_farm_checker_passing",
    "gauge",
    "1 while the checker of the node's application passes.",
    (*NODE, "checker"),
)
CERTIFICATE_EXPIRY: Final = Metric(
    "twinhull_certificate_expiry_timestamp_seconds",
    "gauge",
    "When a certificate of the module ends, in Unix seconds; holder: ca, operator or a node.",
    (*MODULE, "holder"),
)

METRICS: Final = (
    *(INFO, CONDITION, SPLIT_BRAIN, PROBLEMS, REACHABLE, ROLE, APPLICATION_READY, APPLICATION_RESTARTS),
    *(VIP_HELD, PEER_HEARD, LINK_UP, LINK_SILENCE, LINK_HEARTBEATS, LINK_LOST),
    *(IN_SYNC, FAILOVER_HELD, REPLICATED_BYTES, REPLICATED_OPERATIONS, REPLICATION_LATENCY),
    *(RESYNC_DONE, RESYNC_SIZE, RESYNC_FILES_DONE, RESYNC_FILES, RESYNC_LEFT),
    *(VERIFY_RUNNING, VERIFY_FILES, VERIFY_BYTES, VERIFY_DIFFERENCES, VERIFY_REPAIRED),
    *(VERIFY_INCOMPLETE, VERIFY_TIME),
    *(WITNESS_ANSWERS, VOTE_HELD, CHECKER_PASSING),
    *(FAILOVERS, FAILOVER_TIME, FAILOVER_STEP),
    *(SHARE, CONNECTIONS, ANNOUNCING, DRAINING, CHECKER),
    CERTIFICATE_EXPIRY,
)
