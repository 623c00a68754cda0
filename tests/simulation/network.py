"""Paths between the two nodes: heartbeat links (datagrams) and the stream's path, each direction apart, and the LAN."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.world import T, World

LINKS = ("client", "replication")
STREAM = "stream"


@dataclass
class Network:
    """What gets through now. Directions are named by the sending node's index."""

    world: World
    #: (path, sender) that drop everything.
    cut: set[tuple[str, int]] = field(default_factory=set)
    lan_up: bool = True
    loss: float = 0.0
    delay: float = 0.02 * T
    duplicates: float = 0.0

    def up(self, path: str, sender: int) -> bool:
        """Whether that direction passes."""
        return (path, sender) not in self.cut

    def whole(self, path: str) -> bool:
        """Both directions pass."""
        return (path, 0) not in self.cut and (path, 1) not in self.cut

    def transit(self) -> float:
        """One random travel time; later datagrams may overtake earlier ones."""
        return 0.0005 + self.world.random.random() * self.delay

    def copies(self) -> int:
        """How many copies of a datagram arrive."""
        if self.loss and self.world.random.random() < self.loss:
            return 0
        if self.duplicates and self.world.random.random() < self.duplicates:
            return 2
        return 1
