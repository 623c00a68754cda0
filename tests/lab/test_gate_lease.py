"""The gate runs the application while a lease holds, and not a moment longer."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.gate_harness import Gate, LeaseServer, StartGate, eventually, gate_binary, with_argument


def mark(tmp_path: Path) -> str:
    """An argument that names this test's processes and no others."""
    return f"--mark={tmp_path}"


def sleeper(tmp_path: Path) -> list[str]:
    return ["python3", "-c", "import time; time.sleep(1000)", mark(tmp_path)]


def stubborn(tmp_path: Path, on_term: str = "None") -> list[str]:
    """Python that does ``on_term`` at SIGTERM, and makes the file ``up`` when that is arranged."""
    lines = [
        "import pathlib, signal, sys, time",
        f"signal.signal(signal.SIGTERM, lambda *_: {on_term})",
        f"pathlib.Path({str(tmp_path / 'up')!r}).touch()",
        "while True: time.sleep(1)",
    ]
    return ["python3", "-c", "\n".join(lines)]


def wait_until_up(tmp_path: Path) -> None:
    eventually((tmp_path / "up").exists, "the application is up")


def test_it_holds_until_a_lease_comes_and_kills_when_it_runs_out(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*sleeper(tmp_path))
    hello = server.accept()
    assert hello["container"] == "app"
    assert hello["original"] == sleeper(tmp_path)
    assert server.wait_for("held")["epoch"] == 0
    assert with_argument(mark(tmp_path)) != []  # the gate itself has it among its arguments
    own = len(with_argument(mark(tmp_path)))

    begun = time.monotonic()
    server.run(1, ttl_ms=700)
    running = server.wait_for("running", epoch=1)
    assert running["pid"] is not None
    # In the middle of its exec(2) a process shows no arguments.
    eventually(lambda: len(with_argument(mark(tmp_path))) == own + 1, "the application runs", timeout=0.5)
    held = server.wait_for("held", epoch=1)
    elapsed = time.monotonic() - begun
    assert held["reason"] == "the lease ran out"
    assert held["signal"] == signal.SIGKILL
    assert 0.7 <= elapsed < 1.2
    assert len(with_argument(mark(tmp_path))) == own


def test_renewals_keep_it_running_and_their_end_kills_it(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*sleeper(tmp_path))
    server.accept()
    server.run(1, ttl_ms=400)
    server.wait_for("running")
    with server.renewing(1, ttl_ms=400):
        time.sleep(1.2)
    begun = time.monotonic()
    server.wait_for("held", epoch=1)
    assert time.monotonic() - begun < 1.3


def test_only_a_higher_epoch_starts_it_again(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    start(*sleeper(tmp_path))
    server.accept()
    for epoch in (3, 4, 7):
        server.run(epoch)
        server.wait_for("running", epoch=epoch)
        begun = time.monotonic()
        server.stop(epoch, grace_ms=5000)
        server.wait_for("held", epoch=epoch)
        assert time.monotonic() - begun < 1.0
        server.run(epoch)
        assert server.read()["state"] == "held"


def test_a_stubborn_application_is_killed_after_its_grace(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*stubborn(tmp_path))
    server.accept()
    server.run(1, ttl_ms=9000)
    server.wait_for("running")
    wait_until_up(tmp_path)
    begun = time.monotonic()
    server.stop(1, grace_ms=500)
    held = server.wait_for("held")
    assert 0.5 <= time.monotonic() - begun < 1.5
    assert held["signal"] == signal.SIGKILL


def test_a_long_grace_is_given_while_the_lease_is_renewed(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*stubborn(tmp_path, "(time.sleep(1.5), sys.exit(7))"))
    server.accept()
    server.run(1, ttl_ms=500)
    with server.renewing(1, ttl_ms=500):
        server.wait_for("running")
        wait_until_up(tmp_path)
        server.stop(1, grace_ms=10_000)
        held = server.wait_for("held")
    assert held["code"] == 7


def test_a_lost_sidecar_ends_an_orderly_stop_too(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*stubborn(tmp_path))
    server.accept()
    server.run(1, ttl_ms=9000)
    server.wait_for("running")
    wait_until_up(tmp_path)
    server.run(1, ttl_ms=800)
    begun = time.monotonic()
    server.stop(1, grace_ms=30_000)
    assert server.wait_for("held")["reason"] == "the lease ran out"
    assert time.monotonic() - begun < 1.3


def test_the_sidecars_death_does_not_shorten_the_lease_and_a_new_one_takes_over(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*sleeper(tmp_path))
    server.accept()
    server.run(1, ttl_ms=2000)
    server.wait_for("running")
    server.drop()
    server.accept()
    assert server.read()["state"] == "running"
    server.run(1, ttl_ms=300)
    assert server.wait_for("held")["reason"] == "the lease ran out"


def test_a_sidecar_that_does_not_read_or_accept_does_not_hold_up_the_deadline(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    start(*sleeper(tmp_path))
    server.accept()
    server.run(1, ttl_ms=1000)
    pid = server.wait_for("running")["pid"]
    assert pid
    own = len(with_argument(mark(tmp_path)))
    # It goes away, and its successor listens without accepting, its backlog full.
    server.drop()
    fillers = []
    for _ in range(8):
        filler = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        fillers.append(filler)
        try:
            filler.connect(str(server.path))
        except BlockingIOError:
            break
    eventually(lambda: len(with_argument(mark(tmp_path))) == own - 1, "the application is killed", 1.5)
    for filler in fillers:
        filler.close()


def test_a_frozen_gate_takes_no_time_from_a_line_that_lay_in_its_socket(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    gate = start(*sleeper(tmp_path))
    server.accept()
    until = int((time.clock_gettime(time.CLOCK_BOOTTIME) + 0.5) * 1000)
    server.run(1, ttl_ms=500, until_ms=until)
    server.wait_for("running")
    pid = gate.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        until = int((time.clock_gettime(time.CLOCK_BOOTTIME) + 0.5) * 1000)
        server.run(1, ttl_ms=500, until_ms=until)
        time.sleep(1.0)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert server.wait_for("held", timeout=1.0)["reason"] == "the lease ran out"


@pytest.mark.parametrize(
    "line",
    [b"run please\n", b'{"run":{"epoch":"x"}}\n', b"[1]\n", b"x" * 70_000],
    ids=lambda v: v[:8].decode(),
)
def test_a_bad_line_costs_the_connection_and_gives_no_lease(
    server: LeaseServer, start: StartGate, line: bytes
) -> None:
    start("sleep", "1000")
    server.accept()
    server.wait_for("held")
    server.send(line)
    with pytest.raises((EOFError, ConnectionError)):
        server.read()
    server.accept()
    assert server.wait_for("held")["epoch"] == 0


def test_the_images_command_comes_with_the_grant(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    start("from", "args", options=["--image-command"], output=out)
    hello = server.accept()
    assert hello["original"] is None
    assert hello["args"] == ["from", "args"]
    server.run(1)
    line = server.wait_for("held", epoch=0)
    while not line["reason"]:
        line = server.wait_for("held", epoch=0)
    assert "no command" in line["reason"]
    server.run(1, argv=["echo", *hello["args"]])
    server.wait_for("exited", code=0)
    assert out.read_text() == "from args\n"


def test_many_starts_and_stops_are_quick(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    start(*sleeper(tmp_path))
    server.accept()
    for epoch in range(1, 21):
        server.run(epoch)
        server.wait_for("running", epoch=epoch)
        server.stop(epoch, grace_ms=0)
        server.wait_for("held", epoch=epoch)


def test_a_gate_without_its_sidecar_ends_when_told_so(tmp_path: Path, server: LeaseServer) -> None:
    gate = Gate(server.path, sleeper(tmp_path), init=False, options=["--exit-without-sidecar"])
    try:
        server.accept()
        server.run(1, ttl_ms=500)
        server.wait_for("running")
        begun = time.monotonic()
        server.close()
        assert gate.wait() == 0
        assert 0.3 < time.monotonic() - begun < 1.5
        assert with_argument(mark(tmp_path)) == []
    finally:
        gate.close()


def test_it_is_static_and_small(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    gate = start(*sleeper(tmp_path))
    server.accept()
    with server.renewing(1, ttl_ms=300):
        server.wait_for("running")
        time.sleep(0.5)
        status = Path(f"/proc/{gate.pid}/status").read_text()
    rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))
    assert rss < 2048, f"{rss} KiB"
    described = subprocess.run(["ldd", gate_binary()], capture_output=True, text=True, check=False)
    assert "not a dynamic executable" in described.stdout + described.stderr
