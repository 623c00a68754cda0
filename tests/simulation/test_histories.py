"""The decision under thousands of random histories; ``python -m tests.simulation`` runs more and shrinks failures."""

from __future__ import annotations

import pytest

from tests.simulation import mutants
from tests.simulation.explore import explore, plan_of, replay, shrink

HISTORIES = 2000


@pytest.mark.parametrize("part", range(4))
def test_invariants_hold(part: int) -> None:
    """R1-R7, M1, M2 and liveness; a failure names the seed and the fewest faults that still fail."""
    size = HISTORIES // 4
    for result in explore(size, 1 + part * size):
        if result.violation is not None:
            plan, violation = shrink(result)
            faults = "\n".join(str(fault) for fault in plan.faults)
            pytest.fail(
                f"seed {plan.seed}: {violation}\n{faults}\npython -m tests.simulation --replay {plan.seed}"
            )


def test_a_seed_gives_the_same_history_again() -> None:
    one, two = replay(plan_of(11)), replay(plan_of(11))
    assert one.log == two.log
    assert one.acknowledged == two.acknowledged > 0


@pytest.mark.parametrize("rule", mutants.QUICK)
def test_a_missing_rule_is_noticed(rule: str) -> None:
    """Some of ``python -m tests.simulation --mutants``: those that are noticed soon."""
    mutant = next(each for each in mutants.MUTANTS if each.rule == rule)
    assert mutants.caught(mutant, 600, 1) is not None
