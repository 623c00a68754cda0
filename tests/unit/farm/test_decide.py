"""What a farm node decides, case by case."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.farm.cases import NOW, T, message, own, peer, settings
from twinhull_sidecar.farm.decide import Application, Decision, Memory, Own, Peer, decide
from twinhull_sidecar.farm.message import Phase
from twinhull_sidecar.farm.ways import ALL, BOTH, CLOSED, DRAIN, LAST, PASS, SOLO

ANNOUNCING = Memory(0.0, announcing=True, decided_at=NOW - 0.05)
LISTENER = Memory(0.0, decided_at=NOW - 0.05)


def decided(me: Own, other: Peer, memory: Memory = LISTENER, node: str = "a") -> Decision:
    return decide(settings(node), me, other, memory, NOW)


def test_a_node_that_starts_listens_for_the_peer_first() -> None:
    decision = decided(own(holding=False), Peer(), Memory(NOW - T / 2))
    assert (decision.state, decision.way, decision.announce) == ("Waiting", None, False)
    assert decision.reason == "listening for the peer"
    assert decision.again_at == NOW + T / 2


def test_after_a_silence_it_serves_everything_and_announces() -> None:
    decision = decided(own(holding=False), Peer(), Memory(NOW - T))
    assert (decision.state, decision.way, decision.announce, decision.share) == ("Up", SOLO, True, 1.0)
    assert decision.reason == "the peer is silent for 1 s: serve everything"


def test_the_peers_share_is_taken_at_the_very_end_of_the_silence() -> None:
    other = peer(message(announcing=True))
    assert decided(own(), replace(other, heard_at=NOW - T + 0.001)).way is BOTH
    decision = decided(own(), replace(other, heard_at=NOW - T))
    assert (decision.way, decision.announce) == (SOLO, True)
    assert decided(own(), other).again_at == NOW - 0.01 + T


@pytest.mark.parametrize(
    ("mine", "theirs", "way", "state", "share"),
    [
        (Application.READY, Phase.UP, BOTH, "Up", 0.5),
        (Application.READY, Phase.DRAINING, ALL, "Up", 1.0),
        (Application.READY, Phase.DOWN, SOLO, "Up", 1.0),
        (Application.UNREADY, Phase.UP, DRAIN, "Draining", 0.0),
        (Application.UNREADY, Phase.DRAINING, CLOSED, "Draining", 0.0),
        (Application.UNREADY, Phase.DOWN, LAST, "Draining", 0.0),
        (Application.STOPPED, Phase.UP, PASS, "Stopped", 0.0),
        (Application.STOPPED, Phase.DRAINING, PASS, "Stopped", 0.0),
        (Application.STOPPED, Phase.DOWN, None, "Stopped", 0.0),
    ],
)
def test_two_nodes_that_hear_each_other(
    mine: Application, theirs: Phase, way: object, state: str, share: float
) -> None:
    decision = decided(own(mine), peer(message(theirs)))
    assert (decision.way, decision.state, decision.share) == (way, state, share)
    assert decision.hold is (way is not None)


def test_the_share_follows_the_weights() -> None:
    for node, share in (("a", 0.75), ("b", 0.25)):
        weighted = replace(settings(node), weights={"a": 3, "b": 1})
        assert decide(weighted, own(), peer(message()), LISTENER, NOW).share == share


def test_an_announcer_goes_on_and_the_other_does_not_begin() -> None:
    assert decided(own(), peer(message()), ANNOUNCING, "b").announce
    assert not decided(own(), peer(message(announcing=True)), node="a").announce


def test_when_nobody_announces_one_of_the_two_begins() -> None:
    assert decided(own(), peer(message()), node="a").announce
    assert not decided(own(), peer(message()), node="b").announce
    # The better application, whatever the order.
    assert decided(own(), peer(message(Phase.DRAINING)), node="b").announce
    assert not decided(own(Application.UNREADY), peer(message()), node="a").announce


def test_of_two_that_announce_exactly_one_gives_in() -> None:
    both = {node: decided(own(), peer(message(announcing=True)), ANNOUNCING, node).announce for node in "ab"}
    assert both == {"a": True, "b": False}
    draining = decided(own(Application.UNREADY), peer(message(announcing=True)), ANNOUNCING, "a")
    assert not draining.announce


def test_a_handover_is_make_before_break() -> None:
    gives = decided(own(Application.STOPPED), peer(message()), ANNOUNCING, "a")
    assert (gives.announce, gives.yielding) == (True, True)
    takes = decided(own(), peer(message(Phase.DOWN, announcing=True, yielding=True)), node="b")
    assert takes.announce
    ends = decided(own(Application.STOPPED), peer(message(announcing=True)), gives.memory, "a")
    assert (ends.announce, ends.yielding) == (False, False)
    stays = decided(own(), peer(message(Phase.DOWN, announcing=True, yielding=True)), takes.memory, "b")
    assert stays.announce


def test_a_draining_announcer_need_not_hand_over_what_it_can_forward() -> None:
    decision = decided(own(draining=True), peer(message()), ANNOUNCING)
    assert (decision.way, decision.announce, decision.yielding) == (DRAIN, True, False)
    decision = decided(own(draining=True), peer(message(capable=False)), ANNOUNCING)
    assert (decision.way, decision.yielding) == (LAST, True)


def test_a_node_that_leaves_waits_for_the_peer_to_announce_and_then_holds_nothing() -> None:
    leaving = decided(own(leaving=True), peer(message()), ANNOUNCING)
    assert (leaving.way, leaving.announce, leaving.yielding) == (PASS, True, True)
    gone = decided(own(leaving=True), peer(message(announcing=True)), leaving.memory)
    assert (gone.state, gone.hold, gone.announce) == ("Stopped", False, False)
    assert gone.reason == "leaving; b goes on"
    alone = decided(own(leaving=True), Peer(), Memory(0.0, announcing=True))
    assert (alone.hold, alone.announce) == (False, False)


def test_a_peer_that_said_goodbye_is_not_waited_for() -> None:
    decision = decided(own(), peer(message(Phase.DOWN, leaving=True)))
    assert (decision.way, decision.announce) == (SOLO, True)
    assert decision.reason == "the peer left: serve everything"


def test_a_node_that_was_frozen_listens_before_it_takes_anything() -> None:
    slept = Memory(0.0, announcing=True, decided_at=NOW - 5)
    decision = decided(own(holding=False), peer(message(), age=5), slept)
    assert (decision.way, decision.announce, decision.reason) == (None, False, "listening for the peer")
    # Its peer announces: that is what it finds when it listens.
    heard = decided(own(holding=False), peer(message(announcing=True)), slept)
    assert (heard.way, heard.announce) == (BOTH, False)
    # A slow turn that cost no lease is none.
    assert decided(own(), peer(message(), age=5), slept).way is SOLO


def test_a_lost_lease_is_no_right_to_announce() -> None:
    decision = decided(own(holding=False), peer(message(announcing=True)), ANNOUNCING, "a")
    assert not decision.announce


def test_a_peer_that_is_alive_but_not_reached_over_the_lan_gets_no_share() -> None:
    other = peer(message(), lan_age=T)
    announcer = decided(own(), other, ANNOUNCING)
    assert (announcer.way, announcer.announce) == (SOLO, True)
    waiting = decided(own(), peer(message(announcing=True), lan_age=T), node="b")
    assert (waiting.state, waiting.hold, waiting.way) == ("Waiting", False, None)
    assert waiting.reason == "a is not reached over the addresses' own network; a serves alone"


def test_what_is_forwarded_must_arrive_so_both_directions_count() -> None:
    announcer = decided(own(), peer(message(reached=False)), ANNOUNCING)
    assert (announcer.way, announcer.reached) == (SOLO, True)
    assert not decided(own(), peer(message(), lan_age=T), ANNOUNCING).reached


def test_without_the_filter_on_one_node_the_announcer_serves_all() -> None:
    announcer = decided(own(), peer(message(capable=False)), ANNOUNCING)
    assert (announcer.way, announcer.share) == (SOLO, 1.0)
    assert announcer.reason == "the kernel of b cannot divide the clients: serve everything"
    other = decided(own(capable=False), peer(message(announcing=True)))
    assert (other.hold, other.share) == (False, 0.0)
    assert other.reason == "the kernel of a cannot divide the clients; b serves alone"


def test_while_only_one_direction_is_cut_the_one_that_hears_gives_in() -> None:
    deaf = peer(message(announcing=True, hears_ms=5000.0))
    first = decided(own(), deaf, ANNOUNCING, "a")
    assert first.announce
    later = decide(settings("a"), own(), peer(message(announcing=True, hears_ms=5000.0), age=-T),
                   replace(first.memory, decided_at=NOW + T - 0.05), NOW + T)  # fmt: skip
    assert (later.announce, later.hold) == (False, False)
    assert later.reason == "b does not hear this node, and serves everything"


def test_without_a_carrier_a_node_is_down_and_holds_nothing() -> None:
    decision = decided(own(lan=False), peer(message()), ANNOUNCING)
    assert (decision.phase, decision.hold, decision.announce) == (Phase.DOWN, False, False)
    assert decision.reason == "the addresses' network is down here: b serves"
