"""Damaged record, foreign peer, wrong certificate, address in use: refused, said, waited for; data untouched."""

from __future__ import annotations

import re
import shutil
import signal
from dataclasses import replace

import grpc
import pytest

from tests.lab.load import load
from tests.lab.pair import Node, Pair, pair_of_nodes
from tests.lab.pki import Authority
from tests.lab.report import figure
from tests.lab.trees import assert_trees_equal
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import VirtualIP


def stop(node: Node) -> None:
    """End the sidecar in order."""
    assert node.sidecar is not None
    node.sidecar.send_signal(signal.SIGTERM)
    assert node.sidecar.wait(20) == 0


def wait_problem(pair: Pair, name: str, text: str, timeout: float = 20) -> pb.Status:
    """Wait until the node shows a problem with that text."""

    def shown() -> pb.Status | None:
        try:
            status = pair[name].status()
        except grpc.RpcError:
            return None
        texts = (f"{item.field}: {item.message}; {item.mend}" for item in status.problems)
        return status if any(text in item for item in texts) else None

    status = pair.wait(f"{name} complains of {text!r}", shown, timeout)
    for item in status.problems:
        figure(f"{name}: {status.role}: {item.field}: {item.message}; {item.mend}")
    return status


@pytest.mark.parametrize("damage", ["truncated", "flipped", "newer"])
def test_a_damaged_record_is_refused_until_it_is_mended(damage: str) -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            primary = pair.wait_redundant()
            name = pair.other(primary)
            stop(pair[name])
            record = pair[name].base / "state" / "record.json"
            good = record.read_bytes()
            if damage == "truncated":
                # What is behind the contents only keeps the file's space.
                record.write_bytes(good[: len(good.rstrip()) // 2])
            elif damage == "newer":
                format_now = re.search(rb'"format": ?(\d+)', good)
                assert format_now is not None
                record.write_bytes(good.replace(format_now[0], b'"format":99', 1))
            else:
                position = good.index(b"generation") + 20
                record.write_bytes(good[:position] + bytes([good[position] ^ 1]) + good[position + 1 :])
            pair[name].start()
            status = wait_problem(pair, name, "record.json")
            assert status.role == "Waiting"
            if damage == "newer":
                assert any("has format 99" in item.message for item in status.problems)
                assert b'"format":99' in record.read_bytes()
            # The other one goes on.
            clients.wait_for_more(20)
            assert pair[primary].role() == "Alone"

            # Put back, it is accepted without a restart.
            record.write_bytes(good)
            assert pair.wait_redundant() == primary
            clients.check()
            assert_trees_equal(pair)


def test_an_emptied_backing_directory_is_refused() -> None:
    """As when the disk is not mounted: it must never wipe the peer, nor be filled as if it were new."""
    with pair_of_nodes() as pair:
        pair.start()
        primary = pair.wait_redundant()
        name = pair.other(primary)
        stop(pair[name])
        shutil.rmtree(pair[name].backing)
        pair[name].backing.mkdir()
        pair[name].start()
        status = wait_problem(pair, name, "volumes/data")
        assert status.role == "Waiting"
        assert pair[primary].role() == "Alone"


def test_a_foreign_peer_is_refused_on_both_sides() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            primary = pair.wait_redundant()
            name = pair.other(primary)
            node = pair[name]
            stop(node)
            before = {path: path.read_bytes() for path in node.backing.rglob("*") if path.is_file()}
            # The same addresses and ports, another module.
            foreign = "00000000-dead-4bad-8000-000000000000"
            shutil.rmtree(node.base / "state")
            node.tls_dir = pair.directory / "tls-foreign"
            authority = Authority("foreign")
            authority.issue(node.tls_dir, name, foreign)
            (node.tls_dir / "key").write_text("ab" * 32)
            node.use(replace(pair.config, uid=foreign))
            node.start()
            status = wait_problem(pair, primary, "another module")
            assert status.role == "Alone"
            assert wait_problem(pair, name, "").role == "Waiting"
            clients.wait_for_more(20)
            clients.check()
            after = {path: path.read_bytes() for path in node.backing.rglob("*") if path.is_file()}
            assert after == before


def test_a_wrong_certificate_is_refused_and_mended_without_a_restart() -> None:
    with pair_of_nodes() as pair:
        pair.start()
        with load(pair) as clients:
            primary = pair.wait_redundant()
            name = pair.other(primary)
            stop(pair[name])
            wrong = pair.directory / "tls-wrong"
            shutil.copytree(pair.directory / "tls", wrong)
            Authority("another").issue(wrong, name, pair.config.uid)
            shutil.copy(pair.directory / "tls" / "ca.crt", wrong / "ca.crt")
            pair[name].tls_dir = wrong
            pair[name].start()
            status = wait_problem(pair, name, f"tls-dir {name}.crt: is refused")
            assert status.role == "Waiting"
            clients.wait_for_more(20)
            for suffix in ("crt", "key"):
                shutil.copy(pair.directory / "tls" / f"{name}.{suffix}", wrong)
            assert pair.wait_redundant() == primary
            clients.check()


def test_a_virtual_address_in_use_on_the_lan_is_not_taken() -> None:
    with pair_of_nodes() as pair:
        lan = pair.lab.interface("lan")
        pair.lab.run("client", "ip", "addr", "add", f"{pair.vip}/24", "dev", lan)
        for node in pair.nodes.values():
            node.start()
        pair.wait("both answer", lambda: all(node.role() for node in pair.nodes.values()), 20)
        status = pair.wait(
            "someone says that the address is in use",
            lambda: next(
                (node.status() for node in pair.nodes.values() if pair.vip in node.status().reason), None
            ),
            20,
        )
        figure(f"{status.node}: {status.role}: {status.reason}")
        assert not any(vip.held for node in pair.nodes.values() for vip in node.status().virtual_ips)
        pair.lab.run("client", "ip", "addr", "del", f"{pair.vip}/24", "dev", lan)
        pair.wait_redundant(60)


def test_a_virtual_address_in_no_subnet_is_named_with_its_mend() -> None:
    with pair_of_nodes(virtual_ips=(VirtualIP("192.0.2.7"),)) as pair:
        for node in pair.nodes.values():
            node.start()
        status = wait_problem(pair, "a", "virtual_ips[0]")
        assert not status.virtual_ips[0].held
        assert status.virtual_ips[0].problem
