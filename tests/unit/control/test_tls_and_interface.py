"""Certificates are checked when loaded; the control interface lets in only holders of the module's CA."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import grpc.aio
import pytest

from tests.lab.pki import Authority, make_tls_dir
from twinhull_sidecar import tls
from twinhull_sidecar.api import listeners
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.client import connect_node, connect_socket
from twinhull_sidecar.api.server import Server
from twinhull_sidecar.config import ConfigError

UID = "0000-1111"


class Desk:
    """A controller that remembers its orders."""

    def __init__(self) -> None:
        self.orders: list[str] = []
        self.version = 0
        self.changed = asyncio.Event()

    def status(self) -> pb.Status:
        return pb.Status(node="a", role="Waiting", reason=f"version {self.version}")

    async def wait_changed(self, seen: int) -> int:
        while seen == self.version:
            await self.changed.wait()
            self.changed.clear()
        return self.version

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        self.orders.append(request.action)
        return pb.OrderReply(accepted=True, id=request.id)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Desk, Path, int]]:
    make_tls_dir(tmp_path / "tls", ["a", "b", tls.OPERATOR], UID)
    desk, server, port = Desk(), None, 0
    server = Server(desk)
    server.listen_socket(tmp_path / "control.sock")
    port = server.listen_node("127.0.0.1", 0, tls.load(tmp_path / "tls", "a", UID))
    await server.start()
    yield desk, tmp_path, port
    await server.stop(0)


async def test_the_operator_orders_over_mutual_tls(served: tuple[Desk, Path, int]) -> None:
    desk, directory, port = served
    operator = tls.load(directory / "tls", tls.OPERATOR, UID)
    async with connect_node("127.0.0.1", port, operator, "a", UID) as connection:
        reply = await connection.sidecar.Order(pb.OrderRequest(action="stop", id="1"), timeout=5)
    assert reply.accepted
    assert desk.orders == ["stop"]


async def test_a_foreign_certificate_reaches_nothing(served: tuple[Desk, Path, int], tmp_path: Path) -> None:
    desk, _, port = served
    make_tls_dir(tmp_path / "foreign", ["b"], UID)
    foreign = tls.load(tmp_path / "foreign", "b", UID)
    async with connect_node("127.0.0.1", port, foreign, "a", UID) as connection:
        with pytest.raises(grpc.aio.AioRpcError):
            await connection.sidecar.Order(pb.OrderRequest(action="stop"), timeout=2)
    # Also one that trusts the server but is not trusted by it.
    mixed = tls.Identity(
        foreign.name,
        foreign.directory,
        (served[1] / "tls" / "ca.crt").read_bytes(),
        foreign.certificate,
        foreign.private_key,
        foreign.key,
    )
    async with connect_node("127.0.0.1", port, mixed, "a", UID) as connection:
        with pytest.raises(grpc.aio.AioRpcError):
            await connection.sidecar.Order(pb.OrderRequest(action="stop"), timeout=2)
    assert desk.orders == []


async def test_a_client_refuses_another_node_than_it_meant(served: tuple[Desk, Path, int]) -> None:
    _, directory, port = served
    identity = tls.load(directory / "tls", "b", UID)
    async with connect_node("127.0.0.1", port, identity, "b", UID) as connection:
        with pytest.raises(grpc.aio.AioRpcError):
            await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=2)


async def test_status_is_sent_at_once_and_at_each_change(served: tuple[Desk, Path, int]) -> None:
    desk, directory, _ = served
    async with connect_socket(str(directory / "control.sock")) as connection:
        watch = connection.sidecar.WatchStatus(pb.StatusRequest())
        changes = aiter(watch)
        assert (await anext(changes)).reason == "version 0"
        desk.version = 1
        desk.changed.set()
        async with asyncio.timeout(2):
            assert (await anext(changes)).reason == "version 1"
        watch.cancel()


def test_the_socket_is_the_administrators_alone(served: tuple[Desk, Path, int]) -> None:
    assert (served[1] / "control.sock").stat().st_mode & 0o777 == 0o600


def test_missing_and_damaged_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"tls-dir ca.crt: cannot be read \(No such file"):
        tls.load(tmp_path, "a", UID)
    make_tls_dir(tmp_path, ["a"], UID)
    (tmp_path / "key").write_text("not hex")
    with pytest.raises(ConfigError, match=r"tls-dir key: is not hexadecimal"):
        tls.load(tmp_path, "a", UID)
    (tmp_path / "key").write_text("00ff")
    with pytest.raises(ConfigError, match=r"tls-dir key: has 2 bytes"):
        tls.load(tmp_path, "a", UID)


def test_a_certificate_of_another_authority_or_name_is_refused(tmp_path: Path) -> None:
    make_tls_dir(tmp_path, ["a"], UID)
    good = (tmp_path / "ca.crt").read_bytes()
    Authority("other").issue(tmp_path, "a", UID)
    (tmp_path / "ca.crt").write_bytes(good)
    with pytest.raises(ConfigError, match=r"tls-dir a.crt: is refused for a.0000-1111.twinhull"):
        tls.load(tmp_path, "a", UID)
    make_tls_dir(tmp_path, ["a"], "another-module")
    with pytest.raises(ConfigError, match=r"(?i)hostname mismatch"):
        tls.load(tmp_path, "a", UID)
    make_tls_dir(tmp_path, ["a", "b"], UID)
    (tmp_path / "a.key").write_bytes((tmp_path / "b.key").read_bytes())
    with pytest.raises(ConfigError, match=r"does not fit its key"):
        tls.load(tmp_path, "a", UID)


async def test_an_address_that_is_not_there_yet_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_tls_dir(tmp_path / "tls", ["a"], UID)
    identity = tls.load(tmp_path / "tls", "a", UID)
    monkeypatch.setattr(listeners, "RETRY", 0.05)
    desk, port = Desk(), _free_port()
    serving = listeners.Listeners(desk)
    # 192.0.2.1 (RFC 5737) is no address of this machine.
    await serving.serve_nodes(["192.0.2.1", "127.0.0.1"], port, identity)
    try:
        async with connect_node("127.0.0.1", port, identity, "a", UID) as connection:
            assert (await connection.sidecar.GetStatus(pb.StatusRequest(), timeout=5)).node == "a"
        # When it comes, it is served, too.
        monkeypatch.setattr(listeners, "_available", lambda address, port: True)
        served: list[str] = []
        monkeypatch.setattr(
            Server, "listen_node", lambda self, address, port, identity: served.append(address)
        )
        async with asyncio.timeout(5):
            while not served:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        assert served == ["192.0.2.1"]
    finally:
        await serving.close()


async def test_a_port_in_use_is_named(tmp_path: Path) -> None:
    make_tls_dir(tmp_path / "tls", ["a"], UID)
    identity = tls.load(tmp_path / "tls", "a", UID)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"ports.grpc: cannot listen on 127.0.0.1 port {port} .*another port"
        ):
            await listeners.Listeners(Desk()).serve_nodes(["127.0.0.1"], port, identity)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port
