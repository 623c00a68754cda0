"""The threads that renew leases and send heartbeats run before everything else on the node.

Else a machine whose processors are busy holds them up, and a node is taken for lost that is only slow. What they start
(the application, the file system's threads) gets the ordinary policy again: SCHED_RESET_ON_FORK, sched(7).
"""

from __future__ import annotations

import logging
import os

log = logging.getLogger(__name__)

#: The lowest of the real-time priorities: before all ordinary threads, after what the kernel itself runs so.
_PRIORITY = 1
_LEAST_NICE = -20


def hurry() -> None:
    """Make the calling thread urgent, as far as the system lets it; for thread pools, too, as their initializer."""
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
    except OSError as error:
        reason = error.strerror
    else:
        return
    # A kernel with CONFIG_RT_GROUP_SCHED gives containers no real time.
    try:
        os.sched_setscheduler(0, os.SCHED_OTHER | os.SCHED_RESET_ON_FORK, os.sched_param(0))
        os.setpriority(os.PRIO_PROCESS, 0, _LEAST_NICE)
    except OSError:
        log.warning(
            "heartbeats run at ordinary priority (%s): on a busy node they may be late; give the sidecar CAP_SYS_NICE",
            reason,
        )
