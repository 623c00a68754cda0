"""An order that a sidecar accepted, and how it stands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from twinhull_operator.constants import Kind

State = Literal["running", "done", "failed", "late"]


@dataclass(frozen=True)
class Given:
    """An order that a sidecar accepted. Times in Unix seconds; ``ended`` 0 while it runs."""

    id: str
    kind: Kind
    action: str
    node: str
    asked: str
    user: str
    given: float
    state: State = "running"
    message: str = "accepted"
    ended: float = 0.0
    answered: bool = False
    """The sidecar said *done*; what clients wait for may still be to come."""
    compared_before: float = 0.0
    """When the comparison began that was known when the order was given."""
    comparison: float = 0.0
    """When the one that was ordered began; 0 until it is seen."""
