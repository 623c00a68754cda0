"""When a comparison of both trees is due, and what is told of it."""

from __future__ import annotations

import datetime
from typing import Any

import pytest

from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.verification import VerificationWatch, VerifyDue
from twinhull_sidecar.schedule import read_schedule


def at(moment: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)


@pytest.mark.parametrize(
    ("schedule", "moment", "due"),
    [
        # 2024-01-06 was a Saturday.
        ("30 2 * * 6", "2024-01-06 02:30", True),
        ("30 2 * * 6", "2024-01-07 02:30", False),
        ("30 2 * * 0", "2024-01-07 02:30", True),
        ("30 2 * * 7", "2024-01-07 02:30", True),
        ("*/20 1-3 * * *", "2024-01-07 03:40", True),
        ("*/20 1-3 * * *", "2024-01-07 03:30", False),
        ("5/20 * * * *", "2024-01-07 00:45", True),
        ("0 0 1,15 * *", "2024-01-15 00:00", True),
        # Both days restricted: either will do.
        ("0 0 1 * 6", "2024-01-06 00:00", True),
        ("0 0 1 * 6", "2024-02-01 00:00", True),
        ("0 0 1 * 6", "2024-02-02 00:00", False),
    ],
)
def test_schedule(schedule: str, moment: str, due: bool) -> None:
    assert read_schedule(schedule).is_due(at(moment)) is due


@pytest.mark.parametrize(
    ("schedule", "wrong"),
    [
        ("daily", "has 1 fields instead of 5"),
        ("60 * * * *", "minute '60' is not within 0 to 59"),
        ("* * 0 * *", "day '0' is not within 1 to 31"),
        ("* 5-2 * * *", "hour '5-2'"),
        ("*/0 * * * *", "minute '*/0'"),
        ("* * * jan *", "month 'jan' is not a list of numbers"),
    ],
)
def test_a_wrong_schedule_names_its_field(schedule: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=r".*") as raised:
        read_schedule(schedule)
    assert wrong in str(raised.value)


def test_a_comparison_is_due_once_in_its_minute() -> None:
    due = VerifyDue(read_schedule("30 2 * * *"))
    moments = ("02:29:59", "02:30:00", "02:30:01", "02:30:59", "02:31:00")
    assert [due.is_now(at(f"2024-01-06 {each}")) for each in moments] == [False, True, False, False, False]
    assert due.is_now(at("2024-01-07 02:30:10"))


def said(**changes: Any) -> dict[str, Any]:
    """The engine's word."""
    return {
        "run": 1,
        "running": True,
        "repair": False,
        "files": 3,
        "bytes": 9000,
        "found": 0,
        "repaired": 0,
        "resync": False,
        "stopped": None,
        "findings": [],
        **changes,
    }


def watch(*words: dict[str, Any], in_sync: bool = True) -> tuple[VerificationWatch, list[tuple[str, str]]]:
    """What the watch tells of these, one second apart."""
    now = iter(range(1000, 2000))
    events = EventLog()
    watching = VerificationWatch(events, lambda: float(next(now)))
    for word in words:
        watching.observe(word, in_sync=in_sync)
    return watching, [(event.code, event.message) for event in events]


def test_equal_trees_are_told_once() -> None:
    watching, events = watch(said(), said(), said(running=False), said(running=False))
    assert [code for code, _ in events] == ["VerifyBegun", "VerifyDone"]
    assert "3 files, 9000 bytes" in events[-1][1]
    assert watching.current is not None
    assert (watching.current.begun, watching.current.ended) == (1000.0, 1001.0)


def test_a_difference_is_told_with_path_and_place() -> None:
    finding = {"volume": "data", "path": "base/1", "what": "content", "offset": 8192, "len": 4096}
    finding |= {"detail": "", "repaired": False}
    _, events = watch(said(), said(running=False, found=1, findings=[finding]))
    assert [code for code, _ in events] == ["VerifyBegun", "VerifyFoundDifferences"]
    assert "data/base/1 (content at 8192, 4096 bytes)" in events[-1][1]


def test_one_that_was_over_before_it_was_seen_and_one_that_did_not_come_to_its_end() -> None:
    _, events = watch(said(running=False), said(run=2, running=False, stopped="the peer was lost"))
    assert [code for code, _ in events] == ["VerifyBegun", "VerifyDone", "VerifyBegun", "VerifyIncomplete"]


def test_names_are_repaired_when_the_resynchronisation_has_ended_and_stay_so() -> None:
    finding = {
        "volume": "data",
        "path": "gone",
        "what": "missing",
        "offset": 0,
        "len": 0,
        "detail": "",
        "repaired": False,
    }
    over = said(running=False, repair=True, resync=True, found=1, findings=[finding])
    watching, events = watch(said(repair=True), over, over, in_sync=False)
    assert "names differ: a full resynchronisation follows" in events[-1][1]
    assert watching.current is not None
    assert (watching.current.resync, watching.current.repaired) == (True, 0)
    # In sync from before the resynchronisation has begun counts for nothing.
    watching, _ = watch(said(repair=True), over)
    assert watching.current is not None
    assert watching.current.resync
    watching, _ = watch(said(repair=True), over, *[over] * 3)
    assert watching.current is not None
    assert (watching.current.resync, watching.current.repaired) == (False, 1)
    assert watching.current.differences[0].repaired
    watching.observe(over, in_sync=False)
    assert not watching.current.resync
