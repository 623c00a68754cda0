"""All witnesses of a module: asked again and again beside the control loop, which only looks at what is known.

Nothing here blocks or decides: each witness has a task of its own, a bounded timeout, and one question at a time.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from twinhull_sidecar.config import ConfigError, ModuleConfig, Witness
from twinhull_sidecar.role.witness import WitnessView
from twinhull_sidecar.witness import kubeconfig, probe
from twinhull_sidecar.witness.ballot import Ballot, Goal, Read
from twinhull_sidecar.witness.lease import LeaseVote, WitnessError

log = logging.getLogger(__name__)

#: Shares of the detection timeout: between two probes of a test, and how long one may take. An answer counts for half
#: of the detection timeout, see ``role.permission``.
PROBE_EVERY, PROBE_TIMEOUT = 0.15, 0.25
#: A request to a vote: with several of them the decision still has time within the promotion window.
VOTE_TIMEOUT = 0.5
LEAST_VOTE_TIMEOUT = 1.0
#: Seconds between two looks at a vote that nobody needs now.
LOOK_EVERY = 5.0


class _Watched(Protocol):
    """One witness."""

    def view(self) -> WitnessView: ...
    async def run(self) -> None: ...


class Witnesses:
    """``on_change`` is called when something is known that was not. Times are those of ``now``."""

    def __init__(
        self, config: ModuleConfig, node: str, on_change: Callable[[], None], now: Callable[[], float]
    ) -> None:
        timeout = config.detection_timeout
        self._votes: list[_Vote] = []
        self._all: list[_Watched] = []
        for index, witness in enumerate(config.witnesses):
            if witness.deciding:
                where = f"witnesses[{index}].kubeconfig"
                vote = _Vote(
                    witness,
                    Ballot(node, config.uid),
                    where=where,
                    uid=config.uid,
                    timeout=max(VOTE_TIMEOUT * timeout, LEAST_VOTE_TIMEOUT),
                    now=now,
                    on_change=on_change,
                )
                self._votes.append(vote)
                self._all.append(vote)
            else:
                self._all.append(_Test(witness, timeout, now, on_change))
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to ask."""
        self._tasks = [asyncio.create_task(watched.run()) for watched in self._all]

    async def close(self) -> None:
        """Ask no more. A vote that this node has stays its own."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def views(self) -> tuple[WitnessView, ...]:
        """What is known of each, in the order of the configuration."""
        return tuple(watched.view() for watched in self._all)

    def ask(self, generation: str, seize: bool) -> None:
        """Try to get every vote; see ``role.effects.AskVotes``."""
        for vote in self._votes:
            vote.want(Goal.SEIZE if seize else Goal.TAKE, generation)

    def give_back(self, generation: str) -> None:
        """From now on no vote is this node's; see ``role.effects.ReturnVotes``."""
        for vote in self._votes:
            vote.want(Goal.GIVE_BACK, generation)


class _Test:
    """A ping or tcp witness."""

    def __init__(
        self, witness: Witness, timeout: float, now: Callable[[], float], on_change: Callable[[], None]
    ) -> None:
        self._witness, self._now, self._on_change = witness, now, on_change
        self._every, self._timeout = PROBE_EVERY * timeout, PROBE_TIMEOUT * timeout
        self._answered_at: float | None = None
        self._detail = ""

    def view(self) -> WitnessView:
        return WitnessView(self._witness.name, False, self._answered_at, detail=self._detail)

    async def run(self) -> None:
        while True:
            asked = self._now()
            detail = await self._any_answers()
            if detail is None:
                self._answered_at = asked
            if (detail or "") != self._detail:
                self._detail = detail or ""
                self._on_change()
            await asyncio.sleep(max(0.0, self._every - (self._now() - asked)))

    async def _any_answers(self) -> str | None:
        """None when one of the addresses answers, else why the last one does not."""
        witness = self._witness
        asking = [asyncio.create_task(self._ask(address)) for address in witness.addresses]
        why = ""
        try:
            for done in asyncio.as_completed(asking):
                why = await done
                if not why:
                    return None
            return why
        finally:
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    async def _ask(self, address: str) -> str:
        """Empty, or why ``address`` does not answer."""
        witness = self._witness
        answer: Awaitable[None]
        if witness.kind == "ping":
            answer = probe.ping(address, self._timeout)
        else:
            answer = probe.connect(address, witness.port, self._timeout)
        try:
            await answer
        except TimeoutError:
            return f"{address} does not answer within {self._timeout:g} s"
        except OSError as error:
            return f"{address} does not answer: {error.strerror or error}"
        return ""


class _Vote:
    """A lease witness."""

    def __init__(
        self,
        witness: Witness,
        ballot: Ballot,
        *,
        where: str,
        uid: str,
        timeout: float,
        now: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        self._witness, self._where, self._uid = witness, where, uid
        self._timeout, self._now, self._on_change = timeout, now, on_change
        self._ballot = ballot
        self._answered_at: float | None = None
        self._wanted = asyncio.Event()
        self._lease: LeaseVote | None = None
        self._stamp: tuple[int, int] | None = None

    def view(self) -> WitnessView:
        ballot = self._ballot
        return WitnessView(
            self._witness.name,
            True,
            self._answered_at,
            ballot.mine,
            ballot.holder,
            ballot.generation,
            ballot.detail,
        )

    def want(self, goal: Goal, generation: str) -> None:
        self._ballot.want(goal, generation)
        self._wanted.set()

    async def run(self) -> None:
        try:
            while True:
                self._wanted.clear()
                self._ballot.want(Goal.LOOK)
                await self._work()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_EVERY):
                        await self._wanted.wait()
        finally:
            if self._lease is not None:
                await self._lease.close()

    async def _work(self) -> None:
        """Until nothing is wanted any more, or a request fails."""
        ballot, before = self._ballot, self.view()
        while (request := ballot.next()) is not None:
            asked = self._now()
            try:
                lease = await self._open()
                if isinstance(request, Read):
                    ballot.read(await lease.read())
                else:
                    ballot.written(await lease.write(request, datetime.datetime.now(datetime.UTC)))
                self._answered_at = asked
            except (WitnessError, ConfigError) as error:
                ballot.failed(str(error))
            if (after := self.view()) != before:
                before = after
                self._on_change()

    async def _open(self) -> LeaseVote:
        """The client, anew when the kubeconfig has changed. Raises ConfigError."""
        path = Path(self._witness.kubeconfig)
        stamp = await asyncio.to_thread(_stamp, path)
        if self._lease is None or stamp != self._stamp:
            access = await asyncio.to_thread(kubeconfig.read, path, self._where)
            if self._lease is not None:
                await self._lease.close()
            witness = self._witness
            self._lease = LeaseVote(access, witness.namespace, witness.lease, self._uid, self._timeout)
            self._stamp = stamp
        return self._lease


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns
