"""What happened between two turns of a farm's loop, as events. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from twinhull_sidecar.checkers import NOT_RUNNING, CheckState
from twinhull_sidecar.control.farm_role import FarmRole, Standing

TOOK_OVER = "TookOver"
Told = tuple[Literal["Normal", "Warning"], str, str]


class PeerState(Enum):
    """The peer, as this node knows it."""

    UNKNOWN = "unknown"
    HEARD = "heard"
    LEFT = "left"
    SILENT = "silent"


@dataclass(frozen=True)
class Scene:
    """What events are about. ``whole``: this node takes every client. ``peer_announces``: as it said last."""

    standing: Standing
    announcing: bool
    whole: bool
    peer: PeerState
    peer_announces: bool
    checks: tuple[CheckState, ...]
    restarts: int
    trouble: str


def happened(before: Scene | None, after: Scene, peer: str) -> Iterator[Told]:
    """The events, in the order in which an administrator wants to read them."""
    if before is not None:
        yield from _of_peer(before, after, peer)
        yield from _of_checks(before, after)
        if after.restarts > before.restarts and after.trouble:
            yield "Warning", "ApplicationEnded", after.trouble
    standing = after.standing
    if before is None or (before.standing.role, before.standing.code) != (standing.role, standing.code):
        hindered = standing.role is FarmRole.WAITING and standing.code not in _ON_THE_WAY
        yield "Warning" if hindered else "Normal", standing.role, f"{standing.role}: {standing.reason}"
    if before is None:
        return
    gone = before.peer is not PeerState.UNKNOWN and after.peer in {PeerState.SILENT, PeerState.LEFT}
    announces = after.announcing and not before.announcing and (before.peer_announces or gone)
    widened = after.whole and not before.whole and before.standing.role is FarmRole.UP
    if announces or widened:
        yield "Normal", TOOK_OVER, standing.reason
    if before.announcing and not after.announcing:
        yield "Normal", "HandedOver", f"{peer} announces the addresses from now on"


#: Codes of a node that waits only for a moment.
_ON_THE_WAY = {"Starting", "Listening", "ApplicationStarting", "ApplicationRestarting"}


def _of_peer(before: Scene, after: Scene, peer: str) -> Iterator[Told]:
    if after.peer is before.peer:
        return
    if after.peer is PeerState.SILENT and before.peer is not PeerState.LEFT:
        yield "Warning", "PeerLost", f"{peer} is silent on every link"
    elif after.peer is PeerState.LEFT:
        yield "Normal", "PeerLeft", f"{peer} left in order"
    elif after.peer is PeerState.HEARD:
        yield "Normal", "PeerHeard", f"{peer} is heard"


def _of_checks(before: Scene, after: Scene) -> Iterator[Told]:
    known = {one.name: one.passing for one in before.checks}
    for one in after.checks:
        if one.passing == known.get(one.name, False):
            continue
        if not one.passing and one.detail == NOT_RUNNING:
            continue
        if one.passing:
            yield "Normal", "CheckerPassing", f"checker {one.name} passes: {one.detail}"
        else:
            yield "Warning", "CheckerFailing", f"checker {one.name} fails: {one.detail}"
