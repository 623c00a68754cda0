"""Who starts (R2): one node back, both back in either order, after an outage of the whole site."""

from __future__ import annotations

import pytest

from tests.simulation.test_scenarios import Pair, cut
from tests.simulation.world import T
from twinhull_sidecar.role.model import Phase, Role


def outage(pair: Pair) -> None:
    """Both lose power at the same moment."""
    for node in pair.nodes:
        pair.crash(node, power=True)
    pair.pass_time(T)


@pytest.mark.parametrize("first", ["primary", "secondary"])
def test_after_an_outage_one_node_alone_waits_and_says_why(first: str) -> None:
    pair = Pair()
    node = pair.primary if first == "primary" else pair.secondary
    outage(pair)
    node.boot()
    pair.pass_time(20 * T)
    assert (node.state.role, node.code) == (Role.WAITING, "PeerUnknown")
    assert "order force-primary" in node.reason


@pytest.mark.parametrize("first", ["primary", "secondary"])
@pytest.mark.parametrize("pause", [0.0, 0.5, 5.0])
def test_after_an_outage_both_nodes_agree_in_whatever_order_they_return(first: str, pause: float) -> None:
    pair = Pair()
    order = [pair.primary, pair.secondary] if first == "primary" else [pair.secondary, pair.primary]
    outage(pair)
    order[0].boot()
    pair.pass_time(pause * T)
    order[1].boot()
    pair.pass_time(6 * T)
    assert {node.state.role for node in pair.nodes} == {Role.PRIMARY, Role.SECONDARY}


def test_one_that_ran_alone_starts_alone_after_the_startup_timeout() -> None:
    pair = Pair(startup=8.0)
    pair.crash(pair.secondary, power=True)
    pair.pass_time(3 * T)
    assert pair.primary.state.role is Role.ALONE
    outage(pair)
    pair.primary.boot()
    pair.pass_time(6 * T)
    assert (pair.primary.state.role, pair.primary.code) == (Role.WAITING, "Starting")
    assert "startupTimeout" in pair.primary.reason
    pair.pass_time(4 * T)
    assert pair.primary.state.role is Role.ALONE
    assert pair.primary.phase is Phase.RUNNING


def test_the_outdated_one_never_starts_however_long_it_waits() -> None:
    pair = Pair()
    pair.crash(pair.secondary, power=True)
    pair.pass_time(3 * T)
    outage(pair)
    pair.secondary.boot()
    pair.pass_time(30 * T)
    assert pair.secondary.state.role is Role.WAITING


def test_both_back_the_one_that_ran_alone_serves_without_waiting_for_the_timeout() -> None:
    pair = Pair(startup=50.0)
    pair.crash(pair.secondary, power=True)
    pair.pass_time(3 * T)
    outage(pair)
    for node in (pair.secondary, pair.primary):
        node.boot()
        pair.pass_time(0.5 * T)
    pair.pass_time(4 * T)
    assert (pair.primary.state.role, pair.secondary.state.role) == (Role.PRIMARY, Role.SECONDARY)


@pytest.mark.parametrize(("votes", "waits"), [(0, False), (1, True)])
def test_an_alone_node_that_boots_cut_off_needs_the_vote(votes: int, waits: bool) -> None:
    pair = Pair(votes=votes)
    pair.crash(pair.secondary, power=True)
    pair.pass_time(3 * T)
    outage(pair)
    cut(pair, lan=True)
    pair.witnesses.darken({(0, pair.primary.index)})
    pair.primary.boot()
    pair.pass_time(5 * T)
    assert (pair.primary.state.role is Role.WAITING) is waits
    if waits:
        assert pair.primary.code == "NoVote"
        pair.witnesses.lighten({(0, pair.primary.index)})
        pair.pass_time(2 * T)
        assert pair.primary.state.role is Role.ALONE
