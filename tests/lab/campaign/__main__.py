"""``python -m tests.lab.campaign``: power cuts of a replicated pair under real applications.

Each case is drawn from the seed and its number; ``--seed S --only NUMBER`` repeats it.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path

from tests.lab.campaign.applications import Templates
from tests.lab.campaign.case import APPLICATIONS, FILE_SYSTEMS, Case, draw
from tests.lab.campaign.run import Result, run_case
from tests.lab.disk import kernel_has


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.lab.campaign", description=__doc__)
    made.add_argument("--cuts", type=int, default=100, help="how many power cuts at least (default 100)")
    made.add_argument("--seed", type=int, help="repeats an earlier campaign (default: drawn and printed)")
    made.add_argument("--only", type=int, nargs="+", metavar="NUMBER", help="only these cases")
    made.add_argument(
        "--file-systems", nargs="+", choices=FILE_SYSTEMS, help="default: those that this kernel has"
    )
    made.add_argument("--applications", nargs="+", choices=APPLICATIONS, default=APPLICATIONS)
    made.add_argument("--jobs", type=int, default=2, help="cases at a time (default 2)")
    made.add_argument("--verbose", action="store_true", help="what happened in each case")
    return made


def main(argv: list[str] | None = None) -> int:
    """Run the campaign; 1 when a case failed, 2 when a file system is not there."""
    arguments = parser().parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    there = [name for name in FILE_SYSTEMS if kernel_has(name)]
    file_systems = tuple(arguments.file_systems or there)
    for name in file_systems:
        if name not in there:
            print(f"--file-systems: this kernel has no {name}, or mkfs.{name} is missing", file=sys.stderr)
            return 2
    numbers = iter(arguments.only) if arguments.only else itertools.count()
    cases = (draw(seed, number, file_systems, tuple(arguments.applications)) for number in numbers)
    repeat = f"python -m tests.lab.campaign --seed {seed} --file-systems {' '.join(file_systems)}"
    if tuple(arguments.applications) != APPLICATIONS:
        repeat += f" --applications {' '.join(arguments.applications)}"
    print(f"campaign: {repeat}", flush=True)
    wanted = None if arguments.only else arguments.cuts
    begun = time.monotonic()
    results = []
    for result in _results(cases, wanted, arguments.jobs):
        results.append(result)
        _tell(result, repeat, verbose=arguments.verbose)
    _summary(results, time.monotonic() - begun)
    return 1 if any(result.failure for result in results) else 0


def _results(cases: Iterator[Case], wanted: int | None, jobs: int) -> Iterator[Result]:
    """The cases' results as they come, until there are so many cuts. Each job is a process of its own: whoever passes
    a node's stream on must not wait for the application of another case."""
    cuts = 0
    running: set[Future[Result]] = set()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory(prefix="twinhull-campaign-") as name:
        templates = Path(name)
        templates.chmod(0o711)
        Templates(templates).postgresql()
        with ProcessPoolExecutor(jobs, mp_context=context) as pool:
            while True:
                while len(running) < jobs and (wanted is None or cuts < wanted):
                    case = next(cases, None)
                    if case is None:
                        break
                    running.add(pool.submit(run_case, case, templates))
                if not running:
                    return
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    result = future.result()
                    cuts += result.cuts
                    yield result


def _tell(result: Result, repeat: str, *, verbose: bool) -> None:
    state = "FAILED" if result.failure else "ok"
    print(
        f"{state} {result.case}: {result.cuts} cuts, {result.acknowledged} acknowledged, {result.seconds:.1f} s",
        flush=True,
    )
    if verbose or result.failure:
        print("\n".join(f"    {line}" for line in result.story), flush=True)
    if result.failure:
        print(f"{result.failure}\nrepeat with: {repeat} --only {result.case.number}", flush=True)


def _summary(results: list[Result], seconds: float) -> None:
    cuts = sum(result.cuts for result in results)
    failed = [result for result in results if result.failure]
    lost = sum("LOST" in result.failure for result in failed)
    acknowledged = sum(result.acknowledged for result in results)
    print(
        f"{cuts} power cuts in {len(results)} cases, {seconds / 60:.1f} min ({cuts * 60 / seconds:.1f} a minute):"
        f" {acknowledged} acknowledged operations, {lost} cases with one lost, {len(failed)} failed"
    )
    by_application = Counter[str]()
    for result in results:
        by_application[f"{result.case.application} on {result.case.file_system}"] += result.cuts
    print(", ".join(f"{name}: {count}" for name, count in sorted(by_application.items())))


if __name__ == "__main__":
    sys.exit(main())
