"""Cut networks without a witness: what DESIGN.md says happens, and what the user sees."""

from __future__ import annotations

import time

from tests.lab.load import dump, load
from tests.lab.netns import LINKS
from tests.lab.pair import Pair, pair_of_nodes
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal


def watch_roles(pair: Pair, seconds: float) -> list[tuple[str, str]]:
    """The different pairs of roles within that time."""
    seen: list[tuple[str, str]] = []
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        roles = (pair["a"].role(), pair["b"].role())
        if not seen or seen[-1] != roles:
            seen.append(roles)
        time.sleep(0.1)
    return seen


def test_one_cut_link_changes_nothing() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(20)
            for link in LINKS:
                primary = pair.wait_redundant()
                pair.lab.cut(link)
                roles = watch_roles(pair, 3 * pair.config.detection_timeout)
                assert pair.wait_redundant(10) == primary
                assert all("Alone" not in pair_of_roles for pair_of_roles in roles), roles
                status = pair[primary].status()
                assert [item.name for item in status.peer.links if not item.up] == [link]
                clients.wait_for_more(20)
                pair.lab.heal(link)
            clients.check()
            assert_trees_equal(pair)


def test_a_total_cut_with_continue_leaves_both_alone_and_says_so() -> None:
    with pair_of_nodes(without_witness="Continue") as pair:
        pair.start()
        dump(pair)  # The application has opened its files; it writes nothing more by itself.
        for link in LINKS:
            pair.lab.cut(link)
        pair.wait_role("a", "Alone", 15)
        pair.wait_role("b", "Alone", 15)
        for name in ("a", "b"):
            status = pair[name].status()
            figure(f"{name}: {status.role}: {status.reason}")
            assert not status.peer.heard
            assert not any(link.up for link in status.peer.links)
            assert pair.other(name) in status.reason
            assert status.events[-1].type == "Warning"
        # Neither wrote anything: on meeting again nothing is lost, one yields, no one has to decide anything.
        for link in LINKS:
            pair.lab.heal(link)
        assert pair.wait_redundant(30) == "a"
        assert_trees_equal(pair)


def test_a_total_cut_with_wait_leaves_the_secondary_waiting() -> None:
    with pair_of_nodes(without_witness="Wait") as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(20)
            primary = pair.wait_redundant()
            secondary = pair.other(primary)
            for link in LINKS:
                pair.lab.cut(link)
            pair.wait_role(primary, "Alone", 15)
            status = pair.wait_role(secondary, "Waiting", 15)
            figure(f"{secondary}: {status.role}: {status.reason}")
            assert "force-primary" in status.reason
            clients.wait_for_more(20)
            assert pair[secondary].role() == "Waiting"
            for link in LINKS:
                pair.lab.heal(link)
            assert pair.wait_redundant(30) == primary
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)


def test_nodes_that_see_each_other_only_on_the_lan_of_clients_do_not_both_serve() -> None:
    """All heartbeats are lost, but the RFC 5227 probe on the LAN finds the primary's address in use (R7)."""
    with pair_of_nodes() as pair:
        pair.start()
        primary = pair.wait_redundant()
        secondary = pair.other(primary)
        # Heartbeats and stream are dropped on both links; ARP goes through.
        pair.lab.run(
            secondary, "nft", "-f", "-", stdin=_NO_IP_FROM_PEER.format(peer=_addresses(pair, primary))
        )
        status = pair.wait_role(primary, "Alone", 15)
        roles = watch_roles(pair, 2 * pair.config.detection_timeout)
        assert all((role_b if primary == "a" else role_a) != "Alone" for role_a, role_b in roles), roles
        status = pair[secondary].status()
        figure(f"{secondary}: {status.role}: {status.reason}")
        assert status.role == "Waiting"
        assert any(pair.vip in event.message and event.code == "VipTaken" for event in status.events)
        pair.lab.run(secondary, "nft", "delete", "table", "ip", "labcut")
        assert pair.wait_redundant(30) == primary


def _addresses(pair: Pair, node: str) -> str:
    return ", ".join(pair.lab.address(node, link) for link in LINKS)


_NO_IP_FROM_PEER = """
table ip labcut {{
    chain input {{ type filter hook input priority -300; ip saddr {{ {peer} }} drop; }}
    chain output {{ type filter hook output priority -300; ip daddr {{ {peer} }} drop; }}
}}
"""
