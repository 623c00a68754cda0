"""What ``python -m bench --part farm`` measures, section by section."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.farm.balance import balance
from bench.farm.cost import cost
from bench.farm.failover import failover, others_failover
from bench.farm.scale import Scale
from bench.farm.speed import speed
from bench.report import Run

#: Each gives every figure as soon as it is measured.
SECTIONS: dict[str, Callable[[Scale], Iterator[Run]]] = {
    "balance": balance,
    "speed": speed,
    "cost": cost,
    "failover": failover,
    "keepalived": others_failover,
}
