"""Runs the configured checkers while the application runs, and keeps their verdicts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from twinhull_sidecar.checkers import http, tcp
from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.checkers.verdict import Verdict, judge
from twinhull_sidecar.config import Checker

#: While an application comes up it is asked more often than its checker's interval says.
EAGER = 0.2
NOT_RUNNING = "the application does not run"


@dataclass(frozen=True)
class CheckState:
    """One checker's verdict; ``detail``: what the last check found; ``fresh``: it has not passed since the start."""

    name: str
    passing: bool
    detail: str
    fresh: bool = True


Check = Callable[[Checker, str], Awaitable[str]]


async def carry_out(checker: Checker, host: str) -> str:
    """One check; what was found. Raises CheckError."""
    try:
        async with asyncio.timeout(checker.timeout):
            if checker.kind == "tcp":
                return await tcp.check(host, checker.port)
            return await http.check(host, checker.port, checker.path)
    except TimeoutError:
        raise CheckError(f"{host} port {checker.port}: no answer within {checker.timeout:g} s") from None


class Checkers:
    """The checkers of one application at ``host``; ``on_change`` is called when a verdict changes.

    They run between :meth:`start` and :meth:`stop`; each start begins with *not passing*.
    """

    def __init__(
        self,
        checkers: Sequence[Checker],
        host: str,
        on_change: Callable[[], None],
        check: Check = carry_out,
    ) -> None:
        self._checkers = tuple(checkers)
        self._host = host
        self._on_change = on_change
        self._check = check
        self._states = {one.name: CheckState(one.name, False, NOT_RUNNING) for one in self._checkers}
        self._tasks: list[asyncio.Task[None]] = []
        self._epoch: int | None = None

    @property
    def states(self) -> tuple[CheckState, ...]:
        """Every checker, in the order of the configuration."""
        return tuple(self._states.values())

    @property
    def passing(self) -> bool:
        """Whether all pass; so it is without any checker."""
        return all(one.passing for one in self._states.values())

    def follow(self, running: bool, epoch: int) -> None:
        """Check while the application runs; anew when ``epoch`` says that it was started again."""
        if not running:
            self.stop()
        elif self._epoch != epoch:
            self.stop()
            self._epoch = epoch
            self._tasks = [asyncio.create_task(self._run(one)) for one in self._checkers]

    def stop(self) -> None:
        """Check no more; nothing passes."""
        if self._epoch is None:
            return
        self._epoch = None
        for task in self._tasks:
            task.cancel()
        self._tasks = []
        self._states = {one.name: CheckState(one.name, False, NOT_RUNNING) for one in self._checkers}

    async def close(self) -> None:
        """Stop, and wait until every task has ended."""
        tasks = list(self._tasks)
        self.stop()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, checker: Checker) -> None:
        verdict, passed = Verdict(), False
        clock = asyncio.get_running_loop()
        while True:
            began = clock.time()
            try:
                detail = await self._check(checker, self._host)
            except Exception as error:
                # Whatever a check runs into: the application did not pass it.
                result, detail = False, str(error) or type(error).__name__
            else:
                result = True
            verdict = judge(verdict, result, checker.rise, checker.fall)
            passed = passed or verdict.passing
            before = self._states[checker.name]
            self._states[checker.name] = CheckState(checker.name, verdict.passing, detail, not passed)
            if before.passing != verdict.passing:
                self._on_change()
            interval = checker.interval if passed else min(checker.interval, EAGER)
            await asyncio.sleep(max(0.0, began + interval - clock.time()))
