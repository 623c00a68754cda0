"""The faults of a history: drawn from a seed beforehand, so that a failing list can be shrunk and replayed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.simulation.network import LINKS, STREAM
from tests.simulation.world import T
from twinhull_sidecar.role.model import Action, Order

if TYPE_CHECKING:
    from tests.simulation.history import History
    from tests.simulation.node import Node

#: kind -> how often it is drawn
KINDS = {
    "power-cut": 4,
    "crash": 4,
    "crash-at-step": 4,
    "both-down": 3,
    "freeze": 5,
    "cut-all": 3,
    "cut-links": 4,
    "cut-one-way": 4,
    "cut-stream": 3,
    "cut-lan": 2,
    "cut-one-link": 1,
    "reset-stream": 2,
    "lossy": 2,
    "slow-effects": 2,
    "application-fails": 2,
    "leave": 3,
    "switchover": 4,
    "stop-start": 1,
    "restart": 1,
    "resync": 1,
    "reconfigure": 2,
    "force-primary": 1,
    "hold-resume": 1,
    "contradict": 1,
    "witness-dark": 3,
    "witness-slow": 1,
    "vote-late": 1,
}

#: Detection timeouts, as shares of T.
TIMEOUTS = (1.0, 0.6, 0.4)

#: The ``detail`` of a dark witness that is the first vote, for one node.
ONE_VOTE = 2

#: Share of the histories that begin with a known-hard sequence.
TEMPLATES = 0.4


@dataclass(frozen=True)
class Fault:
    """``at`` and ``duration`` in seconds from the start of the faults; ``node`` is an index."""

    at: float
    kind: str
    node: int = 0
    duration: float = 0.0
    detail: int = 0

    def __str__(self) -> str:
        where = f"{self.at / T:6.3f}T {self.kind} node={'ab'[self.node]}"
        return f"{where} for {self.duration / T:.3f}T detail={self.detail}"


def draw(seed: int) -> tuple[Fault, ...]:
    """A random list of faults."""
    rng = random.Random(seed * 7919 + 1)
    kinds, weights = zip(*KINDS.items(), strict=True)
    count, at, faults = rng.randint(1, 6), 0.0, []
    for _ in range(count):
        # Faults come in bursts: what happens within one detection timeout is what is hard.
        at += rng.choice((0.05, 0.3, 1.0, 1.0, 2.5)) * T * rng.random()
        kind = rng.choices(kinds, weights)[0]
        duration = rng.choice((0.2, 0.6, 1.3, 2.2, 4.0)) * T * rng.uniform(0.7, 1.3)
        faults.append(Fault(round(at, 4), kind, rng.randrange(2), round(duration, 4), rng.randrange(1000)))
    if rng.random() < TEMPLATES:
        faults = [*rng.choice(_SEQUENCES)(rng, at), *faults[: rng.randrange(2)]]
    return tuple(faults)


def _overtaken(rng: random.Random, at: float) -> list[Fault]:
    """A node stands still, its peer may take over, and is gone when the node wakes up."""
    node, long = rng.randrange(2), rng.uniform(1.5, 4.0) * T
    gone = rng.choice(("power-cut", "leave", "crash", "freeze"))
    return [
        Fault(at, "freeze", node, long),
        Fault(at + rng.uniform(0.6, 1.05) * long, gone, 1 - node, rng.uniform(0.5, 5.0) * T),
    ]


def _one_way_then_other(rng: random.Random, at: float) -> list[Fault]:
    """A node loses sight of its peer a little earlier than the other way round, and dies at the wrong moment."""
    node = rng.randrange(2)
    other = at + rng.uniform(0.05, 0.6) * T
    return [
        Fault(at, "cut-one-way", node, rng.uniform(2.5, 4.0) * T),
        Fault(other, "cut-one-way", 1 - node, rng.uniform(2.5, 4.0) * T),
        Fault(at + rng.uniform(0.9, 1.7) * T, "power-cut", 1 - node, rng.uniform(1.0, 5.0) * T),
    ]


def _dropped_then_cut_off(rng: random.Random, at: float) -> list[Fault]:
    """The stream is down, the secondary is asked not to be promoted; then all is cut, and a node dies."""
    cut = at + rng.uniform(1.9, 2.7) * T
    return [
        Fault(at, "cut-stream", 0, 6 * T),
        Fault(at, "slow-effects", 0, 4 * T),
        Fault(at, "slow-effects", 1, 4 * T),
        Fault(cut, "cut-links", 0, rng.uniform(2.0, 4.0) * T),
        Fault(cut + rng.uniform(0.1, 0.9) * T, "power-cut", rng.randrange(2), rng.uniform(1.0, 5.0) * T),
    ]


def _apart_then_staggered(rng: random.Random, at: float) -> list[Fault]:
    """Both run alone, both lose power; one boots when the other is just about to start unheard."""
    down = at + rng.uniform(2.3, 3.0) * T
    first, wait = rng.randrange(2), rng.uniform(0.3, 0.8) * T
    return [
        Fault(at, "cut-all", 0, 2.2 * T, 1),
        Fault(down, "power-cut", first, wait),
        Fault(down, "power-cut", 1 - first, wait + rng.uniform(0.95, 1.4) * T),
        Fault(down, "slow-effects", first, 4 * T, 0),
    ]


def _cut_off_with_witnesses(rng: random.Random, at: float) -> list[Fault]:
    """Nothing passes between the nodes, and a witness answers one of them only, or neither."""
    faults = [Fault(at, "cut-all", 0, rng.uniform(2.5, 5.0) * T, 1)]
    for _ in range(rng.randint(1, 3)):
        when = max(0.0, at + rng.uniform(-0.5, 1.5) * T)
        faults.append(
            Fault(
                when, "witness-dark", rng.randrange(2), rng.choice((0.5, 1.5, 5.0)) * T, rng.randrange(1000)
            )
        )
    return faults


def _twice_cut_off(rng: random.Random, at: float) -> list[Fault]:
    """Cut off twice: what was asked of the witness the first time is slow, and arrives the second time."""
    first = rng.uniform(0.6, 1.6) * T
    again = at + first + rng.uniform(0.05, 0.8) * T
    return [
        Fault(at, "witness-slow", 0, 6 * T, rng.randrange(1000)),
        Fault(at, "cut-all", 0, first, 1),
        Fault(again, "cut-all", 0, rng.uniform(2.0, 4.0) * T, 1),
    ]


def _given_back_late(rng: random.Random, at: float) -> list[Fault]:
    """A node gives its vote back between two cuts; it is free only in the second one, when the node has it again.

    Soon after, the witness answers it no more, so that it cannot learn of it.
    """
    node = rng.randrange(2)
    healed = at + rng.uniform(0.4, 0.85) * T
    again = healed + rng.uniform(0.02, 0.3) * T
    late = rng.uniform(0.45, 0.9) * T
    return [
        Fault(at, "cut-all", 0, healed - at, 1),
        Fault(healed, "vote-late", node, late),
        Fault(again, "cut-all", 0, rng.uniform(2.0, 4.0) * T, 1),
        Fault(healed + late + rng.uniform(0.0, 0.2) * T, "witness-dark", node, 3 * T, ONE_VOTE),
    ]


_SEQUENCES = (
    _overtaken,
    _one_way_then_other,
    _dropped_then_cut_off,
    _apart_then_staggered,
    _cut_off_with_witnesses,
    _twice_cut_off,
    _given_back_late,
)


def inject(history: History, fault: Fault) -> None:
    """Let it happen now."""
    node = history.nodes[fault.node]
    history.log(node, f"--- {fault}")
    name = "_" + fault.kind.replace("-", "_")
    globals()[name](history, node, fault)


def mend(history: History) -> None:
    """End all faults: everything is up, awake and quick."""
    network = history.network
    history.log(None, "--- mend")
    network.cut.clear()
    network.lan_up, network.loss, network.duplicates, network.delay = True, 0.0, 0.0, 0.02 * T
    history.witnesses.lighten(set(history.witnesses.dark))
    history.witnesses.slow = 0.0
    history.witnesses.late.clear()
    for node in history.nodes:
        node.slow, node.crash_after = 0.02 * T, None
        node.thaw()
        node.boot()
        if node.disk.persisted.stopped and node.index == 0 and history.world.random.random() < 0.8:
            _order(history, node, Action.START)
        if node.disk.persisted.held:
            _order(history, node, Action.RESUME)
    history.resume_streams()


def _power_cut(history: History, node: Node, fault: Fault) -> None:
    history.crash(node, power=True)
    history.world.after(fault.duration, node.boot)


def _crash(history: History, node: Node, fault: Fault) -> None:
    history.crash(node, power=False)
    history.world.after(fault.duration, node.boot)


def _both_down(history: History, node: Node, fault: Fault) -> None:
    """Both lose power at once, and come back at almost the same time."""
    for each in history.nodes:
        history.crash(each, power=True)
        history.world.after(fault.duration + 0.3 * T * history.world.random.random(), each.boot)


def _crash_at_step(history: History, node: Node, fault: Fault) -> None:
    node.crash_after = fault.detail % 6


def _freeze(history: History, node: Node, fault: Fault) -> None:
    node.freeze()
    history.world.after(fault.duration, node.thaw)


def _cut(history: History, ways: set[tuple[str, int]], duration: float) -> None:
    network = history.network
    network.cut |= ways

    def heal() -> None:
        if not history.mending:
            network.cut -= ways
            history.resume_streams()

    history.world.after(duration, heal)


def _both(*paths: str) -> set[tuple[str, int]]:
    return {(path, sender) for path in paths for sender in (0, 1)}


def _cut_all(history: History, node: Node, fault: Fault) -> None:
    _cut(history, _both(*LINKS, STREAM), fault.duration)
    if fault.detail % 2:
        _cut_lan(history, node, fault)


def _cut_links(history: History, node: Node, fault: Fault) -> None:
    _cut(history, _both(*LINKS), fault.duration)


def _cut_one_way(history: History, node: Node, fault: Fault) -> None:
    _cut(history, {(path, node.index) for path in (*LINKS, STREAM)}, fault.duration)


def _cut_stream(history: History, node: Node, fault: Fault) -> None:
    _cut(history, _both(STREAM), fault.duration)


def _cut_one_link(history: History, node: Node, fault: Fault) -> None:
    _cut(history, _both(LINKS[fault.detail % 2]), fault.duration)


def _cut_lan(history: History, node: Node, fault: Fault) -> None:
    history.network.lan_up = False

    def heal() -> None:
        history.network.lan_up = True

    history.world.after(fault.duration, heal)


def _reset_stream(history: History, node: Node, fault: Fault) -> None:
    if node.alive and not node.frozen:
        node.engine.drop(fin=True)


def _lossy(history: History, node: Node, fault: Fault) -> None:
    network = history.network
    network.loss, network.duplicates = 0.3 * (fault.detail % 4) / 3, 0.2
    network.delay = 0.25 * T * (fault.detail % 3) / 2

    def heal() -> None:
        network.loss, network.duplicates, network.delay = 0.0, 0.0, 0.02 * T

    history.world.after(fault.duration, heal)


def _slow_effects(history: History, node: Node, fault: Fault) -> None:
    node.slow = (0.2, 0.6, 1.2)[fault.detail % 3] * T

    def heal() -> None:
        node.slow = 0.02 * T

    history.world.after(fault.duration, heal)


def _application_fails(history: History, node: Node, fault: Fault) -> None:
    for each in history.nodes:
        each.fail_application()
    if fault.detail % 2:
        again = Fault(fault.at, fault.kind, fault.node, fault.duration, fault.detail // 2)
        history.world.after(0.3 * T, lambda: _application_fails(history, node, again))


def timeout_of(fault: Fault) -> float:
    """What a reconfiguration sets."""
    return TIMEOUTS[fault.detail % len(TIMEOUTS)] * T


def _reconfigure(history: History, node: Node, fault: Fault) -> None:
    """The next process has another detection timeout."""
    node.reconfigured = timeout_of(fault)
    if fault.detail % 2:
        _leave(history, node, fault)
    else:
        _crash(history, node, fault)


def _leave(history: History, node: Node, fault: Fault) -> None:
    if node.alive:
        history.log(node, "is told to end")
        node.terminating = True
        if node.engine.mode != "primary":
            history.peer_process_lost(node)


def _order(history: History, node: Node, action: Action, *, discard: bool = False) -> None:
    if node.alive:
        node.orders.append(Order(node.new_id("o"), action, discard_peer=discard))
        if not node.frozen:
            node.wake_soon()


def _on_primary(history: History, node: Node, action: Action) -> None:
    serving = [each for each in history.nodes if each.alive and each.state.serving]
    _order(history, serving[0] if serving else node, action)


def _switchover(history: History, node: Node, fault: Fault) -> None:
    _on_primary(history, node, Action.SWITCHOVER)


def _restart(history: History, node: Node, fault: Fault) -> None:
    _on_primary(history, node, Action.RESTART)


def _resync(history: History, node: Node, fault: Fault) -> None:
    _on_primary(history, node, Action.RESYNC)


def _stop_start(history: History, node: Node, fault: Fault) -> None:
    _order(history, node, Action.STOP)
    if fault.detail % 3:
        history.world.after(fault.duration, lambda: _order(history, node, Action.START))


def _hold_resume(history: History, node: Node, fault: Fault) -> None:
    _order(history, node, Action.HOLD)
    other = history.nodes[(node.index + fault.detail) % 2]
    history.world.after(fault.duration, lambda: _order(history, other, Action.RESUME))


def _contradict(history: History, node: Node, fault: Fault) -> None:
    """Two administrators order at the same moment what does not go together, each on another node."""
    orders = (Action.HOLD, Action.STOP, Action.RESUME, Action.START)
    _order(history, node, orders[fault.detail % 2])
    _order(history, node.peer, orders[(fault.detail // 2) % 4])


def _witness_dark(history: History, node: Node, fault: Fault) -> None:
    """A witness answers one node no more, or neither."""
    witnesses = history.witnesses
    kind = ("test", "bmc", *range(len(witnesses.registers)))[fault.detail % (2 + len(witnesses.registers))]
    nodes = (node.index,) if fault.detail % 3 else (0, 1)
    ways: set[tuple[object, int]] = {(kind, each) for each in nodes}
    witnesses.darken(ways)

    def heal() -> None:
        witnesses.lighten(ways)

    history.world.after(fault.duration, heal)


def _witness_slow(history: History, node: Node, fault: Fault) -> None:
    """Answers, and what was asked, take long; some arrive when nobody waits for them any more."""
    witnesses = history.witnesses
    witnesses.slow = (0.3, 0.8, 2.0)[fault.detail % 3] * T

    def heal() -> None:
        witnesses.slow = 0.0

    history.world.after(fault.duration, heal)


def _vote_late(history: History, node: Node, fault: Fault) -> None:
    """The node's next change of a vote is on its way for so long."""
    history.witnesses.late[node.index] = fault.duration


def _force_primary(history: History, node: Node, fault: Fault) -> None:
    # Whatever an administrator forces may cost data; other histories judge the rest.
    history.forced_until = history.world.now + 6 * T
    _order(history, node, Action.FORCE_PRIMARY, discard=bool(fault.detail % 2))
