"""``python -m tests.simulation --histories N --seed S``: run histories, print and shrink failures, exit 1 on any."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator

from tests.simulation import mutants
from tests.simulation.explore import explore, plan_of, replay, shrink
from tests.simulation.history import Result

#: Histories that a process runs before it reports.
CHUNK = 50
#: Seconds between two lines that say how far it is.
PROGRESS = 60.0


def main() -> int:
    """Command line; see --help."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--histories", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1, help="seed of the first history; the others follow")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--replay", type=int, metavar="SEED", help="run one history and print its trace")
    parser.add_argument("--no-shrink", action="store_true")
    parser.add_argument(
        "--mutants", action="store_true", help="remove one rule at a time; each must be caught"
    )
    options = parser.parse_args()
    if options.mutants:
        return mutants.main(options.histories, options.seed, options.jobs)
    if options.replay is not None:
        result = replay(plan_of(options.replay))
        print("\n".join(result.log))
        print(result.violation or "no violation")
        return 1 if result.violation else 0
    return _run(options.histories, options.seed, options.jobs, shrinks=not options.no_shrink)


def _run(histories: int, seed: int, jobs: int, *, shrinks: bool) -> int:
    begun = said = time.monotonic()
    failures = done = acknowledged = promotions = 0
    for count, results in _chunks(histories, seed, jobs):
        done += count
        for result in results:
            acknowledged += result.acknowledged
            promotions += result.promotions
            if result.violation is not None:
                failures += 1
                _show(result, shrinks=shrinks)
        if time.monotonic() - said > PROGRESS:
            said = time.monotonic()
            print(f"{done} of {histories} histories, {failures} failed, {said - begun:.0f} s", flush=True)
    took = time.monotonic() - begun
    print(
        f"{done} histories from seed {seed}: {failures} failed; "
        f"{acknowledged} writes acknowledged, {promotions} promotions, {took:.1f} s"
    )
    return 1 if failures else 0


def _chunks(histories: int, seed: int, jobs: int) -> Iterator[tuple[int, list[Result]]]:
    """The results chunk by chunk, in no order; those without a violation are summed up to one."""
    work = [(min(CHUNK, histories - start), seed + start) for start in range(0, histories, CHUNK)]
    if jobs == 1:
        yield from map(_chunk, work)
        return
    with multiprocessing.Pool(jobs) as pool:
        yield from pool.imap_unordered(_chunk, work)


def _chunk(work: tuple[int, int]) -> tuple[int, list[Result]]:
    count, seed = work
    total, found = Result(plan_of(seed)), []
    for result in explore(count, seed):
        if result.violation is not None:
            found.append(result)
        else:
            total.acknowledged += result.acknowledged
            total.promotions += result.promotions
    return count, [total, *found]


def _show(result: Result, *, shrinks: bool) -> None:
    print(f"seed {result.plan.seed}: {result.violation}")
    if shrinks:
        small, violation = shrink(result)
        print(f"  shrunk to {len(small.faults)} faults ({small.without_witness}): {violation}")
        for fault in small.faults:
            print(f"    {fault}")
    print(f"  replay: python -m tests.simulation --replay {result.plan.seed}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
