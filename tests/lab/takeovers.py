"""How long a takeover takes, step by step: the primary's power is cut over and over and each step is timed."""

from __future__ import annotations

import json
import math
import random
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.lab.load import Load
from tests.lab.pair import Pair
from twinhull_sidecar.api import sidecar_pb2 as pb

STEPS: Mapping[str, str] = {
    "peer_lost": "last sign of life",
    "lease_over": "lost node's lease over",
    "vip_probed": "VIP probed",
    "detected": "detected",
    "recorded": "recorded",
    "promoted": "volumes mounted",
    "vip_announced": "VIP announced",
    "application_started": "application started",
    "application_ready": "application ready",
    "first_write": "first write acknowledged",
    "first_answer": "first answer to a client",
}


@dataclass
class Takeovers:
    """A series of cuts of whichever node serves; ``seed`` decides their moments."""

    pair: Pair
    clients: Load
    seed: int
    #: Seconds after the cut of each step, one entry a cut.
    steps: list[dict[str, float]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(self.seed)

    def cut_once(self) -> dict[str, float]:
        """Cut the primary, follow the takeover to the first answer, bring the victim back."""
        pair, clients = self.pair, self.clients
        victim = pair.wait_redundant()
        survivor = pair.other(victim)
        clients.wait_for_more(5)
        time.sleep(self._random.uniform(0, 0.5))
        moment = pair.power_cut(victim)
        pair.wait_serving(survivor, 30)

        def written() -> pb.Timeline | None:
            line = pair[survivor].status().last_failover
            return line if line.first_write else None

        line = pair.wait("the first write", written, 30)
        answered = pair.wait(
            "an answer", lambda: clients.history().first_ack_after(max(moment, line.detected)), 30
        )
        found = {step: getattr(line, step) - moment for step in STEPS if getattr(line, step, 0.0)}
        found["first_answer"] = answered - moment
        self.steps.append(found)
        pair.boot(victim)
        return found

    def times(self, step: str) -> list[float]:
        """Of every cut that reached the step, sorted."""
        return sorted(found[step] for found in self.steps if step in found)

    def table(self) -> str:
        """Median, 99th percentile and longest of each step."""
        lines = [f"{'seconds after the cut':<26}{'median':>8}{'p99':>8}{'longest':>9}"]
        for step, words in STEPS.items():
            if times := self.times(step):
                figures = statistics.median(times), percentile(times, 99), times[-1]
                lines.append(f"{words:<26}{figures[0]:>8.3f}{figures[1]:>8.3f}{figures[2]:>9.3f}")
        return "\n".join(lines)

    def write(self, path: Path) -> None:
        """Every figure, as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        timeout = self.pair.config.detection_timeout
        path.write_text(json.dumps({"detection_timeout": timeout, "seed": self.seed, "cuts": self.steps}))


def percentile(times: Sequence[float], share: float) -> float:
    """The smallest of sorted ``times`` that ``share`` percent of them do not exceed (nearest rank)."""
    return times[max(0, math.ceil(len(times) * share / 100) - 1)]
