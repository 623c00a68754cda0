"""Going on without the peer: tests, votes, fencing (DESIGN.md R4, R8, R10)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.role.scene import (
    FOLLOWING,
    IN_SYNC,
    LOST,
    PRIMARY,
    RECORD,
    SERVING,
    START,
    Scene,
    heard,
)
from twinhull_sidecar.role.model import (
    Action,
    AskVotes,
    Decision,
    EngineView,
    FencePeer,
    FenceView,
    GoAlone,
    Order,
    ProbeView,
    RenewLease,
    ReturnVotes,
    Role,
    StopSecondary,
    WitnessView,
)

VOTE = WitnessView("site-c", True, START + 13.0)
MINE = replace(VOTE, mine=True, holder="a", generation="g1")
THEIRS = replace(VOTE, holder="b", detail="b has it")
GATEWAY = WitnessView("gateway", False, START + 13.9)


def lost_primary(scene: Scene, *views: WitnessView, at: float = START + 14.0, **fields: Any) -> Decision:
    """A secondary in sync heard its primary last at 110 s, with a detection timeout of 3 s; the address is free."""
    scene.see(START + 10.0, engine=IN_SYNC, **heard(START + 10.0))
    probe = ProbeView(at - 0.6, at - 0.4)
    return scene.see(at, engine=LOST, probe=probe, witnesses=views, **heard(START + 10.0), **fields)


def lost_secondary(scene: Scene, *views: WitnessView, at: float = START + 15.0, **fields: Any) -> Decision:
    """A primary heard its secondary last at 110 s; it waits 4.5 s."""
    scene.serving()
    gone = replace(SERVING, connected=False, in_sync=False, disconnected_at=START + 10.0)
    seen = {**PRIMARY, "engine": gone, **heard(START + 10.0, FOLLOWING)}
    return scene.see(at, **seen, witnesses=views, **fields)


def test_with_the_vote_a_secondary_takes_over() -> None:
    assert lost_primary(Scene(votes=1), MINE).effects == (StopSecondary(),)


def test_without_it_the_secondary_asks_and_stays() -> None:
    decision = lost_primary(Scene(votes=1), VOTE)
    assert decision.effects == (AskVotes("g1"),)
    assert decision.code == "NoVote"
    assert "site-c: no answer yet" in decision.reason


def test_it_asks_before_the_timeout_is_over() -> None:
    decision = lost_primary(Scene(votes=1), VOTE, at=START + 12.6)
    assert (decision.code, decision.effects) == ("PeerSilent", (AskVotes("g1"),))


def test_a_vote_that_the_primary_has_ends_it() -> None:
    decision = lost_primary(Scene(votes=1), THEIRS)
    assert (decision.role, decision.code) == (Role.WAITING, "VoteLost")
    assert "b has the vote of site-c" in decision.reason


def test_a_deciding_witness_makes_wait_go_on() -> None:
    assert lost_primary(Scene(votes=1, without_witness="Wait"), MINE).code == "PeerLost"
    assert lost_primary(Scene(tests=1, without_witness="Wait"), GATEWAY).code == "NoWitness"


def test_two_of_three_votes_are_enough_and_one_is_not() -> None:
    other = replace(MINE, name="site-d")
    assert lost_primary(Scene(votes=3), MINE, other, THEIRS).code == "PeerLost"
    assert lost_primary(Scene(votes=3), MINE, VOTE, THEIRS).code == "NoVote"
    assert lost_primary(Scene(votes=3), MINE, THEIRS, replace(THEIRS, name="site-d")).code == "VoteLost"
    assert lost_primary(Scene(votes=2), MINE, THEIRS).code == "VoteLost"


def test_a_test_that_answered_just_now_is_enough_and_an_old_answer_is_not() -> None:
    assert lost_primary(Scene(tests=1), GATEWAY).code == "PeerLost"
    silent = replace(GATEWAY, answered_at=START + 12.4)
    decision = lost_primary(Scene(tests=1), silent)
    assert decision.code == "Isolated"
    assert "gateway" in decision.reason
    assert lost_primary(Scene(tests=2), silent, replace(GATEWAY, name="dns")).code == "PeerLost"


def test_a_cut_off_node_asks_for_no_vote() -> None:
    assert lost_primary(Scene(tests=1, votes=1), replace(GATEWAY, answered_at=None), VOTE).effects == ()


def test_a_primary_goes_on_alone_with_the_vote() -> None:
    effects = lost_secondary(Scene(votes=1), MINE).effects
    assert effects[1:] == (GoAlone("s1"),)


@pytest.mark.parametrize("at", [11.6, 13.2])
def test_it_asks_before_its_secondary_does(at: float) -> None:
    effects = lost_secondary(Scene(votes=1), VOTE, at=START + at).effects
    assert effects[1:] == (AskVotes("g1"),)


def test_without_the_vote_it_keeps_the_writes_waiting_and_then_stops() -> None:
    scene = Scene(votes=1)
    decision = lost_secondary(scene, VOTE)
    assert decision.code == "NoVote"
    assert "Writes wait" in decision.reason
    assert isinstance(decision.effects[0], RenewLease)
    decision = lost_secondary(Scene(votes=1), VOTE, at=START + 17.6)
    assert not decision.state.serving
    assert "this node has stopped" in decision.reason


def test_a_lost_vote_stops_it_at_once() -> None:
    decision = lost_secondary(Scene(votes=1), THEIRS)
    assert (decision.code, decision.state.serving) == ("VoteLost", False)


def test_in_sync_again_the_vote_goes_back() -> None:
    seen = {**PRIMARY, **heard(START + 11.0, FOLLOWING)}
    decision = Scene(votes=1).serving().see(START + 11.0, witnesses=(MINE,), **seen)
    assert decision.effects[1:] == (ReturnVotes("g1"),)


def test_a_primary_alone_notes_its_generation_with_the_vote() -> None:
    alone = replace(RECORD, alone=True, generation="g2", last_role="primary")
    gone = replace(SERVING, connected=False, in_sync=False, disconnected_at=START + 10.0)
    seen = {**PRIMARY, "engine": gone, "record": alone, **heard(START + 10.0, FOLLOWING)}
    decision = Scene(votes=1).serving().see(START + 20.0, witnesses=(MINE,), **seen)
    assert decision.effects[1:] == (AskVotes("g2"),)


def test_a_secondary_that_hears_its_primary_gives_the_vote_back() -> None:
    decision = Scene(votes=1).see(START + 10.0, engine=IN_SYNC, witnesses=(MINE,), **heard(START + 10.0))
    assert decision.effects == (ReturnVotes("g1"),)
    # One that it does not know to have, too: the answer was lost.
    named = replace(MINE, mine=False)
    decision = Scene(votes=1).see(START + 10.0, engine=IN_SYNC, witnesses=(named,), **heard(START + 10.0))
    assert decision.effects == (ReturnVotes("g1"),)


def test_not_while_the_primary_is_about_to_be_lost() -> None:
    scene = Scene(votes=1)
    scene.see(START + 10.0, engine=IN_SYNC, **heard(START + 10.0))
    decision = scene.see(START + 12.0, engine=IN_SYNC, witnesses=(MINE,), **heard(START + 10.0))
    assert ReturnVotes("g1") not in decision.effects


def test_a_node_that_ran_alone_starts_unheard_with_the_vote_only() -> None:
    alone = replace(RECORD, alone=True)
    fields: dict[str, Any] = {"record": alone, "probe": ProbeView(START + 3.0, START + 3.5)}
    scene = Scene(votes=1)
    scene.see(START)
    decision = scene.see(START + 4.0, witnesses=(VOTE,), **fields)
    assert (decision.code, decision.effects) == ("NoVote", (AskVotes("g1"),))
    assert scene.see(START + 4.1, witnesses=(MINE,), **fields).code == "RanAlone"


def test_the_witness_names_the_node_with_the_newer_data() -> None:
    scene = Scene(votes=1)
    scene.see(START)
    decision = scene.see(START + 4.0, witnesses=(THEIRS,))
    assert decision.code == "PeerUnknown"
    assert "Witness site-c says that b went on alone." in decision.reason


def test_an_administrators_force_takes_the_vote_over() -> None:
    scene = Scene(votes=1)
    scene.see(START)
    decision = scene.see(START + 4.0, witnesses=(THEIRS,), orders=(Order("o", Action.FORCE_PRIMARY),))
    assert AskVotes("g1", seize=True) in decision.effects
    assert decision.code == "Forced"


def test_a_peer_that_left_needs_no_vote() -> None:
    scene = Scene(votes=1).serving()
    gone = replace(SERVING, connected=False, in_sync=False, disconnected_at=START + 10.5)
    seen = {**PRIMARY, "engine": gone, **heard(START + 11.0, replace(FOLLOWING, leaving=True))}
    assert scene.see(START + 11.0, witnesses=(THEIRS,), **seen).effects[1:] == (GoAlone("s1"),)


def test_the_lost_primary_is_powered_off_before_the_takeover() -> None:
    scene = Scene(fencing=True)
    decision = lost_primary(scene)
    assert (decision.code, decision.effects) == ("NotFenced", (FencePeer(),))
    running = FenceView(START + 14.0)
    assert lost_primary(Scene(fencing=True), fence=running).effects == ()
    refused = FenceView(START + 13.5, START + 13.8, ok=False, detail="401 Unauthorized")
    decision = lost_primary(Scene(fencing=True), fence=refused)
    assert decision.effects == ()
    assert "401 Unauthorized" in decision.reason
    off = FenceView(START + 13.5, START + 13.8, ok=True)
    assert lost_primary(Scene(fencing=True), fence=off).code == "PeerLost"


def test_powered_off_it_may_take_longer_than_the_window() -> None:
    off = FenceView(START + 14.0, START + 24.0, ok=True)
    assert lost_primary(Scene(fencing=True), at=START + 25.0, fence=off).code == "PeerLost"


def test_what_was_powered_off_before_it_was_heard_counts_for_nothing() -> None:
    off = FenceView(START + 5.0, START + 6.0, ok=True)
    assert lost_primary(Scene(fencing=True), fence=off).code == "NotFenced"


def test_a_node_that_lost_the_vote_powers_nobody_off() -> None:
    assert FencePeer() not in lost_primary(Scene(votes=1, fencing=True), THEIRS).effects
    assert FencePeer() in lost_primary(Scene(votes=1, fencing=True), MINE).effects


def test_a_primary_powers_its_lost_secondary_off_too() -> None:
    assert FencePeer() in lost_secondary(Scene(fencing=True)).effects
    off = FenceView(START + 14.6, START + 14.8, ok=True)
    assert lost_secondary(Scene(fencing=True), fence=off).effects[-1] == GoAlone("s1")


def test_an_idle_node_does_not_start_by_the_vote_alone() -> None:
    """What its power cut took from its page cache, the other node may still have."""
    scene = Scene(votes=1)
    scene.see(START)
    decision = scene.see(START + 10.0, engine=EngineView(), witnesses=(MINE,))
    assert (decision.role, decision.code) == (Role.WAITING, "PeerUnknown")
