"""Power cuts at random moments under load, the victim alternating; every acknowledged record is checked each time."""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field

from tests.lab.load import Load
from tests.lab.pair import Pair
from tests.lab.report import show_timeline
from tests.lab.trees import assert_trees_equal


@dataclass
class Course:
    """A series of cuts on one pair; ``seed`` decides their moments."""

    pair: Pair
    clients: Load
    seed: int
    cuts: int = 0
    #: Seconds from the cut to the announcement of the address, for each cut of a primary.
    announced: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def cut_once(self) -> None:
        """One cut and the victim's return. Fails when a record is lost or the trees differ."""
        pair, clients = self.pair, self.clients
        self.cuts += 1
        primary = pair.wait_redundant()
        # Every other cut hits the primary, the others the secondary.
        victim = primary if self.cuts % 2 else pair.other(primary)
        survivor = pair.other(victim)
        clients.wait_for_more(10)
        time.sleep(self._random.uniform(0, 2))

        moment = pair.power_cut(victim)
        status = pair.wait_serving(survivor, 15)
        clients.wait_for_more(10)
        if victim == primary:
            title = f"cut {self.cuts}, primary {victim}"
            self.announced.append(show_timeline(title, moment, status, clients.history()))
        clients.check()

        clients.resume()
        # Sometimes it comes back at once, sometimes after the survivor has gone far ahead.
        time.sleep(self._random.uniform(0, 2))
        pair.boot(victim)
        assert pair.wait_redundant() == survivor
        clients.check()
        assert_trees_equal(pair)
        clients.resume()
