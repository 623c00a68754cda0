"""A node's disk: the module's operations in order, what of them is on stable storage, and the durable records."""

from __future__ import annotations

from dataclasses import dataclass, field

from twinhull_sidecar.role.model import Persisted, Record


@dataclass
class Disk:
    """Survives crashes; a power cut may lose operations past ``durable``."""

    record: Record = field(default_factory=Record)
    persisted: Persisted = field(default_factory=Persisted)
    #: Numbers of the operations applied, in order.
    data: list[int] = field(default_factory=list)
    durable: int = 0
    #: The generation that the peer holds too, or held when they were last in sync.
    shared: str = ""
    #: In the middle of a resynchronisation: a mixture (M1).
    mixed: bool = False

    def power_cut(self, keep: float) -> list[int]:
        """Lose a part of what was not flushed; ``keep`` between 0 and 1. Returns the lost operations."""
        size = self.durable + int(keep * (len(self.data) - self.durable + 0.999))
        lost = self.data[size:]
        del self.data[size:]
        return lost
