"""Single faults, with the times that a user sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.faults import Fault
from tests.simulation.history import History, Plan
from tests.simulation.network import LINKS, STREAM
from tests.simulation.node import Node
from tests.simulation.world import T
from twinhull_sidecar.role.model import Action, Order, Phase, Role


class Pair(History):
    """Two nodes in sync, without random faults."""

    def __init__(
        self,
        *,
        without_witness: str = "Continue",
        seed: int = 3,
        timeouts: tuple[float, float] = (1.0, 1.0),
        **plan: str | float,
    ) -> None:
        super().__init__(Plan(seed, (), without_witness, timeouts=timeouts, **plan), trace=True)  # type: ignore[arg-type]
        for node in self.nodes:
            node.boot()
        self.pass_time(4 * T)
        self.primary: Node = next(node for node in self.nodes if node.state.serving)
        self.secondary: Node = self.primary.peer
        assert self.secondary.state.role is Role.SECONDARY

    def pass_time(self, seconds: float) -> None:
        """Run for so long."""
        self.world.run(self.world.now + seconds, each=self._after_event)

    def until(self, limit: float, *, node: Node, application: bool) -> float:
        """Seconds until that node holds the address (and runs the application)."""
        begun = self.world.now

        def reached() -> bool:
            self._after_event()
            return node.vip_until > self.world.now and (not application or node.phase is Phase.RUNNING)

        self.world.run(begun + limit, each=reached)
        return self.world.now - begun

    def run_until(self, limit: float, condition: Callable[[], bool]) -> None:
        """Run for so long, less when the condition holds."""
        self.world.run(self.world.now + limit, each=lambda: self._after_event() or condition())

    def order(self, node: Node, action: Action) -> None:
        """An administrator's order."""
        node.orders.append(Order(node.new_id("o"), action))
        node.wake_soon()


def test_a_power_cut_moves_the_address_within_the_timeout_and_half_a_second() -> None:
    for seed in range(20):
        pair = Pair(seed=seed)
        pair.crash(pair.primary, power=True)
        assert pair.until(3 * T, node=pair.secondary, application=False) <= T + 0.5
        pair.pass_time(T)
        assert pair.secondary.state.role is Role.ALONE
        assert pair.secondary.phase is Phase.RUNNING


def test_a_crashed_sidecar_is_replaced_sooner() -> None:
    pair = Pair()
    pair.crash(pair.primary, power=False)
    assert pair.until(3 * T, node=pair.secondary, application=True) <= 0.85 * T


def test_an_ordered_switchover_is_quick_and_needs_no_resynchronisation() -> None:
    pair = Pair()
    pair.order(pair.primary, Action.SWITCHOVER)
    assert pair.until(3 * T, node=pair.secondary, application=True) <= 0.3 * T
    pair.pass_time(0.5 * T)
    assert (pair.secondary.state.role, pair.primary.state.role) == (Role.PRIMARY, Role.SECONDARY)
    assert not any("being resynchronised" in line for line in pair.trace or [] if "5.0" in line[:8])


def test_a_dead_secondary_stops_the_writes_for_a_bounded_time() -> None:
    pair = Pair()
    pair.crash(pair.secondary, power=True)
    pair.pass_time(pair.primary.settings.alone_after + 0.5 * T)
    assert pair.primary.state.role is Role.ALONE
    assert pair.world.now - pair.primary.last_ack < 0.5 * T


def test_a_leaving_secondary_stops_nothing() -> None:
    pair = Pair()
    pair.secondary.terminating = True
    pair.pass_time(0.8 * T)
    assert pair.world.now - pair.primary.last_ack < 0.6 * T


def test_a_dead_new_primary_right_after_a_switchover_is_survived() -> None:
    pair = Pair()
    pair.order(pair.primary, Action.SWITCHOVER)

    def handed() -> bool:
        return pair._after_event() or pair.primary.state.gave_token is not None

    pair.world.run(pair.world.now + T, each=handed)
    pair.crash(pair.secondary, power=True)
    assert pair.until(3 * T, node=pair.primary, application=True) <= T + 0.8


def cut(pair: Pair, *, lan: bool) -> None:
    """Separate the nodes completely; ``lan``: the client LAN still joins them."""
    pair.network.cut |= {(path, side) for path in (*LINKS, STREAM) for side in (0, 1)}
    pair.network.lan_up = lan


def test_cut_off_but_on_the_same_lan_only_the_primary_serves() -> None:
    pair = Pair()
    cut(pair, lan=True)
    pair.pass_time(5 * T)
    assert (pair.primary.state.role, pair.secondary.state.role) == (Role.ALONE, Role.WAITING)


def test_cut_off_completely_both_go_on_and_the_healing_finds_the_split_brain() -> None:
    pair = Pair()
    cut(pair, lan=False)
    pair.pass_time(5 * T)
    assert pair.primary.state.role is pair.secondary.state.role is Role.ALONE
    pair.network.cut.clear()
    pair.network.lan_up = True
    pair.pass_time(2 * T)
    first, second = pair.nodes
    assert (first.state.role, second.state.role, second.code) == (Role.ALONE, Role.WAITING, "SplitBrain")


def test_cut_off_completely_with_wait_only_the_primary_goes_on() -> None:
    pair = Pair(without_witness="Wait")
    cut(pair, lan=False)
    pair.pass_time(5 * T)
    assert (pair.primary.state.role, pair.secondary.state.role) == (Role.ALONE, Role.WAITING)
    assert pair.secondary.code == "NoWitness"


def test_a_lost_stream_with_heartbeats_drops_the_secondary_first() -> None:
    pair = Pair()
    pair.network.cut |= {(STREAM, 0), (STREAM, 1)}
    pair.pass_time(3 * T)
    assert pair.primary.state.role is Role.ALONE
    assert pair.secondary.state.role is not Role.SECONDARY


def test_one_that_lost_the_primary_after_it_went_alone_waits() -> None:
    """The pitfall of promotion windows: the secondary hears the primary a little longer than the other way round."""
    pair = Pair()
    index = pair.secondary.index
    pair.network.cut |= {(path, index) for path in (*LINKS, STREAM)}
    pair.pass_time(0.9 * T)
    cut(pair, lan=True)
    pair.pass_time(pair.primary.settings.alone_after - 0.7 * T)
    pair.crash(pair.primary, power=True)
    pair.pass_time(3 * T)
    assert pair.secondary.state.role is Role.WAITING


#: The primary's and the secondary's timeout.
LOWERED, RAISED = (1.0, 0.4), (0.4, 1.0)


def test_a_secondary_with_a_lowered_timeout_outwaits_the_old_leases() -> None:
    """The primary stands still, and no address is answered for: only the wait protects."""
    for seed in range(20):
        pair = Pair(seed=seed, timeouts=LOWERED)
        pair.network.lan_up = False
        pair.primary.freeze()
        assert 0.8 * T < pair.until(3 * T, node=pair.secondary, application=False) <= T + 0.5
        assert pair.primary.leased_until() < pair.world.now


def test_the_same_when_its_process_ended() -> None:
    for seed in range(20):
        pair = Pair(seed=seed, timeouts=LOWERED)
        pair.network.lan_up = False
        pair.crash(pair.primary, power=False)
        assert 0.5 * T < pair.until(3 * T, node=pair.secondary, application=False) <= 0.85 * T
        assert pair.primary.leased_until() < pair.world.now


def test_a_secondary_with_a_raised_timeout_takes_over_within_the_primarys() -> None:
    for seed in range(20):
        pair = Pair(seed=seed, timeouts=RAISED)
        pair.crash(pair.primary, power=True)
        assert pair.until(3 * T, node=pair.secondary, application=False) <= 0.4 * T + 0.5


def test_a_secondary_with_a_raised_timeout_knows_when_the_primary_went_alone() -> None:
    """Cut off, the primary goes alone by its own timeout; by the secondary's it would still be waiting."""
    pair = Pair(timeouts=RAISED)
    cut(pair, lan=True)
    pair.pass_time(pair.primary.settings.alone_after + 0.15 * T)
    assert pair.primary.state.role is Role.ALONE
    pair.crash(pair.primary, power=True)
    pair.pass_time(3 * T)
    assert (pair.secondary.state.role, pair.secondary.code) == (Role.WAITING, "MissedWindow")


@pytest.mark.parametrize("seed", range(20))
def test_a_new_process_with_longer_leases_serves_only_when_the_peer_has_heard_it(seed: int) -> None:
    """It was handed the role while it was restarted with a longer timeout; only its first words come through."""
    pair = Pair(seed=seed, timeouts=(0.4, 0.4))
    old, new = pair.primary, pair.secondary
    pair.order(old, Action.SWITCHOVER)
    pair.run_until(T, lambda: old.state.gave_token is not None)
    new.reconfigured = T
    pair.crash(new, power=False)
    pair.network.lan_up = False
    pair.world.after(0.02 * T, new.boot)
    pair.run_until(0.2 * T, lambda: new.alive and new.peer_view is not None)
    pair.network.cut |= {(path, new.index) for path in (*LINKS, STREAM)}
    pair.run_until(0.35 * T, lambda: new.app_until > pair.world.now)
    new.freeze()
    pair.run_until(3 * T, lambda: old.engine.mode == "primary")
    assert old.engine.mode == "primary"
    assert new.leased_until() <= pair.world.now


@pytest.mark.parametrize("timeouts", [LOWERED, RAISED])
def test_a_switchover_works_with_two_timeouts(timeouts: tuple[float, float]) -> None:
    pair = Pair(timeouts=timeouts)
    pair.order(pair.primary, Action.SWITCHOVER)
    assert pair.until(3 * T, node=pair.secondary, application=True) <= 0.3 * T
    pair.pass_time(0.5 * T)
    assert (pair.secondary.state.role, pair.primary.state.role) == (Role.PRIMARY, Role.SECONDARY)


def test_acknowledgements_that_come_when_the_peer_may_have_taken_over_complete_nothing() -> None:
    """The stream heals first, and brings what was on its way in the cut; the judge looks at every acknowledgement (R1).

    With a vote, so that nothing is excused, and a timeout so short that the connection outlives the promotion.
    """
    for seed in range(10):
        pair = Pair(seed=seed, timeouts=(0.6, 0.6), votes=1)
        old, new = pair.primary, pair.secondary

        def on_the_way(old: Node = old, new: Node = new) -> bool:
            return any(op in new.disk.data for op in old.engine.waiting)

        pair.run_until(4 * T, on_the_way)
        assert on_the_way()
        cut(pair, lan=False)
        pair.witnesses.darken({(0, old.index)})
        pair.run_until(2 * T, lambda new=new: new.state.serving)  # type: ignore[misc]
        assert new.state.serving
        assert old.engine.connection is not None
        assert old.engine.waiting
        pair.network.cut -= {(STREAM, 0), (STREAM, 1)}
        pair.resume_streams()
        pair.pass_time(0.3 * T)
        pair.network.cut.clear()
        pair.network.lan_up = True
        pair.pass_time(3 * T)
        assert (new.state.role, old.state.role) == (Role.PRIMARY, Role.SECONDARY)


def test_a_fault_prints_itself() -> None:
    assert str(Fault(1.0, "freeze", 1, 2.0, 7)) == " 0.500T freeze node=b for 1.000T detail=7"


def test_after_a_power_cut_the_module_returns_to_its_preferred_node_by_itself() -> None:
    for seed in range(10):
        pair = Pair(seed=seed, preferred="a", failback="Automatic")
        home = pair.primary
        assert home.settings.node == "a"
        pair.crash(home, power=True)
        pair.pass_time(3 * T)
        assert pair.secondary.state.serving
        home.boot()
        pair.run_until(20 * T, lambda home=home: home.state.serving)  # type: ignore[misc]
        assert home.state.serving, seed
        pair.pass_time(4 * T)
        assert home.phase is Phase.RUNNING
        assert pair.secondary.state.role is Role.SECONDARY
