"""How far the division of 10,000 client addresses is off the weights."""

from __future__ import annotations

from collections.abc import Iterator

from bench.farm.scale import Scale
from bench.report import Run
from tests.lab.farm_harness import Farm, FarmLab, ask_many, client

CLIENTS = 10_000
CASES = (({"a": 1, "b": 1}, 4), ({"a": 3, "b": 1}, 4), ({"a": 1, "b": 1}, 6))


def balance(scale: Scale) -> Iterator[Run]:
    """One connection from each address; the hash is fixed, so one run tells all (``scale`` is unused)."""
    for weights, version in CASES:
        with FarmLab() as lab:
            farm = Farm(lab, weights=weights).up()
            sources = [client(number, version) for number in range(1, CLIENTS + 1)]
            counts = ask_many(lab, farm.addresses[0 if version == 4 else 1], sources)
            if set(counts) != {"a", "b"}:
                raise RuntimeError(f"somebody was answered otherwise than by one of the nodes: {counts}")
            off = abs(counts["a"] / CLIENTS - weights["a"] / sum(weights.values()))
            work = f"{CLIENTS} IPv{version} clients, weights {weights['a']}:{weights['b']}, off the weights"
            yield Run(work, "twinhull", "%", off * 100)
