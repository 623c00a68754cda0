"""What a node aims for, and the effects that bring it there one step at a time (level-triggered)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from twinhull_sidecar.role.model import (
    AbortPrimary,
    Effect,
    Exit,
    Fence,
    HoldVip,
    Initialise,
    KillApplication,
    Observation,
    Phase,
    ProbeVip,
    StartApplication,
    StartPrimary,
    StartSecondary,
    State,
    StopApplication,
    StopPrimary,
    StopSecondary,
    WithdrawVip,
)


class Aim(Enum):
    """Where a node wants to be."""

    SERVE = "serve"
    FENCED = "fenced"  #: stays mounted, acknowledges nothing, starts nothing
    CLEAR = "clear"  #: gives up serving at once; otherwise stays as it is
    FOLLOW = "follow"
    CLOSE = "close"  #: ends in order whatever it does: drain, flush, idle
    EXIT = "exit"


@dataclass(frozen=True)
class Course:
    """One decision's outcome before it is turned into effects."""

    state: State
    aim: Aim
    reason: str
    code: str
    #: A slow effect that comes before the aim's own steps.
    first: Effect | None = None
    probe: bool = False
    hold: bool = True  #: SERVE: take the virtual address where it is not held
    waiting: bool = False  #: shown as Waiting although the engine may follow
    asks: tuple[Effect, ...] = ()  #: fast effects that come with it: questions to witnesses, fencing
    alone: bool = False  #: SERVE from idle: with the durable note that the peer is outdated


def steps(course: Course, seen: Observation) -> tuple[Effect, ...]:
    """The effects to emit now: fast ones, then at most one slow one, none of the slow ones while another runs."""
    fast: list[Effect] = []
    if course.probe and (seen.probe is None or seen.probe.finished_at is not None):
        fast.append(ProbeVip())
    fast.extend(course.asks)
    if course.aim in (Aim.CLEAR, Aim.FOLLOW):
        slow = _clear(fast, seen)
        if slow is None and course.aim is Aim.FOLLOW and seen.engine.mode == "idle":
            slow = StartSecondary()
    elif course.aim is Aim.SERVE:
        slow = _serve(course, seen)
    elif course.aim is Aim.FENCED:
        fast.insert(0, Fence())
        slow = None
    elif course.aim is Aim.CLOSE:
        slow = _close(course.state, seen)
    else:
        slow = Exit()
    resting = seen.now < course.state.retry_at and course.aim not in (Aim.CLEAR, Aim.EXIT)
    slow = course.first or slow
    if slow is None or resting or seen.busy is not None:
        return tuple(fast)
    return (*fast, slow)


def _clear(fast: list[Effect], seen: Observation) -> Effect | None:
    """Self-fencing in the order of DESIGN.md R9: block writes, stop the application, withdraw the address."""
    running = seen.workload.phase not in (Phase.HELD, Phase.FAILED)
    if seen.engine.mode == "primary":
        fast.insert(0, Fence())
    if running:
        fast.append(KillApplication())
    if seen.vip_held:
        return WithdrawVip()
    if seen.engine.mode == "primary":
        return AbortPrimary()
    return None


def _serve(course: Course, seen: Observation) -> Effect | None:
    """Storage, then the address (clients find their way while the application starts), then the application."""
    state, engine = course.state, seen.engine
    if engine.mode == "secondary":
        return StopSecondary()
    if engine.mode == "idle":
        return Initialise() if seen.record.fresh else StartPrimary(alone=course.alone)
    if state.settings.has_vip and not seen.vip_held:
        return HoldVip() if course.hold else None
    if state.settings.has_application and seen.workload.phase is Phase.HELD:
        return StartApplication(epoch=max(state.epoch, seen.workload.epoch) + 1)
    return None


def _close(state: State, seen: Observation) -> Effect | None:
    """The orderly way down: no new clients, no application, everything on both disks."""
    if seen.vip_held:
        return WithdrawVip()
    if seen.workload.phase not in (Phase.HELD, Phase.FAILED):
        return StopApplication(grace=state.settings.stop_grace)
    if seen.engine.mode == "primary":
        return StopPrimary(timeout=state.settings.detection_timeout)
    if seen.engine.mode == "secondary":
        return StopSecondary()
    return None
