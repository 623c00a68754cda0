"""Metrics of the operator itself: how long it takes, what it asks of the API server."""

from __future__ import annotations

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
"""Of this process. The modules' collector is added by whoever serves them."""
ProcessCollector(registry=REGISTRY)

RECONCILE: Final = Histogram(
    "twinhull_operator_reconcile_duration_seconds",
    "Seconds that one reconciliation of a module took, by kind of module and result.",
    ("kind", "result"),
    buckets=(0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
    registry=REGISTRY,
)
REQUESTS: Final = Counter(
    "twinhull_operator_api_requests",
    "Requests to the API server by method and HTTP status (0: no answer).",
    ("method", "status"),
    registry=REGISTRY,
)
STATUS_WRITES: Final = Counter(
    "twinhull_operator_status_writes",
    "Changes of a module's status that were written to its resource.",
    ("kind",),
    registry=REGISTRY,
)
LEADER: Final = Gauge(
    "twinhull_operator_leader",
    "1 while this operator acts; of two replicas the other one looks, serves its console, and shows no modules here.",
    registry=REGISTRY,
)
LEADER.set(1)
OWN_METRICS: Final = (RECONCILE, REQUESTS, STATUS_WRITES, LEADER)
