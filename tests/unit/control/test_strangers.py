"""Refused datagrams become a problem with its mend, and the problem ends with them."""

from __future__ import annotations

from twinhull_sidecar.control.strangers import SHOWN_FOR, Strangers


def test_a_problem_lasts_as_long_as_the_datagrams_and_a_little() -> None:
    strangers = Strangers()
    assert strangers.problems({}, 0) == ()
    [problem] = strangers.problems({"foreign": 1}, 10)
    assert problem.field == "links"
    assert "another module" in problem.message
    assert strangers.problems({"foreign": 1}, 10 + SHOWN_FOR - 1) == (problem,)
    assert strangers.problems({"foreign": 2}, 10 + SHOWN_FOR) == (problem,)
    assert strangers.problems({"foreign": 2}, 10 + 2 * SHOWN_FOR) == ()


def test_replays_are_no_administrators_business() -> None:
    assert Strangers().problems({"replayed": 5}, 0) == ()
