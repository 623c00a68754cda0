"""Self-fencing that does not come to its end (DESIGN.md R9): said loudly, and left to a watchdog if there is one."""

from __future__ import annotations

from twinhull_sidecar.role.course import Aim, Course
from twinhull_sidecar.role.model import Observation, Phase, State

#: Seconds that giving everything up may take; killing, withdrawing and unmounting take tenths of a second.
UNDO_PATIENCE = 10.0


def held(seen: Observation) -> tuple[str, ...]:
    """What this node has of the module that only one node may have, in the order in which it is undone."""
    found = []
    if seen.workload.phase not in (Phase.HELD, Phase.FAILED):
        found.append("the application still runs")
    if seen.vip_held:
        found.append("the virtual address is still held")
    if seen.engine.mode == "primary":
        found.append("the volumes are still mounted")
    return tuple(found)


def follow_up(state: State, course: Course, seen: Observation) -> State:
    """Take note of when this node began to give everything up."""
    giving_up = course.aim in (Aim.CLEAR, Aim.FOLLOW) and not state.serving and state.promotion is None
    if not (giving_up and held(seen)):
        return state.having(undoing_since=None)
    return state if state.undoing_since is not None else state.having(undoing_since=seen.now)


def stuck(state: State, seen: Observation) -> str:
    """Empty, or what could not be undone in time (a sentence)."""
    since = state.undoing_since
    if since is None or seen.now - since < UNDO_PATIENCE:
        return ""
    return f"This node gave up serving {seen.now - since:.0f} s ago, but {' and '.join(held(seen))}"
