"""What one case of the campaign does: drawn from the campaign's seed and the case's number, and from nothing else."""

from __future__ import annotations

import random
from dataclasses import dataclass

FILE_SYSTEMS = ("ext4", "xfs")
APPLICATIONS = ("sqlite-wal", "sqlite-rollback", "postgresql", "lmdb", "raw")
#: When the power is cut: both nodes in sync; during a resynchronisation; while a node becomes primary; while the
#: primary is alone because the other one is still off.
MOMENTS = ("replication", "resync", "promotion", "alone")
VICTIMS = ("primary", "secondary", "both")


@dataclass(frozen=True)
class Strike:
    """One cut."""

    moment: str
    #: During a promotion the primary is the node that becomes it, the secondary the one that was it.
    victim: str
    #: Operations acknowledged before, and seconds after these.
    operations: int
    delay: float
    #: The connection falls silent instead of being closed.
    silent: bool
    #: Resynchronisation of everything instead of what the journals have.
    full: bool
    #: The promotion is a hand-over instead of a failover.
    orderly: bool


@dataclass(frozen=True)
class Case:
    """Everything about one case."""

    seed: int
    number: int
    file_system: str
    application: str
    durability: str
    #: SQLite's, when it is no WAL.
    journal_mode: str
    cooling_ms: int
    strikes: tuple[Strike, ...]

    def __str__(self) -> str:
        strikes = ", then ".join(f"{strike.victim} during {strike.moment}" for strike in self.strikes)
        return f"case {self.number}: {self.application} on {self.file_system}, {self.durability}: {strikes}"


def _strike(chosen: random.Random, moments: tuple[str, ...]) -> Strike:
    moment = chosen.choice(moments)
    # Alone there is only one node to cut.
    victim = chosen.choice(VICTIMS) if moment != "alone" else "primary"
    return Strike(
        moment=moment,
        victim=victim,
        operations=chosen.randrange(1, 40),
        delay=chosen.uniform(0, 0.4),
        silent=chosen.random() < 0.3,
        full=chosen.random() < 0.5,
        orderly=chosen.random() < 0.5,
    )


def draw(
    seed: int,
    number: int,
    file_systems: tuple[str, ...] = FILE_SYSTEMS,
    applications: tuple[str, ...] = APPLICATIONS,
) -> Case:
    """Case ``number`` of the campaign ``seed``. Every application and file system comes equally often."""
    chosen = random.Random(f"{seed}:{number}")
    first = _strike(chosen, MOMENTS[:3])
    twice = chosen.random() < 0.5
    second = _strike(chosen, MOMENTS)
    return Case(
        seed=seed,
        number=number,
        file_system=file_systems[number // len(applications) % len(file_systems)],
        application=applications[number % len(applications)],
        durability=chosen.choice(("write", "write", "commit")),
        journal_mode=chosen.choice(("DELETE", "TRUNCATE", "PERSIST")),
        cooling_ms=chosen.choice((300, 2000, 60_000)),
        strikes=(first, second) if twice else (first,),
    )
