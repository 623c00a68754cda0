"""Renewed certificates are taken over while the interface serves; what is wrong with one hinders only itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import grpc
import grpc.aio
import pytest
from cryptography import x509

from tests.lab.pki import Authority, make_tls_dir
from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.client import connect_node
from twinhull_sidecar.api.listeners import Listeners
from twinhull_sidecar.config import ConfigError
from twinhull_sidecar.control.events import EventLog
from twinhull_sidecar.control.identity_watch import IdentityWatch

UID = "0000-1111"


class Desk:
    """A controller that has one thing to say."""

    def status(self) -> pb.Status:
        return pb.Status(node="a", role="Primary")

    async def wait_changed(self, seen: int) -> int:
        if seen >= 0:
            await asyncio.Event().wait()
        return 0

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        return pb.OrderReply()


class Node:
    """Node a's interface, its files, and the watch over them."""

    def __init__(self, directory: Path, port: int, authority: Authority) -> None:
        self.directory, self.port, self.authority = directory, port, authority
        self.events = EventLog()
        self.listeners = Listeners(Desk())
        identity = tls.load(directory, "a", UID)
        self.watch = IdentityWatch(directory, identity, UID, "a", self.events)
        self.renewals = 0

    def renewed(self, identity: tls.Identity) -> None:
        self.renewals += 1
        self.listeners.renew(identity)

    def operator(self) -> tls.Identity:
        return tls.load(self.directory, tls.OPERATOR, UID)

    def presented(self) -> int:
        """The serial number of the certificate that a new connection is shown."""
        return x509.load_pem_x509_certificate(
            _peer_certificate(self.port, self.directory).encode()
        ).serial_number

    def mounted(self, name: str = "a") -> int:
        return x509.load_pem_x509_certificate((self.directory / f"{name}.crt").read_bytes()).serial_number

    def codes(self) -> list[str]:
        return [event.code for event in self.events]


def _peer_certificate(port: int, directory: Path) -> str:
    context = ssl.create_default_context(cafile=str(directory / "ca.crt"))
    context.load_cert_chain(directory / "operator.crt", directory / "operator.key")
    context.set_alpn_protocols(["h2"])
    context.check_hostname = False
    with (
        socket.create_connection(("127.0.0.1", port), 5) as raw,
        context.wrap_socket(raw) as wrapped,
    ):
        return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(binary_form=True) or b"")


@pytest.fixture
async def node(tmp_path: Path, free_port: int) -> AsyncIterator[Node]:
    authority = make_tls_dir(tmp_path, ["a", tls.OPERATOR], UID)
    made = Node(tmp_path, free_port, authority)
    await made.listeners.serve_nodes(["127.0.0.1"], free_port, made.watch.identity)
    running = asyncio.create_task(made.watch.run(made.renewed, period=0.02))
    yield made
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running
    await made.listeners.close()


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_new_connections_see_the_new_certificate_and_old_ones_go_on(node: Node) -> None:
    before = await asyncio.to_thread(node.presented)
    assert before == node.mounted()
    async with connect_node("127.0.0.1", node.port, node.operator(), "a", UID) as connection:
        stream = connection.sidecar.WatchStatus(pb.StatusRequest())
        status = await stream.read()
        assert isinstance(status, pb.Status)
        assert status.role == "Primary"
        node.authority.issue(node.directory, "a", UID)
        await until(lambda: node.renewals)
        assert await asyncio.to_thread(node.presented) == node.mounted() != before
        # The connection of before is the same and still answers.
        assert (await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=5)).role == "Primary"
        assert not stream.done()
        stream.cancel()
    async with connect_node("127.0.0.1", node.port, node.operator(), "a", UID) as connection:
        assert (await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=5)).role == "Primary"
    assert node.codes() == ["CertificateRenewed"]


async def test_an_authority_is_replaced_in_two_steps(node: Node, tmp_path: Path) -> None:
    """First both are trusted, then the new one signs: at no moment a holder of either is refused."""
    old_ca = (node.directory / "ca.crt").read_bytes()
    old_operator = node.operator()
    new = Authority("new")
    new.issue(tmp_path / "new", tls.OPERATOR, UID)
    new.issue(tmp_path / "new", "a", UID)
    bundle = (tmp_path / "new" / "ca.crt").read_bytes() + old_ca
    (node.directory / "ca.crt").write_bytes(bundle)
    await until(lambda: node.renewals == 1)
    (tmp_path / "new" / "key").write_bytes((node.directory / "key").read_bytes())
    (tmp_path / "new" / "ca.crt").write_bytes(bundle)
    new_operator = tls.load(tmp_path / "new", tls.OPERATOR, UID)
    for identity in (replace(old_operator, ca=bundle), new_operator):
        async with connect_node("127.0.0.1", node.port, identity, "a", UID) as connection:
            await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=5)
    for name in ("a.key", "a.crt"):
        (node.directory / name).write_bytes((tmp_path / "new" / name).read_bytes())
    await until(lambda: node.renewals == 2)
    for identity in (replace(old_operator, ca=bundle), new_operator):
        async with connect_node("127.0.0.1", node.port, identity, "a", UID) as connection:
            await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=5)
    # And one that trusts only the old one is refused now.
    async with connect_node("127.0.0.1", node.port, old_operator, "a", UID) as connection:
        with pytest.raises(grpc.aio.AioRpcError):
            await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=2)


async def test_a_damaged_or_half_written_certificate_leaves_the_old_one_in_use(node: Node) -> None:
    before = node.mounted()
    (node.directory / "a.crt").write_text("half")
    await until(lambda: "CertificateProblem" in node.codes())
    assert await asyncio.to_thread(node.presented) == before
    node.authority.issue(node.directory, "a", UID)
    await until(lambda: "CertificateRenewed" in node.codes())
    assert await asyncio.to_thread(node.presented) == node.mounted()
    # The same complaint is made once, not at every look.
    assert len(node.codes()) <= 4


async def test_another_shared_key_is_refused_while_running(node: Node) -> None:
    (node.directory / "key").write_text("ab" * 32)
    node.authority.issue(node.directory, "a", UID)
    await until(lambda: "CertificateProblem" in node.codes())
    assert "shared key was changed" in next(event.message for event in node.events)
    assert not node.renewals


def test_a_certificate_that_has_ended_is_told_and_is_no_reason_not_to_run(tmp_path: Path) -> None:
    authority = make_tls_dir(tmp_path, ["a"], UID)
    authority.issue(tmp_path, "a", UID, seconds=-60)
    identity = tls.load(tmp_path, "a", UID)
    assert identity.trouble == "a.crt: certificate has expired"
    events = EventLog()
    IdentityWatch(tmp_path, identity, UID, "a", events)
    assert [event.code for event in events] == ["CertificateProblem"]
    # All else is still checked.
    authority.issue(tmp_path, "a", "another", seconds=-60)
    with pytest.raises(ConfigError, match=r"(?i)hostname mismatch"):
        tls.load(tmp_path, "a", UID)
    Authority("other").issue(tmp_path / "other", "a", UID, seconds=-60)
    for name in ("a.crt", "a.key"):
        (tmp_path / name).write_bytes((tmp_path / "other" / name).read_bytes())
    with pytest.raises(ConfigError, match=r"a.crt: is refused"):
        tls.load(tmp_path, "a", UID)
