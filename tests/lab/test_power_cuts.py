"""A few random power cuts in every test run; ``make soak`` does many.

``TWINHULL_POWER_CUTS`` says how many, ``TWINHULL_SEED`` repeats a run's moments.
"""

from __future__ import annotations

import os
import random
import statistics

import pytest

from tests.lab.load import load
from tests.lab.pair import pair_of_nodes
from tests.lab.power_cuts import Course
from tests.lab.report import figure

CUTS = int(os.environ.get("TWINHULL_POWER_CUTS", "4"))
SEED = int(os.environ.get("TWINHULL_SEED") or random.SystemRandom().randrange(1 << 32))
SECONDS_PER_CUT = 90


@pytest.mark.timeout(120 + CUTS * SECONDS_PER_CUT)
def test_power_cuts_at_random_moments_lose_nothing() -> None:
    figure(f"{CUTS} power cuts, TWINHULL_SEED={SEED}")
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair, seed=SEED) as clients:
            course = Course(pair, clients, SEED)
            for _ in range(CUTS):
                course.cut_once()
        answers = clients.acknowledged()
    median = statistics.median(course.announced)
    figure(
        f"{CUTS} cuts: {answers} acknowledged records, 0 lost; VIP announced after {median:.2f} s (median)"
    )
