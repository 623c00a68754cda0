"""What is known of one node of a module, and which node serves. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from twinhull_operator.module import Module, Object
from twinhull_sidecar.api import sidecar_pb2 as pb

SERVING: Final = ("Primary", "Alone")
FOLLOWING: Final = ("Secondary", "Syncing")
UP: Final = "Up"
"""The role of a farm's node that takes new clients."""


@dataclass(frozen=True)
class NodeReport:
    """``status`` is the sidecar's last word to this operator; it holds now only while ``reachable``.

    ``unreachable_since`` is in Unix seconds.
    """

    node: str
    address: str = ""
    reachable: bool = False
    unreachable_since: float | None = None
    status: pb.Status | None = None

    @property
    def current(self) -> pb.Status | None:
        """The status if it holds now."""
        return self.status if self.reachable else None


@dataclass(frozen=True)
class Drain:
    """A node that the operator drained to replace its pod; ``since`` in Unix seconds."""

    node: str
    since: float


@dataclass(frozen=True)
class Facts:
    """What a status is made of. ``previous`` is the one so far, ``now`` in Unix seconds.

    ``pod_problems`` says why a node's pod does not run.
    """

    module: Module
    reports: Sequence[NodeReport]
    previous: Object
    now: float
    pod_problems: Mapping[str, str] = field(default_factory=dict)
    drained: Drain | None = None


@dataclass(frozen=True)
class Serving:
    """Which node serves. ``confirmed`` by itself or by its peer, else only the last that is known; ``rivals``
    are two nodes that both say they serve.
    """

    primary: str | None
    confirmed: bool
    role: str = ""
    rivals: tuple[str, ...] = ()


def find_serving(module: Module, reports: Sequence[NodeReport], previous: Object) -> Serving:
    """Decide from both sidecars' answers; an unreachable node keeps what it was last known to be.

    ``previous`` is the module's status so far.
    """
    claims = {r.node: r.current.role for r in reports if r.current is not None and r.current.role in SERVING}
    last = previous.get("primary")
    if len(claims) > 1:
        favourites = [last, module.preferred_node, *module.node_names]
        chosen = next(name for name in favourites if name in claims)
        return Serving(chosen, True, claims[chosen], tuple(sorted(claims)))
    if claims:
        node, role = next(iter(claims.items()))
        return Serving(node, True, role)
    for report in reports:
        if report.current is not None and report.current.peer.heard and report.current.peer.role in SERVING:
            return Serving(report.current.peer.node, True, report.current.peer.role)
    if last is not None and not any(report.node == last and report.reachable for report in reports):
        return Serving(last, False)
    return Serving(None, True)


def find_secondary(reports: Sequence[NodeReport], serving: Serving) -> str | None:
    """The node that follows the primary, by its own word or the primary's."""
    for report in reports:
        if report.node == serving.primary:
            continue
        if report.current is not None:
            return report.node if report.current.role in FOLLOWING else None
        primary = next((r.current for r in reports if r.node == serving.primary), None)
        if primary is not None and primary.peer.heard and primary.peer.role in FOLLOWING:
            return report.node
    return None


def describe_sync(reports: Sequence[NodeReport], serving: Serving) -> str:
    """``InSync``, ``Syncing 43%``, ``OutOfSync`` or ``Unknown``."""
    heard = [report.current for report in reports if report.current is not None]
    if serving.primary is None:
        return "Unknown" if len(heard) < len(reports) else "OutOfSync"
    by_node = {report.node: report.current for report in reports}
    authority = by_node.get(serving.primary) or next((s for s in heard if s.peer.heard), None)
    if authority is None or not serving.confirmed or len(serving.rivals) > 1:
        return "Unknown"
    if authority.in_sync:
        return "InSync"
    percents = [percent for status in heard if (percent := synced_percent(status)) is not None]
    if percents:
        return f"Syncing {min(percents)}%"
    return "Syncing" if any(status.role == "Syncing" for status in heard) else "OutOfSync"


def synced_percent(status: pb.Status) -> int | None:
    """How far a resynchronisation is, 0 to 99, or None when none runs."""
    if not status.HasField("sync"):
        return None
    total = status.sync.bytes_total
    return min(99, 100 * status.sync.bytes_done // total) if total else 0


def find_verification(reports: Sequence[NodeReport]) -> pb.Verification | None:
    """The comparison of both nodes' files that runs, or the last one, by the word of the node that makes them."""
    for report in reports:
        if report.current is not None and report.current.HasField("verification"):
            return report.current.verification
    return None


def describe_difference(found: pb.Difference) -> str:
    """What differs and where, in a few words."""
    place = f" at byte {found.offset}, {found.length} bytes" if found.length else ""
    return f"{found.what} of {found.volume}/{found.path}{place}"


def by_name(entries: Sequence[Mapping[str, object]] | None) -> dict[str, Object]:
    """The entries of a list-map by their name."""
    return {str(entry["name"]): dict(entry) for entry in entries or ()}


def failover_is_held(facts: Facts) -> bool:
    """By the word of a node that answers; while none does, as it was known last."""
    said = [report.current.failover_held for report in facts.reports if report.current is not None]
    return any(said) if said else bool(facts.previous.get("failoverHeld"))
