"""A verdict changes after so many results in a row, and not before."""

from __future__ import annotations

import pytest

from twinhull_sidecar.checkers.verdict import Verdict, judge


@pytest.mark.parametrize(
    ("results", "rise", "fall", "verdicts"),
    [
        ("+", 1, 2, "+"),
        ("++", 2, 2, "-+"),
        ("+-+-+", 1, 2, "+++++"),
        ("+--", 1, 2, "++-"),
        ("+-", 1, 1, "+-"),
        ("++-+--+-+++", 3, 2, "----------+"),
        ("+++---+++", 3, 3, "--+++---+"),
    ],
)
def test_rise_and_fall(results: str, rise: int, fall: int, verdicts: str) -> None:
    verdict, seen = Verdict(), ""
    for result in results:
        verdict = judge(verdict, result == "+", rise, fall)
        seen += "+" if verdict.passing else "-"
    assert seen == verdicts
