"""Time limits (a test that hangs costs itself and is named, also when it cannot be interrupted), and the figures."""

from __future__ import annotations

import faulthandler
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.figures import FIGURES

UNIT = Path(__file__).parent / "unit"
#: Where real processes, kernels and clusters share the machine with the tests.
REAL = tuple(Path(__file__).parent / name for name in ("lab", "e2e"))
#: What a test there says when something was not true *in time*. Only such a failure is tried a second time, and is
#: listed as RERUN; what was lost, unequal, refused or answered wrongly fails at once.
TOO_LATE = (
    r"not within|within \d+ s|still not|do not end",
    r"^(TimeoutError|TimeoutExpired|Failed: Timeout)",
    r"assert \(*-?\d+\.\d+ ([-<>]|<=|>=) ",
)
UNIT_LIMIT = 60.0
#: Seconds that a test has beyond its limit to fail and to tear its fixtures down. pytest-timeout's signal is sent only
#: once, and reaches neither a call that blocks outside Python nor a callback of asyncio's.
PATIENCE = 60.0


STDERR = pytest.StashKey[int]()


def pytest_configure(config: pytest.Config) -> None:
    """Keep the real standard error: while a test runs, pytest's capture stands in its place."""
    config.stash[STDERR] = os.dup(2)


def pytest_unconfigure(config: pytest.Config) -> None:
    """See pytest_configure."""
    os.close(config.stash[STDERR])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the figures below the results, where they are seen without ``-s``."""
    if FIGURES:
        terminalreporter.section("figures")
        for line in FIGURES:
            terminalreporter.line(line)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Unit tests neither sleep nor wait for a machine: a minute is long. What is too late once has a second try."""
    for item in items:
        if any(item.path.is_relative_to(folder) for folder in REAL):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=list(TOO_LATE)))
        if item.path.is_relative_to(UNIT) and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(UNIT_LIMIT))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    """End the run when a test goes on long after its limit, and say which one it was."""
    limit = _limit(item)
    if not limit:
        return (yield)
    if item.get_closest_marker("flaky") is not None:
        limit *= 2
    watchdog = threading.Timer(limit + PATIENCE, _end, [item, limit])
    watchdog.daemon = True
    watchdog.start()
    try:
        return (yield)
    finally:
        watchdog.cancel()


def _limit(item: pytest.Item) -> float:
    marker = item.get_closest_marker("timeout")
    if marker is not None:
        return float(marker.args[0] if marker.args else marker.kwargs["timeout"])
    return float(item.config.getoption("timeout") or item.config.getini("timeout") or 0)


def _end(item: pytest.Item, limit: float) -> None:
    stderr = item.config.stash[STDERR]
    faulthandler.dump_traceback(stderr)
    # Last, so that it stands in the tail of a log.
    message = (
        f"FAILED {item.nodeid} - went on {PATIENCE:g} s after its limit of {limit:g} s; the run ends here"
    )
    os.write(stderr, f"\n{message}\n".encode())
    os._exit(1)
