"""The primary's node loses power: the other serves every acknowledged record; the victim returns in sync."""

from __future__ import annotations

from tests.lab.load import dump, load
from tests.lab.pair import pair_of_nodes
from tests.lab.report import figure, show_timeline
from tests.lab.trees import assert_trees_equal

SLACK = 0.5


def test_every_acknowledged_record_survives_the_primarys_power_cut() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            victim = pair.wait_redundant()
            survivor = pair.other(victim)

            moment = pair.power_cut(victim)
            status = pair.wait_serving(survivor, 15)
            clients.wait_for_more(20)

            announced = show_timeline(f"power cut of {victim}", moment, status, clients.check())
            assert status.role == "Alone"
            assert announced <= pair.config.detection_timeout + SLACK

            clients.resume()
            pair.boot(victim)
            assert pair.wait_redundant() == survivor
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)


def test_both_nodes_lose_power_at_once() -> None:
    """Page caches are gone on both; what was acknowledged after fsync is on both disks."""
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(100)
            primary = pair.wait_redundant()
            for name in (primary, pair.other(primary)):
                pair.power_cut(name)
            history = clients.stop()
            # The one that was the secondary comes first: it must wait for the other.
            pair.boot(pair.other(primary))
            pair.wait_role(pair.other(primary), "Waiting", 20)
            pair.boot(primary)
            assert pair.wait_redundant() == primary
            found = dump(pair)
            assert history.synced().judge(found) == [], found["damaged"]
            clients.resume()
            clients.wait_for_more(20)
            clients.stop()
            assert_trees_equal(pair)


def test_the_secondarys_power_cut_stops_nothing_for_long() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            clients.wait_for_more(50)
            primary = pair.wait_redundant()
            victim = pair.other(primary)

            pair.power_cut(victim)
            pair.wait_role(primary, "Alone", 15)
            clients.wait_for_more(20)
            clients.check()

            clients.resume()
            pair.boot(victim)
            assert pair.wait_redundant() == primary
            clients.wait_for_more(20)
            history = clients.check()
            assert_trees_equal(pair)
            figure(f"power cut of the secondary: longest gap {history.longest_gap():.2f} s")
            assert history.longest_gap() < 2 * pair.config.detection_timeout
