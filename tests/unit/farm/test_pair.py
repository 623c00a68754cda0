"""Two decisions that hear each other, through random histories: what must hold whatever happens."""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace

import pytest

from tests.unit.farm.cases import T, settings
from twinhull_sidecar.farm.decide import Application, Decision, Memory, Own, Peer, decide
from twinhull_sidecar.farm.message import FarmMessage, Phase

STEP = 0.02
BEAT = T / 10
LEASE = T / 2


@dataclass
class Side:
    """One node: what it knows, what it decided, until when its leases hold."""

    name: str
    now: float
    own: Own = field(default_factory=lambda: Own(Application.READY))
    peer: Peer = field(default_factory=Peer)
    decision: Decision | None = None
    memory: Memory = field(default_factory=lambda: Memory(0.0))
    leased_until: float = 0.0
    frozen_until: float = 0.0
    heard_at: float | None = None

    def turn(self, now: float) -> None:
        if now < self.frozen_until:
            return
        holding = now < self.leased_until
        own = replace(self.own, holding=holding)
        self.decision = decide(settings(self.name), own, self.peer, self.memory, now)
        self.memory = self.decision.memory
        # Renewed, or applied anew where it had ended.
        self.leased_until = now + LEASE if self.decision.hold else 0.0

    def hear(self, sent: float, link: str, said: FarmMessage, now: float) -> None:
        if now >= self.frozen_until:
            lan = sent if link == "lan" else self.peer.lan_heard_at
            self.peer, self.heard_at = Peer(said, sent, lan), sent

    def says(self, now: float) -> FarmMessage:
        assert self.decision is not None
        hears = None if self.heard_at is None else (now - self.heard_at) * 1000
        decision = self.decision
        return FarmMessage(
            decision.phase,
            decision.announce,
            decision.yielding,
            capable=self.own.capable,
            reached=decision.reached,
            hears_ms=hears,
        )

    def announces(self, now: float) -> bool:
        return self.decision is not None and self.decision.announce and now < self.leased_until


def run(seed: int, seconds: float = 60.0) -> None:
    chosen = random.Random(seed)
    sides = {name: Side(name, 0.0) for name in "ab"}
    cut = {"lan": [False, False], "direct": [False, False]}
    mail: list[tuple[float, str, str, FarmMessage]] = []
    now, next_beat, next_event, quiet_since, doubled_since = 100.0, 100.0, 101.0, 100.0, None
    for side in sides.values():
        side.memory = Memory(now)
    end = now + seconds
    while now < end:
        calm = now > end - 6 * T
        if now >= next_event and not calm:
            quiet_since, next_event = now, now + chosen.uniform(0.1, 4.0)
            event(chosen, sides, cut, now)
        elif calm and now - STEP <= end - 6 * T:
            quiet_since = now
            mend(sides, cut)
        for sent, to, link, said in [one for one in mail if one[0] <= now]:
            sides[to].hear(sent, link, said, now)
        mail = [one for one in mail if one[0] > now]
        for side in sides.values():
            side.turn(now)
        if now >= next_beat:
            next_beat = now + BEAT
            for number, (name, other) in enumerate((("a", "b"), ("b", "a"))):
                links = [
                    link for link, ways in cut.items() if not ways[number] and now >= sides[name].frozen_until
                ]
                mail += [
                    (now + chosen.uniform(0.001, 0.02), other, one, sides[name].says(now)) for one in links
                ]
        check(sides, cut, now, quiet_since)
        # Two announcers are the price of a cut; with a link that works they are over within moments.
        double = all(side.announces(now) for side in sides.values())
        doubled_since = (doubled_since or now) if double and not any(any(w) for w in cut.values()) else None
        assert doubled_since is None or now - doubled_since < 2.5 * T, (
            f"seed {seed}: two announcers at {now:.2f}"
        )
        now += STEP
    assert sum(side.announces(now) for side in sides.values()) == 1, f"seed {seed}"
    assert {side.decision.reason for side in sides.values() if side.decision} == {"both nodes serve"}, (
        f"seed {seed}"
    )


def mend(sides: dict[str, Side], cut: dict[str, list[bool]]) -> None:
    for ways in cut.values():
        ways[:] = [False, False]
    for side in sides.values():
        side.own, side.frozen_until = Own(Application.READY), 0.0


def event(chosen: random.Random, sides: dict[str, Side], cut: dict[str, list[bool]], now: float) -> None:
    side = sides[chosen.choice("ab")]
    kind = chosen.choice(
        ["cut", "heal", "heal", "application", "application", "lan", "drain", "freeze", "capable"]
    )
    if kind == "cut":
        cut[chosen.choice(list(cut))][chosen.randrange(2)] = True
    elif kind == "heal":
        for ways in cut.values():
            ways[:] = [False, False]
    elif kind == "application":
        side.own = replace(side.own, application=chosen.choice(list(Application)))
    elif kind == "lan":
        side.own = replace(side.own, lan=not side.own.lan)
    elif kind == "drain":
        side.own = replace(side.own, draining=not side.own.draining)
    elif kind == "capable":
        side.own = replace(side.own, capable=not side.own.capable)
    else:
        side.frozen_until = now + chosen.uniform(0.1, 3.0)


def check(sides: dict[str, Side], cut: dict[str, list[bool]], now: float, quiet_since: float) -> None:
    """When nothing has changed for a while, somebody who can serve announces and takes what is new."""
    for side in sides.values():
        if side.decision is not None and side.decision.announce and now >= side.frozen_until:
            assert side.decision.hold
            assert side.own.lan
    if now - quiet_since < 3.5 * T or any(any(ways) for ways in cut.values()):
        return
    if any(now < side.frozen_until + 3.5 * T for side in sides.values()):
        return
    up = [side for side in sides.values() if side.own.phase is Phase.UP]
    if up:
        announcers = [side for side in sides.values() if side.announces(now)]
        assert len(announcers) == 1, [(side.name, side.own, side.decision) for side in sides.values()]
        ways = {side.name: side.decision.way for side in sides.values() if side.decision}
        first = ways[announcers[0].name]
        assert first is not None
        # What is new ends at a node that takes it.
        takers = [side for side in up if side.decision and side.decision.share > 0]
        assert takers, ways


@pytest.mark.parametrize("block", range(8))
def test_random_histories(block: int) -> None:
    for seed in range(block * 10, block * 10 + 10):
        run(seed)
