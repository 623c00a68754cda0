"""What a farm's data path is told: its nodes, addresses, affinity and weights. Times in seconds."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from twinhull_sidecar.config import Link, VirtualIP

#: A client's hash is one of these; a node's share is a range of them.
BUCKETS = 65536


class Affinity(Enum):
    """What of a client decides which node serves it."""

    CLIENT_IP = "ClientIP"
    CLIENT_IP_PORT = "ClientIPPort"


@dataclass(frozen=True)
class FarmSettings:
    """One farm as one of its nodes sees it; equal on both nodes but for ``node``.

    ``module``: ``namespace/name``. ``nodes``: in the same order on both. ``lan_links``: the names of the
    links that run over the addresses' own interfaces; a peer that is silent on all of them, but not on the
    others, is alive and cannot be forwarded to.
    """

    module: str
    nodes: tuple[str, str]
    node: str
    addresses: tuple[VirtualIP, ...]
    affinity: Affinity = Affinity.CLIENT_IP
    weights: Mapping[str, int] = field(default_factory=dict)
    detection_timeout: float = 1.0
    links: tuple[Link, ...] = ()
    lan_links: tuple[str, ...] = ()

    @property
    def peer(self) -> str:
        """The other node's name."""
        return self.nodes[1] if self.node == self.nodes[0] else self.nodes[0]

    @property
    def first(self) -> bool:
        """Whether this node has the lower range of buckets, and wins a tie."""
        return self.node == self.nodes[0]

    @property
    def lease(self) -> float:
        """How long one renewal lets this node do anything: half of what the peer waits."""
        return self.detection_timeout / 2

    @property
    def table(self) -> str:
        """The name of the farm's nftables tables, the same in each of its lives."""
        return f"twinhull_farm_{hashlib.sha256(self.module.encode()).hexdigest()[:10]}"

    @property
    def seed(self) -> int:
        """The seed of the hash: a client of several farms is not on the same side of all."""
        return int.from_bytes(hashlib.sha256(f"seed {self.module}".encode()).digest()[:4], "big")

    @property
    def boundary(self) -> int:
        """Buckets below it belong to the first node, the others to the second. Raises ValueError."""
        first, second = (self.weights.get(node, 1) for node in self.nodes)
        if first < 0 or second < 0 or first + second == 0:
            raise ValueError(f"weights {first} and {second}: give two that are not negative, and not both 0")
        return round(BUCKETS * first / (first + second))

    @property
    def share(self) -> float:
        """The part of the clients that is this node's while both serve: 0 to 1."""
        lower = self.boundary / BUCKETS
        return lower if self.first else 1 - lower
