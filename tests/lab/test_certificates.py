"""Certificates replaced under two real sidecars with a client writing, and by the operator on a real API server."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from tests.lab.api_server import ApiServer, api_server
from tests.lab.load import load
from tests.lab.netns import NODES
from tests.lab.operator_process import eventually, grant_rights, operator, start_sidecar
from tests.lab.pair import UID, Pair, pair_of_nodes
from tests.lab.pki import Authority
from tests.lab.report import figure
from tests.lab.test_operator import Bench
from tests.lab.trees import assert_trees_equal
from twinhull_operator.render_secrets import decode_secret
from twinhull_sidecar.api import sidecar_pb2 as pb

__all__ = ["api_server"]

LIFETIME = 24


def publish(pair: Pair, files: dict[str, bytes]) -> None:
    """Replace files of the mounted Secret, each whole."""
    directory = pair.directory / "tls"
    for name, content in files.items():
        temporary = directory / f".{name}"
        temporary.write_bytes(content)
        temporary.replace(directory / name)


def events(pair: Pair, code: str) -> dict[str, int]:
    """How often each node tells of it."""
    return {
        name: sum(event.code == code for event in node.status().events) for name, node in pair.nodes.items()
    }


def renew(pair: Pair, authority: Authority, scratch: Path, ca: bytes | None = None) -> float:
    """New certificates for both nodes; the seconds until both use them."""
    files: dict[str, bytes] = {}
    for name in NODES:
        authority.issue(scratch, name, UID)
        files |= {f"{name}.{end}": (scratch / f"{name}.{end}").read_bytes() for end in ("crt", "key")}
    files["ca.crt"] = ca or (scratch / "ca.crt").read_bytes()
    before = events(pair, "CertificateRenewed")
    began = time.monotonic()
    publish(pair, files)

    def taken() -> bool:
        return all(count > before[name] for name, count in events(pair, "CertificateRenewed").items())

    pair.wait("both sidecars use the new certificates", taken, 30)
    return time.monotonic() - began


def test_certificates_and_their_authority_are_replaced_under_load(tmp_path: Path) -> None:
    with pair_of_nodes() as pair:
        pair.start()
        primary = pair.wait_redundant()
        before = {name: node.status() for name, node in pair.nodes.items()}
        with load(pair) as clients:
            clients.wait_for_more(50)
            old_ca = (pair.directory / "tls" / "ca.crt").read_bytes()
            new = Authority("new")
            new.issue(tmp_path, "any", UID)
            new_ca = (tmp_path / "ca.crt").read_bytes()
            # The steps of an authority's replacement: trusted, then signing; at the end only the new one is trusted.
            publish(pair, {"ca.crt": new_ca + old_ca})
            pair.wait(
                "the new authority is trusted", lambda: all(events(pair, "CertificateRenewed").values()), 30
            )
            took = renew(pair, new, tmp_path, new_ca + old_ca)
            clients.wait_for_more(20)
            renew(pair, new, tmp_path, new_ca)
            clients.wait_for_more(20)

            for name, node in pair.nodes.items():
                now = node.status()
                assert (now.role, now.incarnation) == (before[name].role, before[name].incarnation)
                assert now.in_sync
                assert not {event.code for event in now.events} & {"PeerLost", "CertificateProblem"}
            gap = clients.check().longest_gap()
            figure(f"certificates replaced under load: in use after {took:.1f} s, longest gap {gap:.2f} s")
            assert gap < 2.0

            # An order to the secondary goes to the primary over TLS: both ends know only the new authority.
            done = pair[pair.other(primary)].ctl("switchover")
            assert done.returncode == 0, done.stderr
            assert pair.wait_redundant() == pair.other(primary)
            clients.check()
            assert_trees_equal(pair)


def test_nodes_whose_certificates_have_ended_start_replicate_and_fail_over(tmp_path: Path) -> None:
    """Nobody renewed them for a year, say: the operator was away. Only who wants to connect is hindered."""
    with pair_of_nodes() as pair:
        authority = Authority("ended")
        for name in NODES:
            authority.issue(pair.directory / "tls", name, UID, seconds=-60)
        pair.start()
        primary = pair.wait_redundant()
        assert events(pair, "CertificateProblem") == dict.fromkeys(NODES, 1)
        with load(pair) as clients:
            clients.wait_for_more(20)
            refused = pair[pair.other(primary)].ctl("switchover")
            assert refused.returncode == 1
            renew(pair, authority, tmp_path)
            done = pair[pair.other(primary)].ctl("switchover")
            assert done.returncode == 0, done.stderr
            clients.wait_for_more(20)
            pair.power_cut(pair.other(primary))
            pair.wait_serving(primary, 30)
            clients.check()


@pytest.fixture(scope="module")
def rights(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's kubeconfig, with the chart's rights."""
    return grant_rights(api_server, tmp_path_factory.mktemp("rights"))


@pytest.fixture
def bench(api_server: ApiServer, rights: Path, tmp_path: Path) -> Iterator[Bench]:
    """A namespace of the test's own."""
    namespace = f"t{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", namespace)
    yield Bench(api_server, rights, namespace, tmp_path)
    api_server.kubectl("delete", "mirrormodules", "--all", "-n", namespace, "--timeout=20s")


async def test_the_operator_renews_certificates_that_live_for_seconds(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TWINHULL_CERTIFICATE_LIFETIME", str(LIFETIME))
    bench.apply("pg")

    def secret(suffix: str) -> dict[str, bytes]:
        return decode_secret(bench.server.get("secret", f"pg-twinhull-{suffix}", "-n", bench.namespace))

    def end(data: dict[str, bytes], name: str) -> datetime.datetime:
        return x509.load_pem_x509_certificate(data[f"{name}.crt"]).not_valid_after_utc

    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: {"pg-twinhull-tls", "pg-twinhull-operator"} <= bench.names("secrets"))
        first, own = secret("tls"), secret("operator")
        module = await eventually(
            lambda: found if (found := bench.module("pg")).get("status", {}).get("basePort") else None
        )
        sidecar, says = await start_sidecar(bench.server, module, "node-a", "127.0.0.11", bench.directory)
        other, _ = await start_sidecar(bench.server, module, "node-b", "127.0.0.12", bench.directory)
        await says.say(role="Primary", application=pb.Application(phase="Running", ready=True))
        await eventually(lambda: bench.condition("pg", "SidecarsReachable")[0] == "True")
        began = time.monotonic()
        renewed = await eventually(
            lambda: found if end(found := secret("tls"), "node-a") > end(first, "node-a") else None, LIFETIME
        )
        figure(f"certificates of {LIFETIME} s are renewed after {time.monotonic() - began:.1f} s more")
        assert renewed["key"] == first["key"]
        assert renewed["ca.crt"] == first["ca.crt"]
        assert end(renewed, "node-b") > end(first, "node-b")
        await eventually(lambda: end(secret("operator"), "operator") > end(own, "operator"), LIFETIME)
        assert secret("operator")["ca.key"] == own["ca.key"]
        # Long after the end of the first ones, sidecars with what is mounted now are heard by the same operator,
        # which has to connect anew.
        await asyncio.sleep(
            max(0.0, (end(first, "node-a") - datetime.datetime.now(datetime.UTC)).total_seconds()) + 1
        )
        assert bench.condition("pg", "SidecarsReachable")[0] == "True"
        for server in (sidecar, other):
            await server.stop(0)
        await eventually(lambda: bench.condition("pg", "SidecarsReachable")[0] == "False")
        again = [
            (await start_sidecar(bench.server, module, node, address, bench.directory))[0]
            for node, address in (("node-a", "127.0.0.11"), ("node-b", "127.0.0.12"))
        ]
        await eventually(lambda: bench.condition("pg", "SidecarsReachable")[0] == "True")
        for server in again:
            await server.stop(0)
    assert "PRIVATE KEY" not in bench.log.read_text()
