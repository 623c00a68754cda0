"""A module deleted and created again under its name: the kept data are adopted when that is said, and only then."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.lab.load import load
from tests.lab.pair import UID, Node, Pair, pair_of_nodes
from tests.lab.pki import make_tls_dir
from tests.lab.report import figure
from tests.lab.test_bad_input import stop, wait_problem
from tests.lab.trees import assert_trees_equal
from twinhull_sidecar.config import Volume

NEW = "7e57ed00-1ab0-4b0e-9d5e-0123456789ab"
LINE = f'write "adoptUID: {UID}" under spec to take them over'
MARKER = "trusted.twinhull.module"


def recreate(pair: Pair, node: Node, adopts: str | None, **changes: Any) -> None:
    """What the operator gives the node after the module was created again: another UID, certificates and key."""
    node.tls_dir = pair.directory / "tls-new"
    if not node.tls_dir.exists():
        make_tls_dir(node.tls_dir, [*pair.nodes, "operator"], NEW)
    node.use(replace(pair.config, uid=NEW, adopt_uid=adopts, **changes))


def owners(node: Node) -> tuple[str, str]:
    """The UIDs in the generation record and on the volume."""
    record = json.loads((node.base / "state" / "record.json").read_text())["record"]
    return record["module"], os.getxattr(node.backing, MARKER).decode()


def contents(node: Node) -> dict[Path, bytes]:
    """All files of the volume."""
    return {path: path.read_bytes() for path in node.backing.rglob("*") if path.is_file()}


def events(node: Node) -> list[str]:
    """The codes of its events."""
    return [event.code for event in node.status().events]


def test_kept_data_are_refused_with_the_line_to_write_and_adopted_with_it() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            pair.wait_redundant()
            clients.wait_for_more(50)
            clients.stop()
            # As the module's deletion does it: both pods at once.
            for node in pair.nodes.values():
                assert node.sidecar is not None
                node.sidecar.send_signal(signal.SIGTERM)
            for node in pair.nodes.values():
                assert node.sidecar is not None
                assert node.sidecar.wait(30) == 0
            before = {name: contents(node) for name, node in pair.nodes.items()}
            assert all(before.values())

            for node in pair.nodes.values():
                recreate(pair, node, None)
                node.start()
            for name in pair.nodes:
                status = wait_problem(pair, name, LINE)
                assert status.role == "Waiting"
                assert [problem.field for problem in status.problems] == ["adopt_uid"]
            assert {name: contents(node) for name, node in pair.nodes.items()} == before
            assert {owners(node) for node in pair.nodes.values()} == {(UID, UID)}

            # Only that module's data, and no other's.
            recreate(pair, pair["a"], NEW.replace("7", "8"))
            status = wait_problem(pair, "a", f"adopts {NEW.replace('7', '8')}")
            assert owners(pair["a"]) == (UID, UID)

            for node in pair.nodes.values():
                recreate(pair, node, UID)
            pair.wait_redundant()
            assert {owners(node) for node in pair.nodes.values()} == {(NEW, NEW)}
            assert all("DataAdopted" in events(node) for node in pair.nodes.values())
            clients.resume()
            clients.wait_for_more(20)
            clients.check()
            assert_trees_equal(pair)

            # The field has done its work: with it or without it the data are this module's.
            secondary = pair[pair.other(pair.wait_redundant())]
            stop(secondary)
            recreate(pair, secondary, None)
            secondary.start()
            pair.wait_redundant()
            assert "DataAdopted" not in events(secondary)


def test_a_node_that_was_away_adopts_its_own_copy_when_it_returns_and_resynchronises() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            primary = pair.wait_redundant()
            away = pair[pair.other(primary)]
            stop(away)
            pair.wait_role(primary, "Alone", 20)
            clients.wait_for_more(20)
            clients.stop()
            stop(pair[primary])

            recreate(pair, pair[primary], UID)
            pair[primary].start()
            pair.wait_serving(primary, 30)
            assert pair[primary].role() == "Alone"
            assert owners(pair[primary]) == (NEW, NEW)
            clients.resume()
            clients.wait_for_more(20)
            assert owners(away) == (UID, UID)

            # It returns without the line, as when that was removed too early: refused, and the line is named.
            recreate(pair, away, None)
            away.start()
            wait_problem(pair, away.name, LINE)
            clients.wait_for_more(20)

            # With the line; as if an earlier attempt had ended between the volume's marker and the record.
            stop(away)
            os.setxattr(away.backing, MARKER, NEW.encode())
            recreate(pair, away, UID)
            away.start()
            assert pair.wait_redundant() == primary
            assert owners(away) == (NEW, NEW)
            history = clients.check()
            figure(f"{history.answers} answers over deletion, adoption and return, all there")
            assert_trees_equal(pair)


def test_a_volume_that_the_deleted_module_did_not_have_is_added_when_both_records_are_given_up() -> None:
    """As docs/how-to/adopt-kept-data.md says: without records the node to keep is named, and all is copied anew."""
    volumes = (Volume("data"), Volume("log"))
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            primary = pair.wait_redundant()
            clients.wait_for_more(20)
            clients.stop()
            stop(pair[pair.other(primary)])
            stop(pair[primary])
            for node in pair.nodes.values():
                recreate(pair, node, UID, volumes=volumes)
                node.start()
            for name in pair.nodes:
                wait_problem(pair, name, "volumes/log does not carry the module's marker")
            assert {owners(node) for node in pair.nodes.values()} == {(UID, UID)}

            for node in pair.nodes.values():
                (node.base / "state" / "record.json").unlink()
                recreate(pair, node, UID, volumes=volumes, adopt_from=primary)
            assert pair.wait_redundant() == primary
            assert {owners(node) for node in pair.nodes.values()} == {(NEW, NEW)}
            clients.check()
            assert_trees_equal(pair)
            for node in pair.nodes.values():
                assert os.getxattr(node.base / "volumes" / "log", MARKER).decode() == NEW
