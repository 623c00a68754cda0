"""Runs a mirror's checkers and keeps what they complain about.

Those of the application run while it runs and begin anew with each start; those of the node's surroundings always.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from twinhull_sidecar.checkers import command, http, surroundings, tcp
from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.checkers.runner import NOT_RUNNING, CheckState
from twinhull_sidecar.checkers.tally import Tally, count
from twinhull_sidecar.config import Application, Watch
from twinhull_sidecar.config_checker import OF_THE_NODE
from twinhull_sidecar.role.complaint import Complaint

Check = Callable[[Watch], Awaitable[str]]
#: Before the first result.
NOT_YET = "not checked yet"


@dataclass(frozen=True)
class Target:
    """Where the application is: its address, and for commands its environment."""

    host: str
    application: Application

    async def check(self, one: Watch) -> str:
        """One check; what was found. Raises CheckError, or TimeoutError."""
        match one.kind:
            case "tcp":
                return await tcp.check(self.host, one.port)
            case "http":
                return await http.check(self.host, one.port, one.path)
            case "exec":
                return await command.check(one.command, self.application.env, self.application.cwd)
            case "ping":
                return await surroundings.ping(one.address, one.timeout)
            case "interface":
                return await surroundings.interface(one.interface)
            case _:
                raise AssertionError(f"{one.kind} is judged by the role decision")


@dataclass
class _Watched:
    one: Watch
    state: CheckState
    tally: Tally
    epoch: int | None = None


class Watches:
    """Of ``watches``, those that the sidecar makes itself (``config_checker.asked_by_sidecar``).

    ``on_change`` is called when a checker begins or ends to complain.
    """

    def __init__(self, watches: Sequence[Watch], check: Check, on_change: Callable[[], None]) -> None:
        self._all = [_Watched(one, CheckState(one.name, True, NOT_YET), Tally()) for one in watches]
        self._check = check
        self._on_change = on_change
        self._epoch: int | None = None
        self._of_application: list[asyncio.Task[None]] = []
        self._of_node: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to check the node's surroundings. Call it inside the event loop."""
        self._of_node = [
            asyncio.create_task(self._run(one, None)) for one in self._all if one.one.kind in OF_THE_NODE
        ]

    def follow(self, running: bool, epoch: int) -> None:
        """Check the application while it runs; anew when ``epoch`` says that it was started again."""
        wanted = epoch if running else None
        if wanted == self._epoch:
            return
        self._epoch = wanted
        for task in self._of_application:
            task.cancel()
        self._of_application = []
        for one in self._all:
            if one.one.kind in OF_THE_NODE:
                continue
            one.tally, one.epoch = Tally(), wanted
            one.state = CheckState(one.one.name, passing=True, detail=NOT_YET if running else NOT_RUNNING)
            if wanted is not None:
                self._of_application.append(asyncio.create_task(self._run(one, wanted)))

    @property
    def states(self) -> tuple[CheckState, ...]:
        """Every checker, in the order of the configuration; ``passing`` False: it complains."""
        return tuple(one.state for one in self._all)

    @property
    def complaints(self) -> tuple[Complaint, ...]:
        """Those that have failed as often as their threshold says."""
        failing = [one for one in self._all if not one.state.passing]
        return tuple(Complaint(one.one.name, one.one.action, one.state.detail, one.epoch) for one in failing)

    async def close(self) -> None:
        """Stop, and wait until every task has ended."""
        tasks = [*self._of_application, *self._of_node]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(self, watched: _Watched, epoch: int | None) -> None:
        clock, one = asyncio.get_running_loop(), watched.one
        started = clock.time()
        # What is checked is always there; an application has its time to start.
        startup = one.startup if epoch is not None else 0.0
        while True:
            began = clock.time()
            try:
                async with asyncio.timeout(one.timeout):
                    detail = await self._check(one)
                ok = True
            except TimeoutError:
                ok, detail = False, f"no answer within {one.timeout:g} s"
            except Exception as error:
                # Whatever a check runs into: it was not passed.
                ok, detail = False, str(error) or type(error).__name__
            watched.tally = count(watched.tally, ok=ok, age=clock.time() - started, startup=startup)
            passing = watched.tally.failures < one.threshold
            changed = passing != watched.state.passing
            watched.state = CheckState(one.name, passing, detail, fresh=not watched.tally.passed)
            if changed:
                self._on_change()
            await asyncio.sleep(max(0.0, began + one.interval - clock.time()))


__all__ = ["CheckError", "Target", "Watches"]
