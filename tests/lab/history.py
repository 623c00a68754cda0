"""Judges what clients saw against what the application holds.

A request whose answer was lost may have been carried out (once) or not; a request that was answered must have
been. Every number is sent at most once, each client sends one request at a time.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

LATE = 15.0


@dataclass
class Attempt:
    """One request of one client; ``answered`` is the Unix time of the answer, None when none came."""

    number: int
    operation: str
    fsync: bool
    sent: float
    answered: float | None = None


@dataclass
class History:
    """All attempts of all clients, in the order in which each client made them."""

    clients: dict[int, list[Attempt]] = field(default_factory=lambda: defaultdict(list))
    #: How many requests were answered.
    answers: int = 0
    #: How much of the log has been read, in bytes.
    position: int = 0
    #: Page caches were lost on both nodes: what was not synced may be there in part.
    in_part: bool = False

    @classmethod
    def read(cls, path: Path) -> History:
        """Read a client's log; an unfinished last line is ignored."""
        history = cls()
        history.follow(path)
        return history

    def follow(self, path: Path) -> None:
        """Read what has been added to the log since the last time."""
        with path.open("rb") as log:
            log.seek(self.position)
            content = log.read()
        whole = content[: content.rfind(b"\n") + 1]
        self.position += len(whole)
        for line in whole.decode().splitlines():
            kind, client, number, *rest = line.split()
            attempts = self.clients[int(client)]
            if kind == "try":
                attempts.append(Attempt(int(number), rest[0], rest[1] == "1", float(rest[2])))
            else:
                assert attempts[-1].number == int(number)
                attempts[-1].answered = float(rest[0])
                self.answers += 1

    def synced(self) -> History:
        """The same history with only the answers to requests that asked for stable storage.

        The others may be there in part: ext4 may keep a file's new name and size without its data.
        """
        kept = History(in_part=True)
        for client, attempts in self.clients.items():
            kept.clients[client] = [a if a.fsync else replace(a, answered=None) for a in attempts]
        return kept

    def acknowledged(self) -> list[float]:
        """The times of all answers, sorted."""
        return sorted(a.answered for attempts in self.clients.values() for a in attempts if a.answered)

    def longest_gap(self) -> float:
        """The longest time in which no client got an answer."""
        times = self.acknowledged()
        return max((later - earlier for earlier, later in pairwise(times)), default=0.0)

    def first_ack_after(self, moment: float) -> float | None:
        """The first answer to a request that was sent after ``moment``."""
        answers = [
            a.answered
            for attempts in self.clients.values()
            for a in attempts
            if a.answered and a.sent > moment
        ]
        return min(answers, default=None)

    def judge(self, dump: dict[str, Any]) -> list[str]:
        """What is wrong with the application's content; empty when every acknowledged record is there."""
        wrong: list[str] = [] if self.in_part else list(dump["damaged"])
        ledger: dict[int, list[int]] = defaultdict(list)
        for client, number in dump["ledger"]:
            ledger[client].append(number)
        slots = {int(client): number for client, number in dump["slots"].items()}
        latest = {int(client): number for client, number in dump["latest"].items()}
        for client in sorted(set(self.clients) | set(ledger)):
            attempts = self.clients.get(client, [])
            wrong += self._judge_ledger(client, attempts, ledger.get(client, []))
            wrong += self._judge_newest(client, attempts, "overwrite", slots.get(client))
            torn = self.in_part and any(text.startswith(f"latest-{client}:") for text in dump["damaged"])
            wrong += self._judge_newest(client, attempts, "replace", latest.get(client), torn=torn)
        return wrong

    @staticmethod
    def _judge_ledger(client: int, attempts: list[Attempt], found: list[int]) -> list[str]:
        wrong = []
        appends = [attempt for attempt in attempts if attempt.operation == "append"]
        numbers = {attempt.number for attempt in appends}
        present = set(found)
        lost = [a.number for a in appends if a.answered and a.number not in present]
        if lost:
            wrong.append(f"client {client}: acknowledged appends are missing: {lost}")
        if len(present) != len(found):
            twice = sorted({number for number in found if found.count(number) > 1})
            wrong.append(f"client {client}: appends are there more than once: {twice}")
        if present - numbers:
            wrong.append(f"client {client}: appends nobody sent: {sorted(present - numbers)}")
        # An append whose answer was lost may land after the next ones; the answered ones keep their order.
        answered = {a.number for a in appends if a.answered}
        in_order = [number for number in found if number in answered]
        if in_order != sorted(in_order):
            wrong.append(f"client {client}: acknowledged appends are out of order")
        return wrong

    @staticmethod
    def _judge_newest(
        client: int, attempts: list[Attempt], operation: str, found: int | None, *, torn: bool = False
    ) -> list[str]:
        """The value must be that of the last answered request, or of an unanswered one (which may be ``torn``).

        An unanswered request may take effect late: the application still waits in it while the client has
        dialled again. So one sent at most LATE seconds before the last answered one may be the newest.
        """
        own = [attempt for attempt in attempts if attempt.operation == operation]
        answered = [a.number for a in own if a.answered]
        since = max((a.sent for a in own if a.answered), default=0.0) - LATE
        allowed = {a.number for a in own if not a.answered and a.sent > since} | set(answered[-1:])
        if found is None and torn and any(a.number > answered[-1] for a in own if answered):
            return []
        if found is None:
            return [f"client {client}: {operation} {answered[-1]} is lost"] if answered else []
        if found in allowed:
            return []
        return [f"client {client}: {operation} shows {found}, not {answered[-1] if answered else None}"]
