"""What the applications were told: per client the last operation that was acknowledged, and the last that was begun.

Clients number their operations 1, 2, 3, ... and make one at a time. One whose answer was lost may have been carried
out, wholly, or not at all.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Ledger:
    """Acknowledged operations of one application."""

    clients: int
    acknowledged: dict[int, int] = field(default_factory=dict)
    #: Acknowledgements in all.
    count: int = 0

    def __post_init__(self) -> None:
        self.acknowledged = dict.fromkeys(range(self.clients), 0)

    def acknowledge(self, client: int, number: int) -> None:
        """Each client counts upwards without a gap."""
        assert number == self.acknowledged[client] + 1, (client, number, self.acknowledged)
        self.acknowledged[client] = number
        self.count += 1

    def judge(self, found: dict[int, int], forgiven: int = 0) -> None:
        """``found``: how far each client's operations are there, without a gap. Fails when an acknowledged one is not,
        but for the last ``forgiven``; or when one is there that nobody has begun. From now on what was found counts
        as acknowledged."""
        for client, last in self.acknowledged.items():
            there = found[client]
            if there < last - forgiven:
                raise AssertionError(
                    f"LOST: client {client}: operations up to {last} were acknowledged, only {there} are there"
                )
            assert there <= last + 1, (
                f"client {client}: operation {there} is there, {last + 1} was the last begun"
            )
            self.acknowledged[client] = there
