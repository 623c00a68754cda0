"""Supervision of the application on the serving node: restart, then fail over, then give up (DESIGN.md section 6).

Never ping-pong: a node on which the application failed for good says so, and the peer does not hand back to it; when it
fails there, too, both stop. A node that a checker of its surroundings complains about is left only for one without such
a complaint, and once within the restart window.
"""

from __future__ import annotations

from dataclasses import dataclass

from twinhull_sidecar.role import complaint
from twinhull_sidecar.role.complaint import CheckAction, Complaint
from twinhull_sidecar.role.conflict import give_up
from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.facts import Facts
from twinhull_sidecar.role.memory import wish
from twinhull_sidecar.role.model import (
    Effect,
    HandOver,
    Phase,
    StartApplication,
    State,
    StopApplication,
)

#: Seconds between restarts once they are used up and the peer cannot take over.
SLOW_RESTART = 10.0


@dataclass(frozen=True)
class _Failure:
    """What is wrong with the application, and what is done about it before it is given up."""

    what: str
    action: CheckAction
    #: So many failures within the window are answered by a restart.
    restarts: int
    again: Effect
    #: It runs, but a checker complains.
    running: bool
    code: str


def supervise(facts: Facts) -> Course | None:
    """The course of mending the application or failing over; None: nothing to mend."""
    state, seen, settings = facts.state, facts.seen, facts.settings
    if seen.engine.mode != "primary":
        return None
    peer_is_whole = facts.message is not None and facts.message.in_sync
    if seen.engine.error is not None and peer_is_whole and not facts.failover_is_held:
        # The peer holds everything acknowledged, so nothing needs to be drained from a failing disk.
        why = f"This node's storage failed ({seen.engine.error}): {settings.peer} takes over"
        return give_up(state, why, "StorageFailed")
    if state.closing is not None:
        return Course(state, Aim.CLOSE, state.closing, "ApplicationFailedOnBoth")
    work = seen.workload
    running = work.phase in (Phase.STARTING, Phase.RUNNING)
    if state.restart_order is not None and running and work.epoch <= state.restart_epoch:
        return Course(
            state,
            Aim.SERVE,
            "Restarting the application by order",
            "Restarting",
            first=StopApplication(settings.stop_grace),
        )
    failure = _failure(facts)
    if failure is not None:
        return _mend(facts, failure)
    about_node = complaint.of_node(seen.complaints)
    return None if about_node is None else _leave(facts, about_node)


def _failure(facts: Facts) -> _Failure | None:
    state, seen, settings = facts.state, facts.seen, facts.settings
    work = seen.workload
    if work.phase is Phase.FAILED:
        by_exit = settings.on_exit == "Restart"
        return _Failure(
            what=f"The application ended by itself ({work.detail or 'no detail'})",
            action=settings.on_exit,
            restarts=settings.max_restarts if by_exit else settings.exit_threshold - 1,
            again=StartApplication(max(work.epoch, state.epoch) + 1),
            running=False,
            code="ApplicationFailed",
        )
    found = complaint.of_application(seen.complaints, work.epoch)
    if found is None or work.phase is not Phase.RUNNING:
        return None
    return _Failure(
        what=f"Checker {found.checker} failed ({found.detail})",
        action=found.action,
        restarts=settings.max_restarts if found.action == "Restart" else 0,
        again=StopApplication(settings.stop_grace),
        running=True,
        code="CheckerFailed",
    )


def _mend(facts: Facts, failure: _Failure) -> Course | None:  # noqa: PLR0911 (a table: one return per row)
    state, settings = facts.state, facts.settings
    count, what = len(state.failures), failure.what
    if count <= failure.restarts:
        why = f"{what}: restart {count} of {failure.restarts} within {settings.restart_window:.0f} s"
        return Course(state, Aim.SERVE, why, "ApplicationRestarting", first=failure.again)
    if failure.action == "Stop":
        return stop_module(facts, what)
    state = state.having(app_failed=True)
    if facts.message is not None and facts.message.app_failed:
        why = (
            f"The application failed too often on both nodes, here last ({what[0].lower()}{what[1:]}): "
            "stopped until an administrator orders start"
        )
        return Course(state.having(closing=why), Aim.CLOSE, why, "ApplicationFailedOnBoth")
    blocked = facts.can_hand_over or _unasked(facts)
    if not blocked and not _just_tried(state, facts.now):
        state = state.having(hand_over=HandOver(facts.now, failure.code), left_at=facts.now)
        why = f"{what} for the {count}th time" if failure.restarts else what
        return Course(state, Aim.CLOSE, f"{why}: handing over to {settings.peer}", failure.code)
    blocked = blocked or "the last hand-over failed just now"
    if facts.now - state.failures[-1] < SLOW_RESTART:
        if failure.running:
            # It may serve somebody yet, and the stream has to be looked after meanwhile.
            return None
        return Course(state, Aim.SERVE, f"{what} too often, and {blocked}: trying again soon", failure.code)
    why = f"{what} too often, and {blocked}: trying again"
    return Course(state, Aim.SERVE, why, failure.code, first=failure.again)


def _just_tried(state: State, now: float) -> bool:
    """A hand-over takes the application down: one that failed is not tried again at once."""
    return state.left_at is not None and now - state.left_at < SLOW_RESTART


def _leave(facts: Facts, found: Complaint) -> Course | None:
    """A checker of the node's surroundings complains; None: it serves on nevertheless."""
    state, settings = facts.state, facts.settings
    what = f"Checker {found.checker} failed ({found.detail})"
    if found.action == "Stop":
        return stop_module(facts, what)
    lately = state.left_at is not None and facts.now - state.left_at < settings.restart_window
    if lately or facts.peer_is_unfit or facts.can_hand_over or _unasked(facts):
        return None
    state = state.having(hand_over=HandOver(facts.now, "CheckerFailed"), left_at=facts.now)
    return Course(state, Aim.CLOSE, f"{what}: handing over to {settings.peer}", "CheckerFailed")


def stop_module(facts: Facts, what: str) -> Course:
    """As an administrator's order to stop: durable, known to both nodes, ended by an order to start."""
    state = facts.state
    known = state.wished
    why = f"{what}: stopping the module, as its action says, until an administrator orders start"
    if not known.stopped:
        state = wish(state, intent=known.intent + 1, stopped=True).having(stop_cause=what)
    # Serving until the wish is on the disk: a node that restarts now would not know of it.
    return Course(state, Aim.SERVE, why, "CheckerStops")


def _unasked(facts: Facts) -> str:
    held = facts.failover_is_held
    return held[0].lower() + held[1:] if held else ""


def forgive(state: State) -> State:
    """An administrator's start or restart: earlier failures do not count any more."""
    return state.having(app_failed=False, failures=(), left_at=None, stop_cause="")
