"""The figures of a failover."""

from __future__ import annotations

from tests.figures import figure
from tests.lab.history import History
from twinhull_sidecar.api import sidecar_pb2 as pb

__all__ = ["figure", "show_timeline"]


def show_timeline(title: str, moment: float, status: pb.Status, history: History) -> float:
    """Print when each step came, in seconds after ``moment``; the result is that of the announcement."""
    line = status.last_failover
    steps = {
        "lease over": line.lease_over,
        "VIP probed": line.vip_probed,
        "detected": line.detected,
        "recorded": line.recorded,
        "promoted": line.promoted,
        "VIP announced": line.vip_announced,
        "application started": line.application_started,
        "application ready": line.application_ready,
        "first write": line.first_write,
        # From the new primary: requests on their way at the moment of the cut may still have been answered.
        "first answer": history.first_ack_after(line.detected) or 0.0,
    }
    text = ", ".join(f"{name} {at - moment:.2f}" if at else f"{name} never" for name, at in steps.items())
    figure(f"{title}: {text} s")
    return line.vip_announced - moment
