"""Plans by seed, running many of them, and shrinking a failing one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from tests.simulation.faults import TIMEOUTS, draw
from tests.simulation.history import History, Plan, Result

#: Votes, tests, fencing; and how often each is drawn.
_WITNESSES = (
    (0, 0, False),
    (1, 0, False),
    (3, 0, False),
    (0, 1, False),
    (1, 1, False),
    (0, 0, True),
    (1, 0, True),
)
_OFTEN = (10, 5, 1, 1, 1, 2, 1)


def plan_of(seed: int) -> Plan:
    """The plan that belongs to a seed."""
    rng = random.Random(seed)
    witness = "Wait" if rng.random() < 0.15 else "Continue"
    preferred = rng.choice((None, None, "a", "b"))
    timeouts = (1.0, 1.0) if rng.random() < 0.7 else (rng.choice(TIMEOUTS), rng.choice(TIMEOUTS))
    has_vip = rng.random() < 0.85
    failover = "Manual" if rng.random() < 0.04 else "Automatic"
    failback = "Automatic" if preferred is not None and rng.random() < 0.4 else "Manual"
    votes, tests, fencing = _WITNESSES[rng.choices(range(len(_WITNESSES)), _OFTEN)[0]]
    return Plan(
        seed,
        draw(seed),
        witness,
        preferred,
        timeouts,
        has_vip,
        failover,
        failback,
        startup=rng.choice((0.0, 0.0, 0.0, 2.5)),
        disagree=failback == "Manual" and rng.random() < 0.08,
        votes=votes,
        tests=tests,
        fencing=fencing,
    )


def replay(plan: Plan) -> Result:
    """One history with its trace."""
    return History(plan, trace=True).run()


def explore(histories: int, seed: int, **changes: Any) -> Iterator[Result]:
    """Run the histories of ``histories`` seeds from ``seed`` on, with ``changes`` to each plan."""
    for each in range(seed, seed + histories):
        yield History(replace(plan_of(each), **changes)).run()


def _kind(violation: str | None) -> str:
    return "" if violation is None else violation.split(":")[0]


def shrink(result: Result) -> tuple[Plan, str]:
    """The failing plan without the faults that it does not need, and what then fails."""
    plan, violation = result.plan, result.violation or ""
    again = True
    while again:
        again = False
        for index in range(len(plan.faults)):
            fewer = replace(plan, faults=plan.faults[:index] + plan.faults[index + 1 :])
            outcome = History(fewer).run()
            if _kind(outcome.violation) == _kind(violation):
                plan, violation, again = fewer, outcome.violation or "", True
                break
    return plan, violation
