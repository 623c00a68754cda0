"""The checks against real sockets on loopback, and their runner."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import pytest

from twinhull_sidecar.checkers import NOT_RUNNING, Checkers
from twinhull_sidecar.checkers.failure import CheckError
from twinhull_sidecar.checkers.runner import carry_out
from twinhull_sidecar.config import Checker

HOST = "127.0.0.1"


@pytest.fixture
async def serve() -> AsyncIterator[Callable[[bytes], object]]:
    """Start a server that answers every request with the given bytes; gives its port."""
    servers = []

    async def start(answer: bytes) -> int:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                if answer:
                    writer.write(answer)
                    await writer.drain()
                else:
                    await asyncio.sleep(5)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(connected, HOST, 0)
        servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    yield start
    for server in servers:
        server.close()


def checker(kind: str, port: int, timeout: float = 1.0) -> Checker:
    return Checker("c", kind, port, "/health", timeout=timeout)  # type: ignore[arg-type]


async def test_tcp_accepts(serve: Callable[[bytes], object]) -> None:
    port = await serve(b"")  # type: ignore[misc]
    assert "accepts" in await carry_out(checker("tcp", port), HOST)


async def test_tcp_refused() -> None:
    with pytest.raises(CheckError, match="port 1"):
        await carry_out(checker("tcp", 1), HOST)


@pytest.mark.parametrize("status", [200, 204, 302, 399])
async def test_http_passes(serve: Callable[[bytes], object], status: int) -> None:
    port = await serve(f"HTTP/1.1 {status} X\r\n\r\n".encode())  # type: ignore[misc]
    assert f"status {status}" in await carry_out(checker("http", port), HOST)


async def test_an_interim_answer_is_not_the_answer(serve: Callable[[bytes], object]) -> None:
    port = await serve(b"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 503 No\r\n\r\n")  # type: ignore[misc]
    with pytest.raises(CheckError, match="status 503"):
        await carry_out(checker("http", port), HOST)


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"HTTP/1.1 500 X\r\n\r\n", "status 500"),
        (b"HTTP/1.1 404 X\r\n\r\n", "status 404"),
        (b"SSH-2.0-x\r\n", "not HTTP"),
        (b"HTTP/1.1", "not HTTP"),
        (b"HTTP/1.1 OK\r\n", "not HTTP"),
        (b"x" * 40000, "not HTTP"),
        (b"", "no answer within 0.1 s"),
    ],
)
async def test_http_fails(serve: Callable[[bytes], object], answer: bytes, why: str) -> None:
    port = await serve(answer)  # type: ignore[misc]
    with pytest.raises(CheckError, match=why):
        await carry_out(checker("http", port, 0.1 if not answer else 2.0), HOST)


async def test_the_runner_follows_the_application() -> None:
    results = [True]
    changed = asyncio.Event()

    async def check(one: Checker, host: str) -> str:
        assert host == HOST
        if not results[0]:
            raise CheckError("broken")
        return "fine"

    async def until(passing: bool) -> None:
        async with asyncio.timeout(5):
            while checkers.passing != passing:
                changed.clear()
                await changed.wait()

    one = Checker("c", "tcp", 80, interval=0.1, rise=2, fall=2)
    checkers = Checkers([one], HOST, changed.set, check)
    assert not checkers.passing
    assert checkers.states[0].detail == NOT_RUNNING
    checkers.follow(True, 1)
    await until(True)
    assert not checkers.states[0].fresh
    results[0] = False
    await until(False)
    assert checkers.states[0].detail == "broken"
    results[0] = True
    await until(True)
    checkers.follow(True, 2)
    assert not checkers.passing
    await until(True)
    checkers.follow(False, 2)
    assert checkers.states[0].detail == NOT_RUNNING
    await checkers.close()


async def test_without_checkers_everything_passes() -> None:
    assert Checkers([], HOST, lambda: None).passing
