"""Lines between the sidecar and a gate, version 1: one JSON object a line, at most 64 KiB.

The gate speaks first (``hello``), then reports its state at each change and in answer to each order. Unknown
keys are ignored, so either side may be the newer one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

MAX_LINE = 64 * 1024

GateState = Literal["held", "running", "stopping", "exited"]


class ProtocolError(ValueError):
    """A line that this side does not understand; the connection is to be closed."""


@dataclass(frozen=True)
class Hello:
    """A gate's first line. ``original`` None: the container has no command, the image's is to be used;
    ``args`` are then the container's arguments, with ``$(VAR)`` already expanded by kubelet."""

    container: str
    pid: int
    original: tuple[str, ...] | None
    args: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """A gate's state. ``epoch`` is the highest one it was ever ordered to run or to stop."""

    state: GateState
    epoch: int = 0
    pid: int | None = None
    code: int | None = None
    signal: int | None = None
    reason: str = ""

    @property
    def occupied(self) -> bool:
        """Whether any process of the application may exist."""
        return self.state in ("running", "stopping")


def encode_run(
    epoch: int,
    *,
    ttl: float,
    until: float,
    argv: Sequence[str] | None = None,
    stop_signal: int | None = None,
) -> bytes:
    """Grant or renew. Restarts are always the sidecar's.

    kubelet's own restarts back off up to five minutes, and count nothing that the failover rules could use.
    ``until`` (CLOCK_BOOTTIME seconds) bounds the lease even if the line is read late.
    """
    run: dict[str, Any] = {
        "epoch": epoch,
        "ttl_ms": max(0, int(ttl * 1000)),
        "until_ms": max(0, int(until * 1000)),
        "restart": "gate",
    }
    if argv is not None:
        run["argv"] = list(argv)
    if stop_signal is not None:
        run["stop_signal"] = stop_signal
    return _line({"run": run})


def encode_stop(epoch: int, grace: float) -> bytes:
    """Stop in order; without grace, kill."""
    return _line({"stop": {"epoch": epoch, "grace_ms": max(0, int(grace * 1000))}})


def _line(value: dict[str, Any]) -> bytes:
    line = json.dumps(value, separators=(",", ":")).encode() + b"\n"
    if len(line) > MAX_LINE:
        raise ProtocolError(f"a line of {len(line)} bytes is over {MAX_LINE}; shorten the command")
    return line


def parse(line: bytes) -> Hello | Report | None:
    """One line of a gate; None for one of a later version. Raises ProtocolError."""
    try:
        value = json.loads(line)
    except ValueError as error:
        raise ProtocolError(f"not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ProtocolError("not a JSON object")
    if "hello" in value:
        hello = value["hello"]
        if not isinstance(hello, dict) or not isinstance(hello.get("container"), str):
            raise ProtocolError("hello names no container")
        original = hello.get("original")
        return Hello(
            container=hello["container"],
            pid=_number(hello, "pid") or 0,
            original=None if original is None else _strings(original, "original"),
            args=_strings(hello.get("args") or [], "args"),
        )
    if "state" in value:
        state = value["state"]
        if state not in get_args(GateState):
            raise ProtocolError(f"unknown state {state!r}")
        reason = value.get("reason")
        return Report(
            state=state,
            epoch=_number(value, "epoch") or 0,
            pid=_number(value, "pid"),
            code=_number(value, "code"),
            signal=_number(value, "signal"),
            reason=reason if isinstance(reason, str) else "",
        )
    return None


def _number(value: dict[str, Any], name: str) -> int | None:
    number = value.get(name)
    if number is None:
        return None
    if isinstance(number, bool) or not isinstance(number, int):
        raise ProtocolError(f"{name} is not a whole number")
    return number


def _strings(value: object, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ProtocolError(f"{name} is not a list of strings")
    return tuple(value)
