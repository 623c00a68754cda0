"""``python -m tests.lab.soak``: power cuts over and over; on a failure the logs and the history are kept."""

from __future__ import annotations

import argparse
import itertools
import random
import shutil
import statistics
import sys
import time
from pathlib import Path

from tests.lab.load import Load, load
from tests.lab.pair import Pair, pair_of_nodes
from tests.lab.power_cuts import Course
from tests.lab.steadiness import Steadiness
from tests.lab.takeovers import Takeovers


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(prog="python -m tests.lab.soak", description=__doc__)
    made.add_argument(
        "--cuts", type=int, default=50, help="how many power cuts; 0: until interrupted (default 50)"
    )
    made.add_argument(
        "--takeovers", type=int, default=0, help="instead cut the primary so many times and time each step"
    )
    made.add_argument(
        "--steady", type=float, default=0, help="instead cut nothing for so many minutes under full load"
    )
    made.add_argument("--seed", type=int, help="repeats the moments of an earlier run")
    made.add_argument("--clients", type=int, default=4, help="clients at a time (default 4)")
    made.add_argument("--detection-timeout", type=float, default=3.0, help="seconds (default 3)")
    made.add_argument(
        "--keep", type=Path, default=Path("build"), help="where a failure's logs go (default build)"
    )
    return made


def main(argv: list[str] | None = None) -> int:
    """Run until the cuts are done, one failed (exit code 1), or the user has enough."""
    arguments = parser().parse_args(argv)
    seed = random.SystemRandom().randrange(1 << 32) if arguments.seed is None else arguments.seed
    if arguments.takeovers:
        return _takeovers(arguments, seed)
    if arguments.steady:
        return _steady(arguments, seed)
    wanted = f"{arguments.cuts} power cuts" if arguments.cuts else "power cuts until interrupted"
    print(f"{wanted}, --seed {seed}", flush=True)
    with pair_of_nodes(detection_timeout=arguments.detection_timeout) as pair:
        pair.start()
        with load(pair, arguments.clients, seed) as clients:
            course = Course(pair, clients, seed)
            try:
                for _ in range(arguments.cuts) if arguments.cuts else itertools.count():
                    began = time.monotonic()
                    course.cut_once()
                    print(
                        f"cut {course.cuts} survived and mended in {time.monotonic() - began:.1f} s",
                        flush=True,
                    )
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            except AssertionError as error:
                _keep(pair, arguments.keep / f"soak-{seed}")
                print(
                    f"FAILED at cut {course.cuts}: {error}\nlogs in {arguments.keep}/soak-{seed}",
                    file=sys.stderr,
                )
                return 1
        _summary(course, clients)
    return 0


def _takeovers(arguments: argparse.Namespace, seed: int) -> int:
    timeout = arguments.detection_timeout
    print(f"{arguments.takeovers} takeovers, detection timeout {timeout:g} s, --seed {seed}", flush=True)
    with pair_of_nodes(detection_timeout=timeout) as pair:
        pair.start()
        with load(pair, arguments.clients, seed) as clients:
            course = Takeovers(pair, clients, seed)
            try:
                for number in range(1, arguments.takeovers + 1):
                    steps = course.cut_once()
                    text = ", ".join(f"{name} {seconds:.3f}" for name, seconds in steps.items())
                    print(f"{number}: {text}", flush=True)
                pair.wait_redundant()
                clients.check()
            except KeyboardInterrupt:
                print("interrupted", flush=True)
            except AssertionError as error:
                _keep(pair, arguments.keep / f"soak-{seed}")
                print(f"FAILED: {error}\nlogs in {arguments.keep}/soak-{seed}", file=sys.stderr)
                return 1
            finally:
                course.write(arguments.keep / "takeovers.json")
                print(course.table(), flush=True)
    return 0


def _steady(arguments: argparse.Namespace, seed: int) -> int:
    timeout, minutes = arguments.detection_timeout, arguments.steady
    print(f"{minutes:g} minutes of full load, detection timeout {timeout:g} s", flush=True)
    with pair_of_nodes(detection_timeout=timeout) as pair:
        pair.start()
        with load(pair, arguments.clients, seed) as clients:
            course = Steadiness(pair)
            try:
                course.watch(minutes * 60)
                answers = len(clients.check().acknowledged())
            except AssertionError as error:
                _keep(pair, arguments.keep / f"soak-{seed}")
                print(f"FAILED: {error}\nlogs in {arguments.keep}/soak-{seed}", file=sys.stderr)
                return 1
    print(
        f"no false alarm in {course.looks} looks ({course.unanswered} unanswered); longest silence "
        f"{course.longest_silence:.1f} s; {course.replicated_bytes >> 20} MiB replicated, {answers} answers, 0 lost"
    )
    return 0


def _keep(pair: Pair, target: Path) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in [*pair.directory.glob("*.log"), pair.directory / "history"]:
        shutil.copy(path, target)
    for node in pair.nodes.values():
        record = node.base / "state" / "record.json"
        if record.exists():
            shutil.copy(record, target / f"record-{node.name}.json")


def _summary(course: Course, clients: Load) -> None:
    answers = clients.acknowledged()
    print(f"{course.cuts} cuts: {answers} acknowledged records, 0 lost, trees equal after each return")
    if course.announced:
        times = sorted(course.announced)
        print(
            f"VIP announced after the cut: median {statistics.median(times):.2f} s, longest {times[-1]:.2f} s"
        )


if __name__ == "__main__":
    sys.exit(main())
