"""Turns measured runs into ``build/bench.json`` and a table of medians and ratios."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Run:
    """One measurement: the figure that ``system`` reached at ``work``."""

    work: str
    system: str
    unit: str
    value: float


def rows(runs: list[Run]) -> list[dict[str, object]]:
    """One row per work and system: ``work``, ``system``, ``median``, ``unit``, ``runs`` (every single figure)."""
    grouped: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    for run in runs:
        grouped[run.work, run.system, run.unit].append(run.value)
    return [
        {"work": work, "system": system, "median": median(values), "unit": unit, "runs": values}
        for (work, system, unit), values in grouped.items()
    ]


def write(runs: list[Run], path: Path) -> None:
    """Write the rows as JSON, atomically. Rows of other works that the file has already stay in it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text()) if path.exists() else []
    works = {run.work for run in runs}
    kept = [row for row in known if row["work"] not in works]
    draft = path.with_suffix(".tmp")
    draft.write_text(json.dumps(kept + rows(runs), indent=1) + "\n")
    draft.replace(path)


def table(runs: list[Run], ours: str, peer: str, ceiling: str) -> str:
    """A Markdown table: medians of all systems, and our ratio to the peer and to the ceiling."""
    medians: dict[str, dict[str, float]] = defaultdict(dict)
    units: dict[str, str] = {}
    systems: list[str] = []
    for row in rows(runs):
        work, system = str(row["work"]), str(row["system"])
        medians[work][system] = float(str(row["median"]))
        units[work] = str(row["unit"])
        if system not in systems:
            systems.append(system)
    lines = [
        "| work | " + " | ".join(systems) + f" | x {peer} | x {ceiling} |",
        "|---|" + "---|" * (len(systems) + 2),
    ]
    for work, found in medians.items():
        cells = [f"{found[s]:,.0f}" if s in found else "-" for s in systems]
        ratios = [
            f"{found[ours] / found[s]:.2f}" if ours in found and found.get(s) else "-"
            for s in (peer, ceiling)
        ]
        lines.append(f"| {work}, {units[work]} | " + " | ".join(cells + ratios) + " |")
    return "\n".join(lines)
