"""What a node's detection timeout means for both nodes: how long it may act, and when it stops waiting for the other.

While a changed ``failover.detectionTimeout`` rolls out, the nodes have different ones, so each announces its own in
every heartbeat, and whoever judges a node's silence uses that node's timing, not its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """One node's timing, in seconds. ``longest_lease``: of all leases it takes, with what their ends may be late by."""

    detection_timeout: float
    longest_lease: float

    @property
    def lease(self) -> float:
        """How long one renewal allows acknowledging, running the application and holding the address."""
        return self.detection_timeout / 2

    @property
    def interval(self) -> float:
        """Between two heartbeats on a link."""
        return self.detection_timeout / 10

    @property
    def alone_after(self) -> float:
        """How long a primary waits for a silent peer before it goes on alone.

        Longer than the detection timeout, so that a secondary that promotes itself does so surely before the
        primary could acknowledge anything without it (docs/decisions/promotion-window.md).
        """
        return max(1.5 * self.detection_timeout, self.detection_timeout + 1.0)

    @property
    def surely_over(self) -> float:
        """Past a stopped node's last heartbeat: nothing it was leased is left.

        It may have renewed just before the next heartbeat was due; the second interval is for delays.
        """
        return self.longest_lease + 2 * self.interval

    def lost_after(self, *, closed: bool) -> float:
        """How long this node must be silent before its secondary takes over; ``closed``: its kernel ended the stream.

        Then its process is gone, and everything it may still do ends with its lease.
        """
        return self.lease + 2 * self.interval if closed else self.detection_timeout
