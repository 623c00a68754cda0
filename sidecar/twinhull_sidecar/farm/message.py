"""What two farm nodes tell each other in each heartbeat."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")


class Phase(Enum):
    """What a node's application can do; higher is better."""

    DOWN = 0
    DRAINING = 1
    UP = 2


@dataclass(frozen=True)
class FarmMessage:
    """One node's words.

    ``announcing``: it answers ARP and NDP for the addresses. ``yielding``: and the peer should take that
    over. ``leaving``: it ends now. ``capable``: its kernel has the filter. ``reached``: it hears the reader
    over the addresses' own network. ``macs``: its Ethernet address on each virtual address's interface;
    ``pods``: where its application listens, by IP version. ``hears_ms``: how long ago it heard the reader,
    None: never; the heartbeat itself fills it in.
    """

    phase: Phase
    announcing: bool = False
    yielding: bool = False
    leaving: bool = False
    capable: bool = True
    macs: Mapping[str, str] = field(default_factory=dict)
    pods: Mapping[str, str] = field(default_factory=dict)
    hears_ms: float | None = None
    reached: bool = True

    def payload(self) -> dict[str, Any]:
        """What :meth:`Heartbeat.publish` is given."""
        return {
            "phase": self.phase.name,
            "announcing": self.announcing,
            "yielding": self.yielding,
            "leaving": self.leaving,
            "capable": self.capable,
            "reached": self.reached,
            "macs": dict(self.macs),
            "pods": dict(self.pods),
        }


def read(payload: Mapping[str, Any]) -> FarmMessage:
    """The message in an accepted heartbeat. Raises ValueError: another version of the sidecar wrote it."""
    try:
        hears = payload.get("hears_ms")
        return FarmMessage(
            phase=Phase[payload["phase"]],
            announcing=payload["announcing"] is True,
            yielding=payload["yielding"] is True,
            leaving=payload["leaving"] is True,
            capable=payload["capable"] is True,
            reached=payload["reached"] is True,
            macs={_address(key): _mac(value) for key, value in payload["macs"].items()},
            pods={str(key): _address(value) for key, value in payload["pods"].items()},
            hears_ms=None if hears is None else float(hears),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"a farm's message without the expected fields ({error!r})") from None


def _mac(text: str) -> str:
    # It becomes part of a script.
    if _MAC.fullmatch(text) is None:
        raise ValueError(f"{text!r} is not an Ethernet address")
    return text


def _address(text: str) -> str:
    return str(ipaddress.ip_address(text))
