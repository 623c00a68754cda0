"""The witnesses of a simulated pair: a register that is changed by compare-and-swap, a gateway, and each node's BMC.

A node's dealings with the register are the real ones (``witness.ballot``); its requests and answers may be slow, lost,
or arrive after the node has given them up.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from tests.simulation.world import T, World
from twinhull_sidecar.role import model as m
from twinhull_sidecar.witness.ballot import Ballot, Goal, Read, Register, Write

if TYPE_CHECKING:
    from tests.simulation.node import Node

CLIENT_TIMEOUT = 0.4 * T
LOOK = 0.5 * T
TEST_INTERVAL = 0.2 * T


class Witnesses:
    """What stands outside the pair; survives everything."""

    def __init__(self, world: World, votes: int) -> None:
        self.world = world
        self.registers = [Register() for _ in range(votes)]
        self._versions = itertools.count(1)
        #: (kind, index of the node) that gets no answer now; kind is the number of a vote, "test" or "bmc".
        self.dark: set[tuple[object, int]] = set()
        self.slow = 0.0
        #: By index of a node: how long its next change takes to arrive.
        self.late: dict[int, float] = {}
        #: By index of a node: since when the gateway answers it no more.
        self.dark_since: dict[int, float] = {}

    def darken(self, ways: set[tuple[object, int]]) -> None:
        """These get no answer from now on."""
        self.dark |= ways
        for kind, index in ways:
            if kind == "test":
                self.dark_since.setdefault(index, self.world.now)

    def lighten(self, ways: set[tuple[object, int]]) -> None:
        """These get answers again."""
        self.dark -= ways
        for kind, index in ways:
            if kind == "test":
                self.dark_since.pop(index, None)

    def latency(self) -> float:
        """One random travel time."""
        random = self.world.random
        return 0.003 + random.random() * (0.03 * T + (random.random() < 0.3) * self.slow)

    def write(self, number: int, write: Write) -> bool:
        """Compare and swap."""
        if self.registers[number].version != write.version:
            return False
        self.registers[number] = Register(str(next(self._versions)), write.holder, write.generation, "u")
        return True


class VoteClient:
    """One process's dealings with one register."""

    def __init__(self, node: Node, number: int) -> None:
        self.node, self.number = node, number
        self.ballot = Ballot(node.settings.node, "u")
        self.answered_at: float | None = None
        self.busy = False

    def view(self) -> m.WitnessView:
        """As the control loop sees it."""
        ballot = self.ballot
        return m.WitnessView(
            f"vote{self.number}",
            True,
            self.answered_at,
            ballot.mine,
            ballot.holder,
            ballot.generation,
            ballot.detail,
        )

    def want(self, goal: Goal, generation: str) -> None:
        """Begin to work for it."""
        self.ballot.want(goal, generation)
        self._next()

    def _next(self) -> None:
        if self.busy:
            return
        request = self.ballot.next()
        if request is None:
            self.node.wake_soon()
            return
        self.busy = True
        node, world, witnesses = self.node, self.node.world, self.node.history.witnesses
        asked, process, over = world.now, node.incarnation, [False]

        def finish(answer: Register | bool | None) -> None:
            if over[0] or not node.alive or node.incarnation != process:
                return
            if node.frozen:
                world.after(T / 20, lambda: finish(answer))
                return
            over[0], self.busy = True, False
            if answer is None:
                self.ballot.failed("no answer")
            else:
                self.answered_at = asked
                self.ballot.read(answer) if isinstance(answer, Register) else self.ballot.written(answer)
            self._next()

        def arrive() -> None:
            answer: Register | bool
            if isinstance(request, Read):
                answer = witnesses.registers[self.number]
            else:
                answer = witnesses.write(self.number, request)
            back = witnesses.latency()
            if (self.number, node.index) not in witnesses.dark:
                world.after(back, lambda: finish(answer))

        # What was sent before the witness fell silent still arrives, however late.
        if (self.number, node.index) not in witnesses.dark:
            late = witnesses.late.pop(node.index, 0.0) if isinstance(request, Write) else 0.0
            world.after(late + witnesses.latency(), arrive)
        world.after(CLIENT_TIMEOUT, lambda: finish(None))


class Outside:
    """One process's view of what is outside the pair."""

    def __init__(self, node: Node) -> None:
        self.node = node
        witnesses = node.history.witnesses
        self.votes = [VoteClient(node, number) for number in range(len(witnesses.registers))]
        self.tested_at: float | None = None
        self.fence: m.FenceView | None = None

    def views(self) -> tuple[m.WitnessView, ...]:
        """As the control loop sees them."""
        tests = [m.WitnessView("gateway", False, self.tested_at)] * self.node.settings.tests
        return (*tests, *(vote.view() for vote in self.votes))

    def test(self) -> None:
        """A ping now and then."""
        if ("test", self.node.index) not in self.node.history.witnesses.dark:
            self.tested_at = self.node.world.now

    def look(self) -> None:
        """A look at the registers now and then, for the status."""
        for vote in self.votes:
            vote.want(Goal.LOOK, "")

    def carry_out(self, effect: m.Effect) -> None:
        """The effects that begin at once and are answered later."""
        if isinstance(effect, m.AskVotes):
            for vote in self.votes:
                vote.want(Goal.SEIZE if effect.seize else Goal.TAKE, effect.generation)
        elif isinstance(effect, m.ReturnVotes):
            for vote in self.votes:
                vote.want(Goal.GIVE_BACK, effect.generation)
        elif isinstance(effect, m.FencePeer):
            self._fence()

    def _fence(self) -> None:
        node, world = self.node, self.node.world
        self.fence = m.FenceView(world.now)
        begun, process = world.now, node.incarnation
        history = node.history

        def off() -> None:
            # The BMC goes on with what it was told, whatever becomes of the one who told it.
            if ("bmc", node.index) not in history.witnesses.dark and node.peer.alive:
                history.crash(node.peer, power=True)
                world.after(world.random.uniform(2, 6) * T, node.peer.boot)

        def end() -> None:
            if not node.alive or node.incarnation != process:
                return
            if node.frozen:
                world.after(T / 20, end)
                return
            if ("bmc", node.index) in history.witnesses.dark:
                self.fence = m.FenceView(begun, world.now, False, "no answer")
            else:
                ok = not node.peer.alive
                self.fence = m.FenceView(begun, world.now, ok, "" if ok else "it is on again")
            node.wake_soon()

        world.after(world.random.uniform(0.02, 0.4) * T, off)
        world.after(0.5 * T, end)
