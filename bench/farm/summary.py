"""The farm's figures as Markdown tables."""

from __future__ import annotations

from collections import defaultdict
from statistics import median

from bench.farm.cost import OWN
from bench.report import Run


def summary(runs: list[Run]) -> str:
    """Medians and ratios of what runs by turns; median, 99th percentile and worst of the failovers."""
    return "\n\n".join(part for part in (_by_turns(runs), _failovers(runs), _balance(runs)) if part)


def _by_turns(runs: list[Run]) -> str:
    lines = [
        "| work | direct | twinhull | HAProxy | twinhull / direct | HAProxy / direct | HAProxy / twinhull |",
        "|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if "failover" not in run.work and "weights" not in run.work:
            found[run.work, run.unit][run.system].append(run.value)
    for (work, unit), values in found.items():
        cells = [
            f"{median(values[one]):,.0f}" if values[one] else "-" for one in ("direct", "twinhull", "HAProxy")
        ]
        pairs = (("twinhull", "direct"), ("HAProxy", "direct"), ("HAProxy", "twinhull"))
        ratios = [_ratio(values[one], values[other], of_medians=work == OWN) for one, other in pairs]
        lines.append(f"| {work}, {unit} | " + " | ".join(cells + ratios) + " |")
    return "\n".join(lines) if found else ""


def _ratio(ours: list[float], theirs: list[float], *, of_medians: bool) -> str:
    """The median of the rounds' ratios: what disturbs a round disturbs both. Of differences, the ratio of medians."""
    if not ours or not theirs:
        return "-"
    if of_medians:
        return f"{median(ours) / median(theirs):.2f}" if median(theirs) > 0 else "-"
    return f"{median(one / other for one, other in zip(ours, theirs, strict=False)):.2f}"


def _failovers(runs: list[Run]) -> str:
    lines = [
        "| failover | kills | median | p99 | worst | survivor's connections | broken |",
        "|---|---|---|---|---|---|---|",
    ]
    found: dict[tuple[str, str], list[Run]] = defaultdict(list)
    for run in runs:
        if run.work.startswith("failover"):
            found[run.work.partition(":")[0], run.system].append(run)
    for (work, system), those in found.items():
        times = sorted(run.value for run in those if run.unit == "ms")
        kept = sum(run.value for run in those if run.unit == "kept")
        broken = sum(run.value for run in those if run.unit == "broken")
        p99 = times[-(-99 * len(times) // 100) - 1]
        name = f"{system}, {work.partition(', ')[2]}"
        figures = f"{median(times):,.0f} ms | {p99:,.0f} ms | {times[-1]:,.0f} ms"
        connections = f"{kept + broken:,.0f} | {broken:,.0f}" if kept + broken else "- | -"
        lines.append(f"| {name} | {len(times)} | {figures} | {connections} |")
    return "\n".join(lines) if found else ""


def _balance(runs: list[Run]) -> str:
    found = [run for run in runs if "weights" in run.work]
    return (
        "\n".join(
            ["| balance | off by |", "|---|---|", *(f"| {one.work} | {one.value:.2f} % |" for one in found)]
        )
        if found
        else ""
    )
