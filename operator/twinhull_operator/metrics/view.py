"""What the metrics show of one module, and the count of its failovers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from twinhull_operator.module import Module, Object
from twinhull_operator.report import NodeReport
from twinhull_operator.status_module import Findings
from twinhull_operator.times import unix_seconds
from twinhull_sidecar.api import sidecar_pb2 as pb

_CODE = re.compile(r"[A-Z][A-Za-z]{1,40}")
_SAME = 0.01
"""Seconds: the resource keeps times in milliseconds."""


@dataclass(frozen=True)
class ModuleView:
    """``status`` is the resource's as last written; ``failovers`` are counted by node and cause.

    ``certificates``: when they end, in Unix seconds, by holder. ``findings``: what the operator itself found.
    """

    module: Module
    reports: Sequence[NodeReport]
    status: Object
    failovers: Mapping[tuple[str, str], int] = field(default_factory=dict)
    certificates: Mapping[str, float] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)


def failover_cause(timeline: pb.Timeline) -> str:
    """One stable word, never a sentence: a label."""
    for text in (timeline.code, timeline.cause):
        if _CODE.fullmatch(text):
            return text
    return "Other"


class FailoverCounter:
    """Counts each takeover once, by the time at which it was detected."""

    def __init__(self) -> None:
        self._known: dict[str, float] = {}
        self._since = 0.0
        self.counts: Counter[tuple[str, str]] = Counter()

    def begin(self, status: Object) -> None:
        """What an earlier operator wrote into the resource's status is counted no more."""
        last = status.get("lastFailover") or {}
        try:
            self._since = max(self._since, unix_seconds(last["detected"]))
        except (KeyError, ValueError):
            return

    def see(self, report: NodeReport) -> None:
        """Count a takeover that is new and has come to its end."""
        if report.current is None:
            return
        timeline = report.current.last_failover
        if not timeline.promoted or timeline.detected <= self._known.get(report.node, self._since) + _SAME:
            return
        self._known[report.node] = timeline.detected
        self.counts[report.node, failover_cause(timeline)] += 1
