"""`gate probe` against real servers: passes while held, does the original check while running."""

from __future__ import annotations

import http.server
import json
import re
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any, ClassVar

import grpc
import pytest

from tests.lab.gate_harness import Gate, LeaseServer, eventually

UNUSED_PORT = "9"


@pytest.fixture(params=[True, False], ids=["pid-1", "plain"])
def held(request: pytest.FixtureRequest, server: LeaseServer) -> Iterator[Gate]:
    """A gate that has met its sidecar and holds."""
    gate = Gate(server.path, ["sleep", "1000"], init=request.param)
    server.accept()
    server.wait_for("held")
    yield gate
    gate.close()


@pytest.fixture
def running(held: Gate, server: LeaseServer) -> Gate:
    server.run(1, ttl_ms=60_000)
    server.wait_for("running")
    return held


class Web(http.server.BaseHTTPRequestHandler):
    """Paths say what they answer."""

    seen: list[tuple[str, dict[str, str]]]

    def do_GET(self) -> None:
        self.server.seen.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        if self.path == "/hang":
            time.sleep(3)
            return
        if self.path == "/drip":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n")
            for _ in range(20):
                time.sleep(0.2)
                self.wfile.write(b"x")
            return
        code = int(re.match(r"/(\d*)", self.path)[1] or 200)  # type: ignore[index]
        self.send_response(code)
        if code in (301, 302):
            target = {"301-loop": "/301-loop", "302-away": "http://192.0.2.1/500", "302-in": "503"}
            self.send_header("Location", target[self.path.strip("/")])
        body = b"x" * 100_000
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Quiet."""


def serve(tls: ssl.SSLContext | None = None, family: int = socket.AF_INET) -> http.server.ThreadingHTTPServer:
    class Server(http.server.ThreadingHTTPServer):
        address_family = family
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """The probe hangs up when it has seen enough."""

    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    instance = Server((host, 0), Web)
    instance.seen = []  # type: ignore[attr-defined]
    if tls is not None:
        instance.socket = tls.wrap_socket(instance.socket, server_side=True)
    threading.Thread(target=instance.serve_forever, daemon=True).start()
    return instance


@pytest.fixture
def web() -> Iterator[http.server.ThreadingHTTPServer]:
    instance = serve()
    yield instance
    instance.shutdown()
    instance.server_close()


def port_of(web: http.server.ThreadingHTTPServer) -> str:
    return str(web.server_address[1])


@pytest.mark.parametrize(
    "words",
    [
        ("exec", "--", "false"),
        ("http", "--port", UNUSED_PORT),
        ("http", "--port", UNUSED_PORT, "--scheme", "https"),
        ("tcp", "--port", UNUSED_PORT),
        ("grpc", "--port", UNUSED_PORT),
    ],
    ids=lambda words: words[0],
)
def test_every_kind_passes_while_held_and_is_strict_while_running(
    held: Gate, server: LeaseServer, words: tuple[str, ...]
) -> None:
    done = held.probe(*words)
    assert (done.returncode, done.stdout.strip()) == (0, "held: the application does not run here")
    server.run(1, ttl_ms=60_000)
    server.wait_for("running")
    assert held.probe(*words).returncode == 1
    server.stop(1, 0)
    server.wait_for("held")
    assert held.probe(*words).returncode == 0


def test_no_gate_is_a_failure(held: Gate) -> None:
    held.socket = held.socket.with_name("other.sock")
    done = held.probe("tcp", "--port", UNUSED_PORT)
    assert done.returncode == 1
    assert "gate of container app does not answer" in done.stdout


def test_exec_shows_the_output_and_passes_by_exit_code(running: Gate) -> None:
    done = running.probe("exec", "--", "sh", "-c", "echo fine")
    assert done.returncode == 0
    assert "fine" in done.stdout
    done = running.probe("exec", "--", "sh", "-c", "echo bad >&2; exit 3")
    assert done.returncode == 1
    assert "exited with code 3" in done.stdout
    assert "bad" in done.stderr


def test_exec_is_killed_at_its_timeout(running: Gate) -> None:
    begun = time.monotonic()
    done = running.probe("exec", "--timeout-ms", "300", "--", "sh", "-c", "sleep 1000; true")
    assert done.returncode == 1
    assert "did not end within" in done.stdout
    assert time.monotonic() - begun < 2


@pytest.mark.parametrize(
    ("path", "passes"),
    [
        ("/200", True),
        ("/204", True),
        ("/399", True),
        ("/400", False),
        ("/503", False),
        ("/302-in", False),
        ("/302-away", True),
        ("/301-loop", False),
        ("/hang", False),
        ("/drip", False),
    ],
)
def test_http_is_judged_as_kubelet_does(
    running: Gate, web: http.server.ThreadingHTTPServer, path: str, passes: bool
) -> None:
    begun = time.monotonic()
    done = running.probe("http", "--port", port_of(web), "--path", path, "--timeout-ms", "800")
    assert (done.returncode == 0) is passes, done.stdout
    assert time.monotonic() - begun < 2.5


def test_http_sends_the_headers_of_the_manifest(running: Gate, web: http.server.ThreadingHTTPServer) -> None:
    more = ["--header", "Host: shop.example", "--header", "X-Probe: a: b"]
    assert running.probe("http", "--port", port_of(web), "--path", "/200?q=1", *more).returncode == 0
    path, headers = web.seen[-1]  # type: ignore[attr-defined]
    assert path == "/200?q=1"
    assert headers["Host"] == "shop.example"
    assert headers["X-Probe"] == "a: b"
    assert headers["User-Agent"].startswith("kube-probe/")


def test_http_over_ipv6(running: Gate) -> None:
    web = serve(family=socket.AF_INET6)
    try:
        assert running.probe("http", "--port", port_of(web), "--host", "::1").returncode == 0
    finally:
        web.shutdown()
        web.server_close()


def test_https_needs_no_trusted_certificate(running: Gate, tmp_path: Path) -> None:
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    make = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=else", "-days", "1"]
    subprocess.run([*make, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.minimum_version = context.maximum_version = version
        web = serve(context)
        try:
            secure = ("http", "--scheme", "HTTPS", "--port", port_of(web))
            assert running.probe(*secure, "--path", "/200").returncode == 0
            assert running.probe(*secure, "--path", "/500").returncode == 1
            assert running.probe("http", "--port", port_of(web)).returncode == 1
        finally:
            web.shutdown()
            web.server_close()


def test_tcp_passes_when_the_port_opens(running: Gate) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = str(listener.getsockname()[1])
        assert running.probe("tcp", "--port", port).returncode == 0
        assert running.probe("tcp", "--port", port, "--host", "localhost").returncode == 0
    assert running.probe("tcp", "--port", port).returncode == 1
    done = running.probe("tcp", "--port", port, "--host", "no.such.name")
    assert "not in /etc/hosts" in done.stdout


class Health(grpc.GenericRpcHandler):
    """grpc.health.v1 by its wire format: service name in, status out."""

    statuses: ClassVar = {b"": 1, b"\x0a\x02up": 1, b"\x0a\x04down": 2, b"\x0a\x81\x01" + b"n" * 129: 1}

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any] | None:
        if details.method != "/grpc.health.v1.Health/Check":
            return None

        def check(request: bytes, context: grpc.ServicerContext) -> bytes:
            if request == b"\x0a\x04slow":
                time.sleep(3)
            if request not in self.statuses:
                context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
            return bytes([8, self.statuses[request]])

        return grpc.unary_unary_rpc_method_handler(check)


def test_grpc_health_by_service(running: Gate) -> None:
    health = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Health()])
    port = str(health.add_insecure_port("127.0.0.1:0"))
    health.start()
    try:
        for service, passes, word in [
            (None, True, "SERVING"),
            ("up", True, "SERVING"),
            ("n" * 129, True, "SERVING"),
            ("down", False, "NOT_SERVING"),
            ("strange", False, "unknown there"),
            ("slow", False, "timed out"),
        ]:
            more = [] if service is None else ["--service", service]
            done = running.probe("grpc", "--port", port, "--timeout-ms", "1000", *more)
            assert (done.returncode == 0) is passes, (service, done.stdout)
            assert word in done.stdout
    finally:
        health.stop(None).wait()


def test_grpc_without_the_health_service(running: Gate, web: http.server.ThreadingHTTPServer) -> None:
    empty = grpc.server(futures.ThreadPoolExecutor(1))
    port = str(empty.add_insecure_port("127.0.0.1:0"))
    empty.start()
    try:
        done = running.probe("grpc", "--port", port)
        assert done.returncode == 1
        assert "not served" in done.stdout
        assert running.probe("grpc", "--port", port_of(web)).returncode == 1
    finally:
        empty.stop(None).wait()


def liveness(*more: str) -> list[str]:
    return ["--liveness", "--threshold", "2", "--grace-ms", "5000", *more]


def test_liveness_failures_end_the_application_and_count_as_its_failure(
    running: Gate, server: LeaseServer
) -> None:
    words = ["exec", *liveness(), "--", "false"]
    assert running.probe(*words).returncode == 1
    assert running.probe("exec", *liveness(), "--", "true").returncode == 0
    assert running.probe(*words).returncode == 1
    server.run(1, 60_000)
    assert server.wait_for("running")
    assert running.probe(*words).returncode != 0  # it may be killed with the rest of the container
    assert server.wait_for("exited")["reason"] == "the liveness probe failed"
    assert running.probe(*words).returncode == 0


def test_liveness_waits_for_its_initial_delay_after_each_start(running: Gate, server: LeaseServer) -> None:
    words = ["exec", *liveness("--initial-delay-ms", "1500"), "--", "false"]
    for epoch in (2, 3):
        server.stop(epoch - 1, 0)
        server.wait_for("held")
        begun = time.monotonic()
        server.run(epoch, 60_000)
        server.wait_for("running")
        assert running.probe(*words).stdout.strip() == "initial delay"
        eventually(lambda: running.probe(*words).returncode == 1, "the check is done")
        assert time.monotonic() - begun > 1.4


def test_liveness_waits_for_the_startup_check_after_each_start(
    running: Gate, server: LeaseServer, tmp_path: Path
) -> None:
    up = tmp_path / "up"
    startup = ["--startup", json.dumps(["exec", "--", "test", "-e", str(up)])]
    words = ["exec", *liveness(*startup, "--startup-window-ms", "60000"), "--", "false"]
    for epoch in (2, 3):
        up.unlink(missing_ok=True)
        server.stop(epoch - 1, 0)
        server.wait_for("held")
        server.run(epoch, 60_000)
        server.wait_for("running")
        assert "still starting" in running.probe(*words).stdout
        up.touch()
        assert "started" in running.probe(*words).stdout
        up.unlink()
        assert running.probe(*words).returncode == 1, "now the liveness check itself"


def test_a_startup_that_takes_too_long_ends_the_application(running: Gate, server: LeaseServer) -> None:
    startup = ["--startup", '["exec","--","false"]', "--startup-window-ms", "1"]
    done = running.probe("none", *liveness(*startup))
    # The probe that brings the last failure may be killed with the rest of the container.
    assert done.returncode != 0
    assert "not started in time" in done.stdout
    assert server.wait_for("exited")["reason"] == "the liveness probe failed"


def test_a_stranger_on_the_nodes_network_cannot_end_the_application(
    server: LeaseServer, tmp_path: Path
) -> None:
    """Abstract sockets have no permissions, so senders outside the PID namespace are not listened to."""
    gate = Gate(server.path, ["sleep", "1000"], init=True)
    try:
        server.accept()
        server.run(1, ttl_ms=60_000)
        server.wait_for("running")
        names = [
            line.split()[-1]
            for line in Path("/proc/net/unix").read_text().splitlines()
            if "twinhull-gate/" in line
        ]
        assert names
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger:
            for name in names:
                order = {"probe": "liveness", "epoch": 1, "ok": False, "threshold": 1, "grace_ms": 0}
                stranger.sendto(json.dumps(order).encode(), name.replace("@", "\0", 1))
        time.sleep(0.3)
        server.run(1, ttl_ms=60_000)
        assert server.wait_for("running")
    finally:
        gate.close()
