"""The judge of the lab's histories finds what it must find."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.lab.history import History


def history(tmp_path: Path) -> History:
    log = tmp_path / "history"
    log.write_text(
        "try 0 1 append 1 100.0\nack 0 1 100.1\n"
        "try 0 2 overwrite 0 101.0\nack 0 2 101.1\n"
        "try 0 3 append 0 102.0\n"
        "try 0 4 append 0 103.0\nack 0 4 103.5\n"
        "try 0 5 replace 0 104.0\nack 0 5 104.1\n"
        "try 0 6 overwrite 0 105.0\n"
        "try 0 7 app"
    )
    return History.read(log)


def content(**changes: Any) -> dict[str, Any]:
    return {"ledger": [[0, 1], [0, 4]], "slots": {"0": 2}, "latest": {"0": 5}, "damaged": []} | changes


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ledger": [[0, 1], [0, 3], [0, 4]]},
        {"ledger": [[0, 1], [0, 4], [0, 3]]},
        {"slots": {"0": 6}},
    ],
)
def test_what_may_be_is_accepted(tmp_path: Path, changes: dict[str, Any]) -> None:
    assert history(tmp_path).judge(content(**changes)) == []


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"ledger": [[0, 1]]}, "acknowledged appends are missing: [4]"),
        ({"ledger": [[0, 1], [0, 4], [0, 4]]}, "more than once: [4]"),
        ({"ledger": [[0, 4], [0, 1]]}, "out of order"),
        ({"ledger": [[0, 1], [0, 4], [0, 9]]}, "nobody sent: [9]"),
        ({"slots": {}}, "overwrite 2 is lost"),
        ({"slots": {"0": 1}}, "overwrite shows 1, not 2"),
        ({"latest": {"0": 4}}, "replace shows 4, not 5"),
        ({"damaged": ["ledger: damaged record b'0 1'"]}, "damaged record"),
    ],
)
def test_what_must_not_be_is_found(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    [wrong] = history(tmp_path).judge(content(**changes))
    assert complaint in wrong


def test_gaps_and_first_answers(tmp_path: Path) -> None:
    assert history(tmp_path).longest_gap() == pytest.approx(2.4)
    assert history(tmp_path).first_ack_after(102.5) == pytest.approx(103.5)
    assert history(tmp_path).first_ack_after(200) is None


def test_a_log_is_followed_as_it_grows(tmp_path: Path) -> None:
    log = tmp_path / "history"
    log.write_text("try 0 1 append 1 100.0\nack 0 1 10")
    found = History.read(log)
    assert (found.answers, found.acknowledged()) == (0, [])
    log.write_text("try 0 1 append 1 100.0\nack 0 1 100.5\n")
    found.follow(log)
    found.follow(log)
    assert (found.answers, found.acknowledged()) == (1, [100.5])


def test_after_a_loss_of_both_page_caches_only_an_unsynced_replacement_may_be_torn(tmp_path: Path) -> None:
    log = tmp_path / "history"
    synced = "try 2 1 replace 1 100.0\nack 2 1 100.1\n"
    torn = {"ledger": [], "slots": {}, "latest": {}, "damaged": ["latest-2: damaged record b''"]}
    log.write_text(synced)
    assert History.read(log).synced().judge(torn) == ["client 2: replace 1 is lost"]
    log.write_text(synced + "try 2 2 replace 0 101.0\nack 2 2 101.1\n")
    assert History.read(log).synced().judge(torn) == []
    assert History.read(log).synced().judge(torn | {"damaged": []}) == ["client 2: replace 1 is lost"]
    assert len(History.read(log).judge(torn)) == 2
