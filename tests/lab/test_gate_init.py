"""The gate's duties as first process: signals, orphans, exit codes, the end of a whole tree."""

from __future__ import annotations

import functools
import os
import pty
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.lab.gate_harness import LeaseServer, StartGate, children, eventually, gate_binary, with_argument

# A daemon by the book: two forks and a session of its own, so it is in no process group of the application's.
DAEMON = """
import os, sys, time, pathlib
mark, up = sys.argv[1:3]
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.execvp("python3", ["python3", "-c", "import time; time.sleep(1000)", mark])
    os._exit(0)
os.wait()
pathlib.Path(up).touch()
time.sleep(float(sys.argv[3]))
sys.exit(5)
"""


def daemons(mark: str) -> list[int]:
    """The daemons of this test: they carry the mark as their last argument."""
    found = []
    for pid in with_argument(mark):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().rstrip(b"\0").split(b"\0")
        if words[-1] == mark.encode() and words[2].startswith(b"import time"):
            found.append(pid)
    return found


def test_a_daemon_in_its_own_session_is_killed_with_the_rest(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    mark, up = f"--mark={tmp_path}", tmp_path / "up"
    start("python3", "-c", DAEMON, mark, str(up), "1000")
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(lambda: up.exists() and len(daemons(mark)) == 1, "the daemon runs")
    server.stop(1, grace_ms=0)
    server.wait_for("held")
    assert daemons(mark) == []


def test_what_the_application_leaves_behind_ends_with_it(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    mark, up = f"--mark={tmp_path}", tmp_path / "up"
    start("python3", "-c", DAEMON, mark, str(up), "0.5")
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(lambda: up.exists() and len(daemons(mark)) == 1, "the daemon runs")
    assert server.wait_for("exited")["code"] == 5
    assert daemons(mark) == []


def test_a_fork_bomb_of_short_lived_children_does_not_outlive_the_lease(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    mark, up = f"--mark={tmp_path}", tmp_path / "up"
    # Each generation forks the next and ends: there is always one, and never the same.
    script = """
import os, pathlib, sys
pathlib.Path(sys.argv[2]).touch()
if os.fork() == 0:
    os.setsid()
    while True:
        if os.fork():
            os._exit(0)
else:
    import time; time.sleep(1000)
"""
    start("python3", "-c", script, mark, str(up))
    server.accept()
    own = len(with_argument(mark))
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(up.exists, "it forks")
    server.stop(1, grace_ms=0)
    server.wait_for("held", timeout=20)
    assert len(with_argument(mark)) == own


def test_orphans_are_reaped(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    up = tmp_path / "up"
    script = """
import os, pathlib, sys, time
for _ in range(50):
    if os.fork() == 0:
        if os.fork() == 0:
            time.sleep(0.2)
        os._exit(0)
    os.wait()
pathlib.Path(sys.argv[1]).touch()
time.sleep(1000)
"""
    gate = start("python3", "-c", script, str(up))
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(up.exists, "50 orphans were made")
    pid = gate.pid
    eventually(lambda: len(children(pid)) == 1, "no zombie and no orphan is left")


@pytest.mark.parametrize(("script", "code"), [("exit 0", 0), ("exit 3", 3), ("kill -SEGV $$", 139)])
def test_the_original_exit_code_reaches_kubelet(
    server: LeaseServer, start: StartGate, script: str, code: int
) -> None:
    gate = start("sh", "-c", script)
    server.accept()
    server.run(1, restart="kubelet")
    assert gate.wait() == code


@pytest.mark.parametrize(
    ("command", "code", "why"), [("/no/such", 127, "No such file"), ("/etc/passwd", 126, "Permission")]
)
def test_a_command_that_cannot_start_is_reported(
    server: LeaseServer, start: StartGate, command: str, code: int, why: str
) -> None:
    start(command)
    server.accept()
    server.run(1)
    exited = server.wait_for("exited")
    assert exited["code"] == code
    assert why in exited["reason"]


def test_signals_reach_the_application(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    out, up = tmp_path / "out", tmp_path / "up"
    script = f"""
trap 'echo hup >> {out}' HUP; trap 'echo usr1 >> {out}' USR1; trap 'echo term >> {out}; exit 9' TERM
touch {up}
while :; do sleep 0.05; done
"""

    def told(word: str) -> bool:
        return out.exists() and word in out.read_text()

    gate = start("bash", "-c", script)
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(up.exists, "traps are set")
    for number, word in ((signal.SIGHUP, "hup"), (signal.SIGUSR1, "usr1")):
        gate.signal(number)
        eventually(functools.partial(told, word), word)
    gate.signal(signal.SIGTERM)
    stopping = server.wait_for("stopping")
    assert stopping["reason"] == "terminated"
    assert gate.wait() == 9
    assert out.read_text().split() == ["hup", "usr1", "term"]


def test_the_images_stop_signal_ends_it(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    up = tmp_path / "up"
    script = f"trap 'exit 4' INT; trap '' TERM; touch {up}; while :; do sleep 0.05; done"
    start("bash", "-c", script)
    server.accept()
    server.run(1, ttl_ms=20_000, stop_signal=int(signal.SIGINT))
    server.wait_for("running")
    eventually(up.exists, "traps are set")
    server.stop(1, grace_ms=10_000)
    assert server.wait_for("held")["code"] == 4


def test_a_real_time_signal_is_forwarded(server: LeaseServer, start: StartGate, tmp_path: Path) -> None:
    up = tmp_path / "up"
    script = f"trap 'exit 6' RTMIN+5; touch {up}; while :; do sleep 0.05; done"
    gate = start("bash", "-c", script)
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    eventually(up.exists, "the trap is set")
    gate.signal(signal.SIGRTMIN + 5)
    assert server.wait_for("exited")["code"] == 6


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT])
def test_a_held_gate_ends_at_once(server: LeaseServer, start: StartGate, number: int) -> None:
    gate = start("sleep", "1000")
    server.accept()
    gate.signal(number)
    assert gate.wait(2) == 0


def test_the_application_gets_clean_signals_and_descriptors(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    start("sh", "-c", "grep -E 'Sig(Blk|Ign)' /proc/self/status; ls -l /proc/self/fd", output=out)
    server.accept()
    server.run(1)
    server.wait_for("exited", code=0)
    text = out.read_text()
    assert text.count("0000000000000000") == 2, text
    assert "socket" not in text
    assert "anon_inode" not in text


def test_a_killed_gate_takes_the_application_with_it(
    server: LeaseServer, start: StartGate, tmp_path: Path
) -> None:
    gate = start("sleep", "1000")
    server.accept()
    server.run(1, ttl_ms=20_000)
    server.wait_for("running")
    (child,) = children(gate.pid)
    os.kill(gate.pid, signal.SIGKILL)
    eventually(lambda: not Path(f"/proc/{child}").exists(), "the application is gone")


def test_a_terminals_foreground_is_the_applications(tmp_path: Path, server: LeaseServer) -> None:
    """`tty: true`: the application may read the terminal, and Ctrl-C reaches it."""
    pid, terminal = pty.fork()
    if pid == 0:  # pragma: no cover - the child
        words = ["run", "--container", "app", "--socket", str(server.path), "--"]
        os.execv(gate_binary(), ["gate", *words, "sh", "-c", "read line; echo got:$line; exec sleep 1000"])
    try:
        server.accept()
        server.run(1, ttl_ms=20_000)
        server.wait_for("running")
        os.write(terminal, b"hello\n")
        text = b""
        end = time.monotonic() + 5
        while b"got:hello" not in text and time.monotonic() < end:
            text += os.read(terminal, 1024)
        assert b"got:hello" in text
        time.sleep(0.2)
        os.write(terminal, b"\x03")
        assert server.wait_for("exited")["signal"] == signal.SIGINT
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(terminal)


def test_a_read_only_gate_directory_is_enough(tmp_path: Path) -> None:
    """The application container mounts the gate's volume read-only, and may run as any user."""
    directory = tmp_path / "gate"
    directory.mkdir()
    for parent in (tmp_path, *tmp_path.parents):
        if parent != Path("/tmp"):
            parent.chmod(parent.stat().st_mode | 0o111)
        else:
            break
    view = tmp_path / "view"
    view.mkdir()
    server = LeaseServer(directory / "lease.sock")
    server.path.chmod(0o666)
    mount = f"mount --bind {directory} {view} && mount -o remount,bind,ro {view}"
    copy = tmp_path / "gate-copy"
    gate = f"cp {gate_binary()} {copy} && exec setpriv --reuid 4321 --clear-groups {copy}"
    run = f"run --container app --socket {view}/lease.sock -- sh -c 'touch {view}/x || exit 8'"
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", f"{mount} && {gate} {run}"])
    try:
        server.accept()
        server.run(1)
        assert server.wait_for("exited")["code"] == 8
    finally:
        process.kill()
        process.wait()
        server.close()


def test_a_wrong_command_line_says_what_is_wrong() -> None:
    done = subprocess.run([gate_binary(), "run", "--", "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 64
    assert "--container is missing" in done.stderr
