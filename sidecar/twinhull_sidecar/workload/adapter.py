"""What the role logic asks of the application, whatever runs it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


class Phase(StrEnum):
    """Where the application as a whole stands."""

    HELD = "Held"
    STARTING = "Starting"
    RUNNING = "Running"
    STOPPING = "Stopping"
    FAILED = "Failed"


@dataclass(frozen=True)
class WorkloadState:
    """One look at the application.

    ``failures`` counts exits by itself (and failed liveness probes) since the start of ``epoch``; ``exit``
    describes the last one, or why nothing runs. ``terminating``: someone other than this sidecar ends the
    application, as the deletion of the pod or the shutdown of the node does.
    """

    phase: Phase
    epoch: int = 0
    failures: int = 0
    exit: str = ""
    terminating: bool = False


class WorkloadError(Exception):
    """The application cannot be run here; the message says why and what mends it."""


OnChange = Callable[[], None]


class Workload(Protocol):
    """Starts and stops the application under a lease. All methods belong to one event loop."""

    on_change: OnChange

    async def open(self) -> None:
        """Prepare; the application stays held. Raises OSError when the socket cannot be made."""

    def gathered(self) -> bool:
        """Whether every container waits under its gate.

        One that is created while the mirror is mounted is bound to that mount alone, and has to be created again
        when the node becomes secondary; one that was there before sees each mount come and go.
        """

    async def start(self, epoch: int) -> None:
        """Begin running in ``epoch``; returns once started, not necessarily ready.

        Nothing starts before a lease was given with ``renew``. Of an application that already runs in part,
        only what has failed is started again. Failures show in ``state``, not as an exception.
        """

    async def stop(self, grace: float) -> None:
        """Orderly stop with ``grace`` seconds; returns when nothing of the application runs any more.

        The lease bounds the stop too: keep renewing while it lasts, else the application is killed.
        """

    def renew(self, until: float) -> None:
        """Extend the lease to ``until``, absolute CLOCK_BOOTTIME seconds. An expired lease kills."""

    def kill(self) -> None:
        """End the application at once; ``state`` tells when it is gone."""

    def state(self) -> WorkloadState:
        """How it stands now."""

    async def ready(self) -> bool:
        """Whether every container of the application runs."""

    async def close(self) -> None:
        """End the application and give everything back."""
