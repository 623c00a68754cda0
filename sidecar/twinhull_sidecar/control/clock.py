"""The clock of all leases."""

from __future__ import annotations

import time


def boottime() -> float:
    """CLOCK_BOOTTIME in seconds: it runs on while the machine is suspended and never jumps."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
