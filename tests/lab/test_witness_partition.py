"""Two-sided partitions with each kind of witness: which side goes on, and that no write was acknowledged on both."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.api_server import running
from tests.lab.netns import LINKS
from tests.lab.pair import Pair, pair_of_nodes
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal
from tests.lab.witnesses import (
    PING,
    TCP,
    cut_from_witness,
    heal_everything,
    kubeconfig_for_nodes,
    lease,
    relay,
    target_of,
)
from tests.lab.writers import Writer, writers
from twinhull_sidecar.config import Witness

#: kind, which nodes the witness answers (P primary, S secondary) -> who goes on
CASES = {
    ("ping", "P"): "P",
    ("ping", "S"): "S",
    ("ping", ""): "",
    ("tcp", "P"): "P",
    ("tcp", "S"): "S",
    ("lease", "PS"): "P",
    ("lease", "P"): "P",
    ("lease", "S"): "S",
    ("lease", ""): "",
}


@contextmanager
def with_witness(kind: str, directory: Path) -> Iterator[Pair]:
    """A pair in sync whose witness answers both nodes."""
    if kind == "lease":
        with running(directory) as server:
            witness = lease(kubeconfig_for_nodes(server, directory / "for-nodes"))
            with _pair(witness) as pair, relay(pair.lab, target_of(server)):
                yield pair
    else:
        with _pair(PING if kind == "ping" else TCP) as pair, relay(pair.lab, 9):
            yield pair


@contextmanager
def _pair(witness: Witness) -> Iterator[Pair]:
    with pair_of_nodes(witnesses=(witness,)) as pair:
        yield pair


def wait_until_asked(pair: Pair) -> None:
    """Both nodes have an answer of the witness."""
    pair.wait(
        "the witness answers both",
        lambda: all(node.status().witnesses[0].answers for node in pair.nodes.values()),
        30,
    )


@pytest.mark.parametrize(("kind", "answered"), CASES)
def test_a_partition_is_decided(kind: str, answered: str, tmp_path: Path) -> None:
    with with_witness(kind, tmp_path) as pair:
        pair.start()
        wait_until_asked(pair)
        primary = pair.wait_redundant()
        sides = {"P": primary, "S": pair.other(primary)}
        with writers(pair) as both:
            pair.wait("writes", lambda: len(both[primary].acknowledged) > 20, 30)
            for side, node in sides.items():
                if side not in answered:
                    cut_from_witness(pair.lab, node)
            for link in LINKS:
                pair.lab.cut(link)
            cut_at = time.monotonic()
            winner = sides.get(CASES[kind, answered])
            _wait_decided(pair, winner)
            time.sleep(3)
            figure(_outcome(pair, both, cut_at, f"{kind}, answers {answered or 'neither'}"))
            _check_one_side(pair, both, winner, cut_at)
            heal_everything(pair.lab)
            pair.wait_redundant(60)
        assert_trees_equal(pair)
        final = pair[pair.wait_redundant()].mount
        for writer in both.values():
            missing = [name for _, name in writer.acknowledged if not (final / name).exists()]
            assert not missing, f"{writer.name} had {missing} acknowledged"


def _wait_decided(pair: Pair, winner: str | None) -> None:
    """The winner serves alone, every other node has nothing of the module."""
    for name in pair.nodes:
        pair.wait_role(name, "Alone" if name == winner else "Waiting", 30)
    if winner is not None:
        pair.wait_serving(winner, 30)


def _check_one_side(pair: Pair, both: dict[str, Writer], winner: str | None, cut_at: float) -> None:
    # What was on its way at the moment of the cut may have been answered just after it.
    late = cut_at + 1.0
    for name, writer in both.items():
        if name == winner:
            pair.wait(f"writes on {name}", lambda writer=writer: writer.since(late), 20)  # type: ignore[misc]
        else:
            assert not writer.since(late), f"{name} acknowledged {writer.since(late)}"
            status = pair[name].status()
            assert not any(vip.held for vip in status.virtual_ips), f"{name} holds the address"
            assert status.application.phase == "Held"


def _outcome(pair: Pair, both: dict[str, Writer], cut_at: float, case: str) -> str:
    parts = []
    for name, writer in both.items():
        status = pair[name].status()
        after = [at - cut_at for at, _ in writer.acknowledged if at > cut_at + 1.0]
        writes = f"{len(after)} writes from {after[0]:.2f} s on" if after else "no write"
        parts.append(f"{name} {status.role} {status.reason_code}, {writes}")
    return f"{case}: {'; '.join(parts)}"
