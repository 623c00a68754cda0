"""Listening to a sidecar: the real gRPC server with the module's real certificates, over loopback."""

from __future__ import annotations

import asyncio
import base64
import datetime
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from tests.unit.operator.samples import module
from twinhull_operator import watch_sidecar
from twinhull_operator.render_secrets import read_secret, render_operator_secret, render_tls_secret
from twinhull_operator.watch_sidecar import SidecarWatch, retry_delay
from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.server import Server

UID = module().uid


class Script:
    """A control loop that says what the test tells it to say."""

    def __init__(self) -> None:
        self.role = "Secondary"
        self.orders: list[pb.OrderRequest] = []
        self._count = 0
        self._changed = asyncio.Condition()

    async def become(self, role: str) -> None:
        """Change the role."""
        async with self._changed:
            self.role, self._count = role, self._count + 1
            self._changed.notify_all()

    def status(self) -> pb.Status:
        """See api.server.Controller."""
        return pb.Status(node="node-a", role=self.role)

    async def wait_changed(self, seen: int) -> int:
        """See api.server.Controller."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._count != seen)
            return self._count

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See api.server.Controller."""
        self.orders.append(request)
        return pb.OrderReply(accepted=True, id=request.id)


@pytest.fixture
def identities(tmp_path: Path) -> dict[str, tls.Identity]:
    """Node-a's and the operator's identities, from the Secrets as they are rendered."""
    now = datetime.datetime.now(datetime.UTC)
    operator = render_operator_secret(module(), now)
    secrets: dict[str, Any] = {
        "operator": operator,
        "node-a": render_tls_secret(module(), read_secret(operator), now),
    }
    found = {}
    for holder, secret in secrets.items():
        directory = tmp_path / holder
        directory.mkdir()
        for name, value in secret["data"].items():
            (directory / name).write_bytes(base64.b64decode(value))
        found[holder] = tls.load(directory, holder, UID)
    return found


@pytest.fixture
def port() -> int:
    """A free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short waits between attempts."""
    monkeypatch.setattr(watch_sidecar, "FIRST_DELAY", 0.02)
    monkeypatch.setattr(watch_sidecar, "LONGEST_DELAY", 0.1)


async def serve(script: Script, port: int, identity: tls.Identity) -> Server:
    """Start a sidecar's server."""
    server = Server(script)
    server.listen_node("127.0.0.1", port, identity)
    await server.start()
    return server


class Listener:
    """A watch, and a way to wait for what it reports."""

    def __init__(self, port: int, identity: tls.Identity, node: str = "node-a") -> None:
        self._changed = asyncio.Event()
        self.watch = SidecarWatch(
            node=node,
            addresses=["127.0.0.1"],
            port=port,
            identity=identity,
            uid=UID,
            on_change=self._changed.set,
        )

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until a report fulfils the condition."""
        async with asyncio.timeout(20):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def role(self) -> str | None:
        """The role that holds now."""
        return self.watch.report.current.role if self.watch.report.current else None


async def test_changes_arrive_and_a_sidecar_that_goes_and_returns_is_heard_again(
    identities: dict[str, tls.Identity], port: int
) -> None:
    script = Script()
    server = await serve(script, port, identities["node-a"])
    listener = Listener(port, identities["operator"])
    try:
        await listener.until(lambda: listener.role() == "Secondary")
        await script.become("Primary")
        await listener.until(lambda: listener.role() == "Primary")
        await server.stop(0)
        await listener.until(lambda: not listener.watch.report.reachable)
        assert listener.watch.report.status is not None
        assert listener.watch.report.status.role == "Primary"
        assert listener.watch.report.unreachable_since is not None
        await script.become("Syncing")
        server = await serve(script, port, identities["node-a"])
        await listener.until(lambda: listener.role() == "Syncing")
        assert listener.watch.report.unreachable_since is None
    finally:
        await listener.watch.close()
        await server.stop(0)


async def test_an_order_reaches_the_sidecar(identities: dict[str, tls.Identity], port: int) -> None:
    script = Script()
    server = await serve(script, port, identities["node-a"])
    listener = Listener(port, identities["operator"])
    try:
        reply = await listener.watch.order("switchover", "rollout", "id-1")
        assert (reply.accepted, reply.id) == (True, "id-1")
        assert [(o.action, o.user) for o in script.orders] == [("switchover", "rollout")]
    finally:
        await listener.watch.close()
        await server.stop(0)


async def test_another_nodes_sidecar_at_that_address_is_not_believed(
    identities: dict[str, tls.Identity], port: int
) -> None:
    server = await serve(Script(), port, identities["node-a"])
    listener = Listener(port, identities["operator"], node="node-b")
    try:
        await listener.until(lambda: listener.watch.report.unreachable_since is not None)
        assert listener.watch.report.status is None
        with pytest.raises(grpc.aio.AioRpcError):
            await listener.watch.order("switchover", "rollout", "id-1")
    finally:
        await listener.watch.close()
        await server.stop(0)


class Stream:
    """A status stream whose next message arrives when the test says so."""

    def __init__(self) -> None:
        self.arrives: asyncio.Future[pb.Status] = asyncio.get_running_loop().create_future()
        self.reads = asyncio.Event()

    async def read(self) -> pb.Status:
        """See grpc.aio.UnaryStreamCall."""
        self.arrives = asyncio.get_running_loop().create_future()
        self.reads.set()
        return await self.arrives


class StreamConnection:
    """See api.client.Connection."""

    def __init__(self, stream: Stream) -> None:
        self.sidecar, self.stream = self, stream

    async def __aenter__(self) -> StreamConnection:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    def WatchStatus(self, _: pb.StatusRequest) -> Stream:  # noqa: N802
        """See sidecar.proto."""
        return self.stream


async def test_closing_ends_a_watch_also_at_the_moment_when_a_status_arrives(
    identities: dict[str, tls.Identity], port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop may see the message and the cancellation in one turn; a lost cancellation would wait for ever."""
    stream = Stream()
    monkeypatch.setattr(watch_sidecar, "connect_node", lambda *_: StreamConnection(stream))
    listener = Listener(port, identities["operator"])
    async with asyncio.timeout(5):
        await stream.reads.wait()
        stream.arrives.set_result(pb.Status(role="Secondary"))
        # The read itself ends in this turn of the loop, what waits for it in the next.
        await asyncio.sleep(0)
        await listener.watch.close()


def test_attempts_become_rarer_and_never_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    delays = [retry_delay(failures, 1.0) for failures in range(1, 8)]
    assert delays == [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    assert retry_delay(1, 0.0) == 0.25
    assert retry_delay(10**6, 1.0) == 10.0
