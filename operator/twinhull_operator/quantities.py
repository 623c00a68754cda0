"""Durations and quantities as Kubernetes writes them, as plain numbers."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_DURATION_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": Decimal("0.001"), "s": Decimal(1), "m": Decimal(60), "h": Decimal(3600)}
_TIME_OF_DAY: Final = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")
_QUANTITY: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(Ki|Mi|Gi|Ti|Pi|Ei|m|k|M|G|T|P|E|[eE][0-9]+)?")
_FACTORS: Final = {
    **{unit: Decimal(1024) ** power for power, unit in enumerate(("Ki", "Mi", "Gi", "Ti", "Pi", "Ei"), 1)},
    **{unit: Decimal(1000) ** power for power, unit in enumerate(("k", "M", "G", "T", "P", "E"), 1)},
    "m": Decimal("0.001"),
}


def parse_duration(text: str) -> float:
    """Seconds of a duration such as ``500ms``, ``3s`` or ``1m30s`` (Go's time.ParseDuration). Raises
    ValueError.
    """
    parts = _DURATION_PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is not a duration such as 3s")
    return float(sum(Decimal(number) * _SECONDS[unit] for number, unit in parts))


def parse_quantity(value: int | str) -> int:
    """The whole number of a resource quantity such as ``100Mi`` or ``1e9``. Raises ValueError."""
    match = _QUANTITY.fullmatch(str(value))
    if match is None:
        raise ValueError(f"{value!r} is not a quantity such as 100Mi")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix[:1] in ("e", "E") and suffix[1:].isdigit():
        return int(number * Decimal(10) ** int(suffix[1:]))
    return int(number * _FACTORS.get(suffix, Decimal(1)))


def parse_time_of_day(text: str) -> int:
    """Minutes since midnight of a time such as ``02:30``. Raises ValueError."""
    match = _TIME_OF_DAY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a time such as 02:30")
    return 60 * int(match[1]) + int(match[2])
