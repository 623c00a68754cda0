"""One case from beginning to end: a pair with its application, the cuts, and what must hold after each.

The sidecars are not part of it (`tests/lab/power_cuts.py` has them): this is about the files, many cuts in a short
time. What the sidecars decide is decided here by the same table.
"""

from __future__ import annotations

import contextlib
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.lab.campaign.applications import Application, Survival
from tests.lab.campaign.case import Case, Strike
from tests.lab.campaign.node import LEASE, Node, who_starts
from tests.lab.disk import Disk
from tests.lab.mirrorfs_pair import EngineError, EnginePair, wait_for
from twinhull_sidecar.role.model import Settings

#: A module that does not get there within this many seconds is stuck.
STUCK = 60.0
MIB = 1 << 20
#: A file that each resynchronisation of everything has to compare, and of which parts change while a node is away.
BULK = 12 * MIB
RESYNC_RATE = 16 * MIB
#: Size of each node's disk.
DISK_MIB = 320
SETTINGS = Settings(node="a", peer="b", nodes=("a", "b"), uid="")


@dataclass
class Outcome:
    """What a case came to."""

    cuts: int = 0
    acknowledged: int = 0


class Course:
    """A pair under way."""

    def __init__(
        self, case: Case, directory: Path, application: Application, say: Callable[[str], None]
    ) -> None:
        self.case = case
        self.outcome = Outcome()
        self._say = say
        self._application = application
        self._chosen = random.Random(f"{case.seed}:{case.number}:course")
        disks = [
            Disk(directory / f"{name}.img", directory / name, DISK_MIB, case.file_system) for name in "ab"
        ]
        for disk in disks:
            disk.mount()
        self._pair = EnginePair(
            directory,
            durability=case.durability,
            journal_cooling_ms=case.cooling_ms,
            resync_rate=RESYNC_RATE,
        )
        self._nodes = [Node(*node) for node in zip(self._pair.nodes(), disks, strict=True)]
        self._primary = self._nodes[0]

    # --- the parts of a case -----------------------------------------------------------------------------------------

    def run(self) -> Outcome:
        """Everything. Raises AssertionError when something is lost, unequal or stuck."""
        self._set_up()
        for strike in self.case.strikes:
            self._strike(strike)
        self._bring_back()
        self._in_sync()
        self._operations(3)
        self._application.stop()
        self._in_sync()
        self._pair.assert_equal()
        self.outcome.acknowledged = self._application.ledger.count
        self._application.judge(self._primary.mount, self._survival())
        return self.outcome

    def close(self) -> None:
        """Leave nothing behind, whatever has happened."""
        self._application.kill()
        for relay in self._pair.relays.values():
            relay.stalled = False
            relay.close()
        for node in self._nodes:
            if node.engine.process is not None and node.engine.process.poll() is None:
                node.engine.kill()
        # It has hung in the mount until now.
        with contextlib.suppress(Exception):
            self._application.reap()
        for node in self._nodes:
            node.disk.unmount()

    def _set_up(self) -> None:
        first, second = self._nodes
        backing = first.engine.backing
        (backing / "bulk").write_bytes(self._chosen.randbytes(BULK))
        for number in range(40):
            (backing / f"small-{number}").write_bytes(self._chosen.randbytes(2000))
        self._application.create(backing)
        for node in self._nodes:
            node.engine.start()
            node.powered = True
        first.engine.call("initialise")
        first.serve(alone=True)
        second.follow()
        self._in_sync()
        self._application.start(first.mount)

    def _other(self, node: Node) -> Node:
        return self._nodes[1] if node is self._nodes[0] else self._nodes[0]

    def _survival(self) -> Survival:
        return Survival(not self._primary.lost_power, self.case.durability == "write")

    def _operations(self, count: int) -> None:
        """The application gets on."""
        ledger = self._application.ledger
        enough = ledger.count + count

        def done() -> bool:
            self._application.assert_well()
            return ledger.count >= enough

        wait_for(f"{count} more operations", done, STUCK)

    def _in_sync(self) -> None:
        primary, secondary = self._primary, self._other(self._primary)

        def in_sync() -> bool:
            first, second = primary.engine.status(), secondary.engine.status()
            assert first["error"] is None, first["error"]
            assert first["verdict"] not in ("diverged", "unrelated"), f"the nodes have diverged: {first}"
            return bool(first["in_sync"] and second["in_sync"])

        try:
            wait_for("in sync", in_sync, STUCK)
        except AssertionError as error:
            states = [node.engine.status() for node in self._nodes]
            raise AssertionError(f"{error}; {states}") from error
        for node in self._nodes:
            node.lost_power = False

    # --- cuts --------------------------------------------------------------------------------------------------------

    def _strike(self, strike: Strike) -> None:
        self._say(f"{strike}")
        if strike.moment != "alone":
            self._bring_back()
        match strike.moment:
            case "replication":
                self._in_sync()
                self._operations(strike.operations)
                time.sleep(strike.delay)
                self._cut(strike, self._primary)
            case "alone":
                self._operations(strike.operations)
                time.sleep(strike.delay)
                self._cut(strike, self._primary)
            case "resync":
                self._begin_resync(strike)
                time.sleep(strike.delay)
                self._cut(strike, self._primary)
            case "promotion":
                self._in_sync()
                self._operations(strike.operations)
                self._promote_and_cut(strike)
        self._recover()

    def _begin_resync(self, strike: Strike) -> None:
        """Until one has begun."""
        primary, secondary = self._primary, self._other(self._primary)
        if primary.engine.status()["progress"] is not None:
            return
        self._in_sync()
        before = primary.engine.status()["stream"]
        if strike.full:
            primary.engine.call("resync")
        else:
            secondary.leave()
            primary.engine.call("go_alone")
            self._scribble(primary.mount / "bulk")
            self._operations(strike.operations)
            secondary.follow()

        def begun() -> bool:
            status = primary.engine.status()
            # A small one may have ended before anyone looked: then it is the moment after it.
            return status["progress"] is not None or (status["in_sync"] and status["stream"] != before)

        wait_for("a resynchronisation has begun", begun, STUCK)

    def _scribble(self, path: Path) -> None:
        with path.open("r+b") as file:
            for _ in range(60):
                file.seek(self._chosen.randrange(BULK // 4096) * 4096)
                file.write(self._chosen.randbytes(4096))

    def _promote_and_cut(self, strike: Strike) -> None:
        """The roles change; in the middle of that the power is cut."""
        old, new = self._primary, self._other(self._primary)
        if strike.orderly:
            self._application.stop()
        else:
            # The old primary loses its power, or the new one would not be promoted.
            self._cut_nodes([old], strike.silent)
        problems: queue.SimpleQueue[Exception] = queue.SimpleQueue()

        def change() -> None:
            try:
                if strike.orderly:
                    old.engine.call("stop_primary", 30.0, timeout=60)
                    new.leave()
                    new.serve(alone=False)
                    old.follow()
                else:
                    new.leave()
                    assert new.promotable, new.engine.status()
                    new.serve(alone=True)
            except Exception as error:
                problems.put(error)

        thread = threading.Thread(target=change, daemon=True)
        thread.start()
        time.sleep(strike.delay / 2)
        self._primary = new
        self._cut(strike, new)
        thread.join(STUCK)
        assert not thread.is_alive(), "the change of roles is stuck"
        while not problems.empty():
            error = problems.get()
            # The node lost its power in the middle of an order.
            if not isinstance(error, EngineError | OSError | queue.Empty):
                raise error

    def _cut(self, strike: Strike, primary: Node) -> None:
        victims = {
            "primary": [primary],
            "secondary": [self._other(primary)],
            "both": self._nodes if self._chosen.random() < 0.5 else self._nodes[::-1],
        }[strike.victim]
        self._cut_nodes(victims, strike.silent)

    def _cut_nodes(self, victims: list[Node], silent: bool) -> None:
        victims = [node for node in victims if node.powered]
        if not victims:
            return
        self.outcome.cuts += 1
        for relay in self._pair.relays.values():
            relay.stalled = silent
        for node in victims:
            node.cut()
            if node is self._primary:
                self._application.kill()
        for node in victims:
            node.clear()
        if not self._primary.powered:
            self._application.reap()

    # --- afterwards --------------------------------------------------------------------------------------------------

    def _bring_back(self) -> None:
        """The node that is off comes back and is brought level."""
        secondary = self._other(self._primary)
        if secondary.powered:
            return
        self._calm()
        secondary.boot()
        secondary.follow()

    def _calm(self) -> None:
        for relay in self._pair.relays.values():
            if relay.stalled:
                relay.cut()
                relay.stalled = False

    def _recover(self) -> None:
        """Somebody serves again, and nothing is missing there."""
        was, running = self._primary, self._application.running
        self._primary = self._find_primary()
        self._say(f"{self._primary.name} serves")
        if running and self._primary is was:
            # It has never stopped.
            self._operations(2)
            return
        self._application.judge(self._primary.mount, self._survival())
        self._application.start(self._primary.mount)
        self._operations(2)

    def _find_primary(self) -> Node:
        up = [node for node in self._nodes if node.powered]
        for node in up:
            if node.mode() == "primary":
                # It may have become it without a lease.
                node.engine.call("lease", LEASE)
                if len(up) == 1:
                    node.engine.call("go_alone", timeout=60)
                elif self._other(node).mode() == "idle":
                    self._other(node).follow()
                return node
        if len(up) == 1:
            (survivor,) = up
            if survivor.mode() == "secondary":
                survivor.leave()
            if survivor.promotable:
                survivor.serve(alone=True)
                return survivor
        self._calm()
        for node in self._nodes:
            if not node.powered:
                node.boot()
            elif node.mode() == "secondary":
                node.leave()
        answer = who_starts(SETTINGS, *self._nodes)
        assert answer.node is not None, f"nobody may start: {answer.why}"
        assert not answer.split, answer.why
        self._say(answer.why)
        winner = next(node for node in self._nodes if node.name == answer.node)
        winner.serve(alone=answer.alone)
        self._other(winner).follow()
        return winner


@contextmanager
def course(
    case: Case, directory: Path, application: Application, say: Callable[[str], None]
) -> Iterator[Course]:
    """A pair that is cleared away at the end."""
    made = Course(case, directory, application, say)
    try:
        yield made
    finally:
        made.close()
