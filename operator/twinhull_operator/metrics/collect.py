"""Samples of all modules, made anew at each scrape: what is gone is not shown any more. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric as Family
from prometheus_client.registry import Collector

from twinhull_operator.constants import FARM
from twinhull_operator.metrics import definitions as d
from twinhull_operator.metrics.view import ModuleView, failover_cause
from twinhull_operator.report import SERVING, find_verification
from twinhull_operator.times import unix_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb

MIRROR_ROLES: Final = ("Stopped", "Waiting", "Syncing", "Secondary", "Primary", "Alone")
FARM_ROLES: Final = ("Stopped", "Waiting", "Up", "Draining")
CONDITION_STATES: Final = ("true", "false", "unknown")
STEPS: Final = (
    *("lease_over", "vip_probed", "detected", "recorded", "promoted", "vip_announced"),
    *("application_started", "application_ready", "first_write"),
)


class Spread(NamedTuple):
    """The value of a histogram: how many there are in each class, and their sum."""

    counts: Sequence[int]
    sum: float


Sample = tuple[d.Metric, tuple[str, ...], float | Spread]


class ModulesCollector(Collector):
    """For a registry: the samples of whatever modules ``views`` returns at the time."""

    def __init__(self, views: Callable[[], Sequence[ModuleView]]) -> None:
        self._views = views

    def describe(self) -> Iterator[Family]:
        """The families without samples; asked when the collector is registered."""
        yield from families(())

    def collect(self) -> Iterator[Family]:
        """All families, those without samples too: a panel finds its metric before the first module comes."""
        yield from families(sample for view in self._views() for sample in samples(view))


def families(found: Iterable[Sample]) -> Iterator[Family]:
    """The samples sorted into their families."""
    kinds = {"counter": CounterMetricFamily, "gauge": GaugeMetricFamily, "histogram": HistogramMetricFamily}
    made = {m.name: kinds[m.type](m.name, m.help, labels=m.labels) for m in d.METRICS}
    for metric, labels, value in found:
        family = made[metric.name]
        if isinstance(value, Spread):
            bounds = (*(f"{bound:g}" for bound in d.LATENCY_BOUNDS), "+Inf")
            family.add_metric(labels, list(zip(bounds, accumulate(value.counts), strict=True)), value.sum)
        else:
            family.add_metric(labels, value)
    yield from made.values()


def samples(view: ModuleView) -> Iterator[Sample]:
    """Everything about one module. Of a node that does not answer there is only that."""
    own = (view.module.namespace, view.module.name)
    yield d.INFO, (*own, view.module.kind), 1
    for condition in view.status.get("conditions") or ():
        for state in CONDITION_STATES:
            yield d.CONDITION, (*own, condition["type"], state), condition["status"].lower() == state
    yield d.SPLIT_BRAIN, own, _split_brain(view)
    yield d.PROBLEMS, own, len(view.status.get("problems") or ())
    yield from _verification(own, view)
    for (node, cause), count in sorted(view.failovers.items()):
        yield d.FAILOVERS, (*own, node, cause), count
    for holder, end in sorted(view.certificates.items()):
        yield d.CERTIFICATE_EXPIRY, (*own, holder), end
    for report in view.reports:
        labels = (*own, report.node)
        yield d.REACHABLE, labels, report.reachable
        if report.current is not None:
            yield from _node(labels, report.current, farm=view.module.kind == FARM)


def _verification(own: tuple[str, ...], view: ModuleView) -> Iterator[Sample]:
    if ended := view.status.get("lastVerifyTime"):
        yield d.VERIFY_TIME, own, unix_seconds(ended)
    known = find_verification(view.reports)
    if known is None:
        return
    yield d.VERIFY_RUNNING, own, known.running
    yield d.VERIFY_FILES, own, known.files
    yield d.VERIFY_BYTES, own, known.bytes
    yield d.VERIFY_DIFFERENCES, own, known.found
    yield d.VERIFY_REPAIRED, own, known.repaired
    yield d.VERIFY_INCOMPLETE, own, bool(known.stopped)


def _split_brain(view: ModuleView) -> bool:
    found = [report.current for report in view.reports if report.current is not None]
    serving = sum(status.role in SERVING for status in found)
    return serving > 1 or any(status.reason_code == "SplitBrain" for status in found)


def _node(labels: tuple[str, ...], status: pb.Status, *, farm: bool) -> Iterator[Sample]:
    for role in FARM_ROLES if farm else MIRROR_ROLES:
        yield d.ROLE, (*labels, role), status.role == role
    yield d.APPLICATION_READY, labels, status.application.ready
    yield d.APPLICATION_RESTARTS, labels, status.application.restarts
    for vip in status.virtual_ips:
        yield d.VIP_HELD, (*labels, vip.address), vip.held
    yield d.PEER_HEARD, labels, status.peer.heard
    for link in status.peer.links:
        yield d.LINK_UP, (*labels, link.name), link.up
        yield d.LINK_HEARTBEATS, (*labels, link.name), link.heartbeats
        yield d.LINK_LOST, (*labels, link.name), link.lost
        # 0.0 of a link that is down: nothing was heard on it yet, so there is no such time.
        if link.up or link.silent_seconds:
            yield d.LINK_SILENCE, (*labels, link.name), link.silent_seconds
    yield from _failover(labels, status.last_failover)
    yield from _farm(labels, status.farm) if farm else _mirror(labels, status)


def _mirror(labels: tuple[str, ...], status: pb.Status) -> Iterator[Sample]:
    yield d.IN_SYNC, labels, status.in_sync
    yield d.FAILOVER_HELD, labels, status.failover_held
    yield d.REPLICATED_BYTES, labels, status.replicated_bytes
    yield d.REPLICATED_OPERATIONS, labels, status.replicated_operations
    for witness in status.witnesses:
        yield d.WITNESS_ANSWERS, (*labels, witness.name), witness.answers
        if witness.deciding:
            yield d.VOTE_HELD, (*labels, witness.name), witness.mine
    for checker in status.checkers:
        yield d.CHECKER_PASSING, (*labels, checker.name), checker.passing
    latency = status.replication_latency
    # Another release's classes would be counted in the wrong ones.
    if len(latency.counts) == len(d.LATENCY_BOUNDS) + 1:
        yield d.REPLICATION_LATENCY, labels, Spread(latency.counts, latency.sum_microseconds / 1e6)
    if status.HasField("sync"):
        sync = status.sync
        yield d.RESYNC_DONE, labels, sync.bytes_done
        yield d.RESYNC_FILES_DONE, labels, sync.files_done
        if sync.bytes_total or sync.files_total:
            yield d.RESYNC_SIZE, labels, sync.bytes_total
            yield d.RESYNC_FILES, labels, sync.files_total
        if sync.HasField("seconds_left"):
            yield d.RESYNC_LEFT, labels, sync.seconds_left


def _farm(labels: tuple[str, ...], farm: pb.Farm) -> Iterator[Sample]:
    yield d.SHARE, labels, farm.share
    yield d.CONNECTIONS, labels, farm.connections
    yield d.ANNOUNCING, labels, farm.announcing
    yield d.DRAINING, labels, farm.draining
    for checker in farm.checkers:
        yield d.CHECKER, (*labels, checker.name), checker.passing


def _failover(labels: tuple[str, ...], timeline: pb.Timeline) -> Iterator[Sample]:
    if not timeline.promoted:
        return
    yield d.FAILOVER_TIME, (*labels, failover_cause(timeline)), timeline.detected
    start = timeline.peer_lost or timeline.detected
    for step in STEPS:
        if moment := getattr(timeline, step):
            yield d.FAILOVER_STEP, (*labels, step), max(0.0, round(moment - start, 3))
