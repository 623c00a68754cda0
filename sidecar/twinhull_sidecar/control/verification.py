"""The comparison of both trees as status and events tell it, and when one is due."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.schedule import Schedule

#: Differences that a status lists; the engine keeps more.
LISTED = 50
#: Differences that an event names.
NAMED = 3
#: Seconds that a resynchronisation may take to show that it has begun.
SETTLE = 2.0


@dataclass(frozen=True)
class Difference:
    """See ``Report`` in sidecar/mirrorfs/src/resync/verify.rs. Offset and length in bytes."""

    volume: str
    path: str
    what: str
    offset: int
    length: int
    detail: str
    repaired: bool

    def __str__(self) -> str:
        place = f" at {self.offset}, {self.length} bytes" if self.length else ""
        return f"{self.volume}/{self.path} ({self.what}{place})"


@dataclass(frozen=True)
class Verification:
    """The comparison that runs, or the last one. ``begun`` and ``ended``: Unix seconds.

    ``resync``: names differed, and the full resynchronisation that puts them right has not ended; then all is repaired.
    """

    run: int
    running: bool
    repair: bool
    begun: float
    ended: float | None
    files: int
    bytes: int
    found: int
    repaired: int
    stopped: str
    differences: tuple[Difference, ...]
    resync: bool = False


class VerificationWatch:
    """Follows the engine's word. An event when one begins, and one with what it found when it ends."""

    def __init__(self, events: EventLog, clock: Callable[[], float]) -> None:
        self._events = events
        self._clock = clock
        self._mended_run = 0
        self.current: Verification | None = None

    def observe(self, said: Mapping[str, Any] | None, *, in_sync: bool) -> None:
        """``said``: the ``verify`` of the engine's status; None while there is none to tell of."""
        if said is None:
            self.current = None
            return
        before = self.current
        fresh = before is None or before.run != said["run"]
        begun = self._clock() if fresh or before is None else before.begun
        ended = None if said["running"] else (not fresh and before and before.ended) or self._clock()
        resync = said["resync"] and not self._mended(said["run"], ended, in_sync=in_sync)
        mended = said["resync"] and not resync
        self.current = Verification(
            run=said["run"],
            running=said["running"],
            repair=said["repair"],
            begun=begun,
            ended=ended,
            files=said["files"],
            bytes=said["bytes"],
            found=said["found"],
            repaired=said["found"] if mended else said["repaired"],
            stopped=said["stopped"] or "",
            differences=tuple(
                Difference(
                    one["volume"],
                    one["path"],
                    one["what"],
                    one["offset"],
                    one["len"],
                    one["detail"],
                    mended or one["repaired"],
                )
                for one in said["findings"][:LISTED]
            ),
            resync=resync,
        )
        if fresh:
            self._events.normal("VerifyBegun", "both nodes' files are being compared")
        if not said["running"] and (fresh or (before is not None and before.running)):
            self._tell(self.current)

    def _mended(self, run: int, ended: float | None, *, in_sync: bool) -> bool:
        """Whether the full resynchronisation after a repair has ended; once it has, for good."""
        if ended is not None and in_sync and self._clock() - ended > SETTLE:
            self._mended_run = run
        return self._mended_run == run

    def _tell(self, known: Verification) -> None:
        compared = f"{known.files} files, {known.bytes} bytes"
        if known.found:
            named = "; ".join(str(one) for one in known.differences[:NAMED])
            more = f" and {known.found - NAMED} more" if known.found > NAMED else ""
            mended = f"; {known.repaired} repaired" if known.repair else ""
            rest = ", names differ: a full resynchronisation follows" if known.resync else ""
            message = f"{known.found} differences in {compared}: {named}{more}{mended}{rest}"
            self._events.warning("VerifyFoundDifferences", message)
        if known.stopped:
            self._events.warning("VerifyIncomplete", f"{known.stopped}, after {compared}")
        elif not known.found:
            self._events.normal("VerifyDone", f"both nodes hold the same: {compared}")


class VerifyDue:
    """Says once in each minute of the schedule that a comparison is due."""

    def __init__(self, schedule: Schedule) -> None:
        self._schedule = schedule
        self._last: datetime.datetime | None = None

    def is_now(self, now: datetime.datetime) -> bool:
        """``now`` in UTC."""
        minute = now.replace(second=0, microsecond=0)
        if minute == self._last or not self._schedule.is_due(minute):
            return False
        self._last = minute
        return True
