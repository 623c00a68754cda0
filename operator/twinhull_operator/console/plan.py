"""An order before it is given: who is asked, and what will happen to clients. Pure.

A plan says nothing that changes by itself (no counts, no percentages): its ``stamp`` is the same until what it
says is no longer so, and an order that was confirmed under another stamp is not given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from twinhull_operator.module import Module, Object
from twinhull_operator.report import NodeReport
from twinhull_sidecar.api import sidecar_pb2 as pb

Danger = Literal["calm", "interrupts", "loses"]
"""Whether clients notice nothing, are interrupted, or data may be lost."""


@dataclass(frozen=True)
class Plan:
    """``node`` is what the order is about (empty: the module), ``asked`` the sidecar that gets it.

    ``refusal`` says why it cannot be given now; ``confirm`` is a word that has to be typed.
    """

    action: str
    label: str
    node: str = ""
    asked: str = ""
    discard_peer: bool = False
    refusal: str = ""
    effects: tuple[str, ...] = ()
    danger: Danger = "calm"
    confirm: str = ""

    @property
    def key(self) -> str:
        """Which of a module's plans it is."""
        return ":".join((self.action, self.node, "discard" if self.discard_peer else ""))

    @property
    def stamp(self) -> str:
        """Changes when anything that the plan says does."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:20]


@dataclass(frozen=True)
class Situation:
    """What plans are made from. ``status`` is the module's, as rendered from ``reports``."""

    module: Module
    reports: Sequence[NodeReport]
    status: Object

    def current(self, node: str | None) -> pb.Status | None:
        """What the node's sidecar says now."""
        return next((report.current for report in self.reports if report.node == node), None)

    def other(self, node: str) -> str:
        """The peer of a node."""
        first, second = self.module.node_names
        return second if node == first else first

    @property
    def answering(self) -> list[str]:
        """The nodes whose sidecars can be asked."""
        return [report.node for report in self.reports if report.current is not None]

    @property
    def addresses(self) -> str:
        """The virtual IPs as a text."""
        return " and ".join(vip.address for vip in self.module.virtual_ips)

    def role(self, node: str) -> str:
        """A node's role by its own word or its peer's, for a sentence."""
        own, peer = self.current(node), self.current(self.other(node))
        if own is not None:
            return own.role
        return peer.peer.role if peer is not None and peer.peer.heard and peer.peer.role else ""


def render_plan(plan: Plan) -> dict[str, Any]:
    """As the page gets it."""
    return {**asdict(plan), "effects": list(plan.effects), "key": plan.key, "stamp": plan.stamp}
