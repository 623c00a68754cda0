"""A mirror's checkers: when they complain, about which start of the application, and when they begin anew."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable

import pytest

from twinhull_sidecar.checkers import command, surroundings
from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.checkers.tally import Tally, count
from twinhull_sidecar.checkers.watching import Watches
from twinhull_sidecar.config import Watch

WEB = Watch("web", "tcp", threshold=2, action="Restart", interval=0.1, timeout=0.1, startup=0.0, port=1)
LINE = Watch("line", "interface", threshold=1, action="Failover", interval=0.1, timeout=0.1, interface="eth0")


class Answers:
    """Plays the checks: by name, whether it passes; None: it never answers."""

    def __init__(self) -> None:
        self.passing: dict[str, bool | None] = {}

    async def __call__(self, one: Watch) -> str:
        passing = self.passing.get(one.name, True)
        if passing is None:
            await asyncio.sleep(60)
        if not passing:
            raise CheckError("refused")
        return "accepted"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


def test_failures_count_in_a_row_only() -> None:
    tally = Tally()
    for ok, failures in ((False, 1), (False, 2), (True, 0), (False, 1)):
        tally = count(tally, ok=ok, age=10.0, startup=0.0)
        assert tally.failures == failures


def test_an_application_has_its_time_to_start_until_it_has_passed_once() -> None:
    tally = count(Tally(), ok=False, age=5.0, startup=60.0)
    assert tally == Tally()
    assert count(tally, ok=False, age=61.0, startup=60.0).failures == 1
    passed = count(tally, ok=True, age=6.0, startup=60.0)
    assert count(passed, ok=False, age=7.0, startup=60.0).failures == 1


async def test_it_complains_about_the_start_that_fails_and_forgets_with_the_next() -> None:
    answers, changes = Answers(), []
    watches = Watches((WEB,), answers, lambda: changes.append(1))
    answers.passing["web"] = False
    watches.follow(running=True, epoch=3)
    await until(lambda: watches.complaints)
    complaint = watches.complaints[0]
    assert (complaint.checker, complaint.action, complaint.detail, complaint.epoch) == (
        "web",
        "Restart",
        "refused",
        3,
    )
    assert changes
    watches.follow(running=False, epoch=3)
    assert not watches.complaints
    answers.passing["web"] = None
    watches.follow(running=True, epoch=4)
    await until(lambda: watches.complaints)
    assert watches.complaints[0].detail == "no answer within 0.1 s"
    answers.passing["web"] = True
    await until(lambda: not watches.complaints)
    await watches.close()


async def test_the_nodes_surroundings_are_checked_whatever_the_application_does() -> None:
    answers = Answers()
    answers.passing["line"] = False
    watches = Watches((WEB, LINE), answers, lambda: None)
    watches.start()
    await until(lambda: watches.complaints)
    assert [(one.checker, one.epoch) for one in watches.complaints] == [("line", None)]
    watches.follow(running=True, epoch=1)
    watches.follow(running=False, epoch=1)
    assert [one.checker for one in watches.complaints] == ["line"]
    await watches.close()


async def test_a_command_is_judged_by_its_code_and_quoted() -> None:
    assert await command.check(["true"], {}, None) == "true ended with code 0"
    script = "import os, sys; sys.exit('cannot serve ' + os.environ['WHAT'])"
    with pytest.raises(CheckError, match="ended with code 1: cannot serve rows"):
        await command.check([sys.executable, "-c", script], {"WHAT": "rows"}, None)
    with pytest.raises(CheckError, match="/no/such/program: No such file or directory"):
        await command.check(["/no/such/program"], {}, None)


async def test_a_command_that_hangs_is_killed_with_what_it_started() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.5):
            await command.check(["sh", "-c", "sleep 3600 & wait"], {}, None)


async def test_an_interface_must_be_there_and_up() -> None:
    with pytest.raises(CheckError, match="there is no interface nowhere0"):
        await surroundings.interface("nowhere0")
