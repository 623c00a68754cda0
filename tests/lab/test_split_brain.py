"""Both nodes ran alone: the meeting finds it, one goes on, nothing is discarded without being told to."""

from __future__ import annotations

import json
import socket

from tests.lab.load import dump
from tests.lab.netns import CLIENT, LINKS
from tests.lab.pair import SERVICE_PORT, Pair, pair_of_nodes
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal


def write(pair: Pair, node: str, client: int, number: int) -> None:
    """One record through the node's own address: in a partition the virtual one is on both."""

    def connect() -> socket.socket | None:
        try:
            with pair.lab.inside(CLIENT):
                return socket.create_connection((pair.lab.address(node), SERVICE_PORT), timeout=10)
        except ConnectionRefusedError:
            # Running, not yet listening.
            return None

    with (
        pair.wait(f"the application on {node} listens", connect, 10) as connection,
        connection.makefile("rb") as answers,
    ):
        request = {"client": client, "id": number, "op": "append", "fsync": True}
        connection.sendall(json.dumps(request).encode() + b"\n")
        assert json.loads(answers.readline()) == {"id": number}


def reunite_after_both_wrote(pair: Pair) -> None:
    """Start, share record 0 1, cut every link, let each node write a record of its own, heal the links."""
    pair.start()
    write(pair, pair.wait_redundant(), 0, 1)
    for link in LINKS:
        pair.lab.cut(link)
    for name in pair.nodes:
        pair.wait_role(name, "Alone", 15)
        pair.wait_serving(name, 15)
    write(pair, "a", 1, 1)
    write(pair, "b", 2, 1)
    for link in LINKS:
        pair.lab.heal(link)


def test_a_split_brain_is_found_and_ends_only_by_an_order() -> None:
    with pair_of_nodes(preferred_node="b") as pair:
        reunite_after_both_wrote(pair)
        status = pair.wait_role("a", "Waiting", 20)
        assert status.reason_code == "SplitBrain"
        figure(f"a: {status.reason}")
        assert "force-primary" in status.reason
        assert pair.wait_serving("b", 20).role == "Alone"
        assert dump(pair)["ledger"] == [[0, 1], [2, 1]]
        # What only the other has is untouched.
        assert b"1 1 " in (pair["a"].backing / "ledger").read_bytes()

        done = pair["b"].ctl("force-primary", "--discard-peer")
        assert done.returncode == 0, done.stderr
        assert pair.wait_redundant() == "b"
        assert dump(pair)["ledger"] == [[0, 1], [2, 1]]
        assert_trees_equal(pair)
        kept = [path.read_bytes() for path in (pair["a"].base / "quarantine").rglob("ledger")]
        assert any(b"1 1 " in content for content in kept), "the losing side's records are in its quarantine"


def test_the_administrator_may_choose_the_waiting_side() -> None:
    with pair_of_nodes(preferred_node="b") as pair:
        reunite_after_both_wrote(pair)
        pair.wait_role("a", "Waiting", 20)
        refused = pair["a"].ctl("force-primary")
        assert refused.returncode == 1
        figure(f"refused: {refused.stderr}{refused.stdout}")
        done = pair["a"].ctl("force-primary", "--discard-peer")
        assert done.returncode == 0, done.stderr
        assert pair.wait_redundant() == "a"
        assert dump(pair)["ledger"] == [[0, 1], [1, 1]]
        assert_trees_equal(pair)
