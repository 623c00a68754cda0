"""How much is measured."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Scale:
    """Interleaved runs of each work, seconds of a timed run, and kills of the announcer at the default timeout."""

    runs: int
    seconds: int
    kills: int
