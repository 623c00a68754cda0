"""``python -m bench``: measure, interleaved, and write ``build/bench.json``. Parts: the mirror, a return
after an outage, and the farm."""

from __future__ import annotations

import argparse
import os
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import outage, report
from bench.farm.scale import Scale
from bench.farm.sections import SECTIONS
from bench.farm.summary import summary
from bench.systems import open_systems
from bench.works import WORKS


def main() -> int:
    """Entry point; exit status 1 when a system or work failed (the others are still measured and reported)."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--part", choices=[*PARTS, "all"], default="all", help="what is measured")
    parser.add_argument("--runs", type=int, default=5, help="interleaved runs of each work on each system")
    parser.add_argument("--seconds", type=int, default=4, help="length of one timed run")
    parser.add_argument("--works", default="", help="mirror: only works whose name contains this text")
    parser.add_argument("--systems", default="", help="mirror: only these systems, comma separated")
    parser.add_argument(
        "--sections", default="", help=f"farm: only these of {', '.join(SECTIONS)}, comma separated"
    )
    parser.add_argument(
        "--kills", type=int, default=100, help="farm: kills of the announcer at the default timeout"
    )
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"))
    options = parser.parse_args()
    failures = [PARTS[part](options) for part in PARTS if options.part in {part, "all"}]
    print(f"\nrows: {options.output}")
    return 1 if any(failures) else 0


def mirror(options: argparse.Namespace) -> bool:
    """Every work on every system; whether one of them failed."""
    wanted = {s for s in options.systems.split(",") if s}
    runs: list[report.Run] = []
    failed = False
    with ExitStack() as stack:
        systems = open_systems(stack, wanted)
        works = [work for work in WORKS if options.works in work.name]
        for turn in range(options.runs):
            for work in works:
                for system in systems:
                    os.sync()  # what an earlier run left in the page cache must not be paid by this one
                    started = time.monotonic()
                    try:
                        value = work.run(system.place, options.seconds)
                    except Exception as error:  # one system's failure must not lose the others' figures
                        print(
                            f"run {turn + 1}: {work.name} on {system.name} FAILED: {error}", file=sys.stderr
                        )
                        failed = True
                        continue
                    runs.append(report.Run(work.name, system.name, work.unit, value))
                    took = time.monotonic() - started
                    where = f"run {turn + 1}/{options.runs}: {work.name}: {system.name}"
                    print(f"{where}: {value:,.0f} {work.unit} ({took:.0f} s)", flush=True)
            report.write(runs, options.output)
    print("\nmedians and ratios of twinhull (replicating):\n")
    print(report.table(runs, ours="twinhull", peer="GlusterFS", ceiling="twinhull-alone"))
    return failed


def farm(options: argparse.Namespace) -> bool:
    """Every section of the farm; whether one of them failed."""
    wanted = {s for s in options.sections.split(",") if s}
    scale = Scale(options.runs, options.seconds, options.kills)
    runs: list[report.Run] = []
    failed = False
    for name, measure in SECTIONS.items():
        if wanted and name not in wanted:
            continue
        try:
            for run in measure(scale):
                runs.append(run)
                print(f"{name}: {run.work}: {run.system}: {run.value:,.2f} {run.unit}", flush=True)
        except Exception as error:  # one section's failure must not lose the others' figures
            print(f"{name} FAILED: {type(error).__name__}: {error}", file=sys.stderr)
            failed = True
        report.write(runs, options.output)
    print(f"\n{summary(runs)}")
    return failed


PARTS = {"mirror": mirror, "outage": outage.measure, "farm": farm}


if __name__ == "__main__":
    sys.exit(main())
