"""Keeps a farm node's application running: started, started again within the restart budget, stopped. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from twinhull_sidecar.config import Application as Configured
from twinhull_sidecar.farm import Application
from twinhull_sidecar.workload import Phase, WorkloadState


@dataclass(frozen=True)
class Start:
    """Start the application, or what has failed of it."""

    epoch: int


@dataclass(frozen=True)
class Stop:
    """Stop the application in order."""

    grace: float


@dataclass(frozen=True)
class Restart:
    """An order: stop what runs in ``epoch`` from ``at`` on, when the peer takes what is new; then start anew."""

    order: str
    epoch: int
    at: float


@dataclass(frozen=True)
class Supervision:
    """What one look leaves to the next.

    ``failures``: when it ended by itself, within the window; ``noted``: the start whose end is among them.
    """

    epoch: int = 0
    failures: tuple[float, ...] = ()
    noted: int = 0
    restart: Restart | None = None

    def forgiven(self) -> Supervision:
        """Earlier failures do not count any more: an administrator asked for it."""
        return replace(self, failures=())


@dataclass(frozen=True)
class Look:
    """What is to be done, and how the application stands. ``failed``: it ended by itself too often.

    ``trouble``: why it does not run, empty while it does. ``restarted``: the order that is carried out now.
    """

    supervision: Supervision = field(compare=False)
    application: Application
    effect: Start | Stop | None = None
    trouble: str = ""
    code: str = ""
    failed: bool = False
    restarted: str | None = None


def supervise(  # noqa: PLR0911 (a table: one return per row)
    before: Supervision,
    configured: Configured,
    state: WorkloadState,
    *,
    wanted: bool,
    grace: float,
    now: float,
) -> Look:
    """Compare what is ``wanted`` with what runs; a stop has ``grace`` seconds."""
    kept = tuple(one for one in before.failures if now - one < configured.restart_window)
    known = replace(before, epoch=max(before.epoch, state.epoch), failures=kept)
    if not wanted:
        return _unwanted(replace(known, restart=None), state, grace)
    if state.terminating and state.phase is not Phase.HELD:
        runs = state.phase in {Phase.RUNNING, Phase.STOPPING}
        application = Application.UNREADY if runs else Application.STOPPED
        why = "the application is ended by the node or the pod's deletion"
        return Look(known, application, trouble=why, code="ApplicationTerminated")
    match state.phase:
        case Phase.RUNNING:
            return _running(known, state, configured.stop_grace, now)
        case Phase.STARTING:
            return Look(
                known, Application.STOPPED, trouble="the application starts", code="ApplicationStarting"
            )
        case Phase.STOPPING:
            why = "the application stops"
            return Look(known, Application.UNREADY, trouble=why, code="ApplicationRestarting")
        case Phase.FAILED:
            return _failed(known, configured, state, now)
        case _:
            return _start(known, state.exit or "the application starts", "ApplicationStarting")


def _unwanted(known: Supervision, state: WorkloadState, grace: float) -> Look:
    if state.phase is Phase.HELD:
        return Look(known, Application.STOPPED)
    runs = state.phase in {Phase.RUNNING, Phase.STOPPING}
    application = Application.UNREADY if runs else Application.STOPPED
    return Look(known, application, Stop(grace), "the application stops", "Stopping")


def _running(known: Supervision, state: WorkloadState, grace: float, now: float) -> Look:
    order = known.restart
    if order is None:
        return Look(known, Application.READY)
    if state.epoch > order.epoch:
        return Look(replace(known, restart=None), Application.READY, restarted=order.order)
    why = "the application is restarted by order"
    stop = Stop(grace) if now >= order.at else None
    return Look(known, Application.UNREADY, stop, why, "ApplicationRestarting")


def _failed(known: Supervision, configured: Configured, state: WorkloadState, now: float) -> Look:
    if known.noted != state.epoch:
        known = replace(known, failures=(*known.failures, now), noted=state.epoch)
    count, limit = len(known.failures), configured.max_restarts
    window = f"{configured.restart_window:.0f} s"
    what = f"the application ended by itself ({state.exit or 'no detail'})"
    if count <= limit:
        return _start(known, f"{what}: restart {count} of {limit} within {window}", "ApplicationRestarting")
    why = f"{what}, {count} times within {window}: order start to try again"
    return Look(known, Application.STOPPED, trouble=why, code="ApplicationFailed", failed=True)


def _start(known: Supervision, why: str, code: str) -> Look:
    epoch = known.epoch + 1
    return Look(replace(known, epoch=epoch), Application.STOPPED, Start(epoch), why, code)
