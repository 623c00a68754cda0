"""From single results to a verdict: it changes only after so many results in a row. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """``against``: how many results in a row, up to now, contradict ``passing``."""

    passing: bool = False
    against: int = 0


def judge(verdict: Verdict, result: bool, rise: int, fall: int) -> Verdict:
    """The verdict after one more result: ``rise`` successes in a row make it pass, ``fall`` failures fail."""
    if result == verdict.passing:
        return Verdict(verdict.passing)
    against = verdict.against + 1
    if against >= (rise if result else fall):
        return Verdict(result)
    return Verdict(verdict.passing, against)
