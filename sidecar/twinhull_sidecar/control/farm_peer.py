"""What a farm's node says in its heartbeats: the data path's message, and what the supervision adds to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from twinhull_sidecar.config import MAX_DETECTION_TIMEOUT, MIN_FARM_DETECTION_TIMEOUT
from twinhull_sidecar.control.farm_persisted import Wish
from twinhull_sidecar.farm import FarmMessage, read


@dataclass(frozen=True)
class Word:
    """A node's whole message. ``detection_timeout``: how long its silence may last before it counts as lost."""

    message: FarmMessage
    role: str
    detection_timeout: float
    intent: int = 0
    stopped: bool = False

    def payload(self) -> dict[str, Any]:
        """What :meth:`Heartbeat.publish` is given."""
        return {
            **self.message.payload(),
            "role": self.role,
            "detection_timeout": self.detection_timeout,
            "intent": self.intent,
            "stopped": self.stopped,
        }

    @property
    def essence(self) -> Word:
        """All of it but how long ago the peer heard this node, which each heartbeat says anew."""
        heard = None if self.message.hears_ms is None else 0.0
        return replace(self, message=replace(self.message, hears_ms=heard))

    def newer_than(self, wish: Wish) -> bool:
        """Whether an order to the whole module reached the peer that this node has not heard of."""
        return self.intent > wish.intent


def understood(payload: Mapping[str, Any]) -> Word:
    """The word in an accepted heartbeat. Raises ValueError: another release of the sidecar wrote it."""
    timeout, intent = payload.get("detection_timeout"), payload.get("intent")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float):
        raise ValueError(f"detection_timeout is {timeout!r}")
    if not MIN_FARM_DETECTION_TIMEOUT <= timeout <= MAX_DETECTION_TIMEOUT:
        raise ValueError(f"detection_timeout is {timeout!r}")
    if isinstance(intent, bool) or not isinstance(intent, int):
        raise ValueError(f"intent is {intent!r}")
    return Word(
        message=read(payload),
        role=str(payload.get("role", "")),
        detection_timeout=float(timeout),
        intent=intent,
        stopped=payload.get("stopped") is True,
    )
