"""``twinhullctl`` against the real interface over a Unix socket: output, outcome and exit codes."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.operator.samples import ROOT
from twinhull_sidecar import ctl
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.server import Server


class Desk:
    """A controller that carries every order out at once, refuses ``resync`` and never ends ``switchover``."""

    def __init__(self) -> None:
        self.now = pb.Status(node="a", module="db/pg", role="Waiting", reason="waits for b")
        self.now.peer.node = "b"
        self.now.events.add(time=1.5, type="Warning", code="PeerLost", message="b is silent")
        self.version = 0

    def status(self) -> pb.Status:
        return self.now

    async def wait_changed(self, seen: int) -> int:
        while seen == self.version:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        return self.version

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        if request.action == "resync":
            return pb.OrderReply(message="b is not connected", id=request.id)
        state = "running" if request.action == "switchover" else "done"
        self.now.last_order.CopyFrom(pb.LastOrder(id=request.id, action=request.action, state=state))
        self.version += 1
        return pb.OrderReply(accepted=True, id=request.id)


@pytest.fixture
async def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """A sidecar on this node."""
    made = Desk()
    server = Server(made)
    server.listen_socket(tmp_path / "control.sock")
    await server.start()
    monkeypatch.setenv("TWINHULL_SOCKET", str(tmp_path / "control.sock"))
    yield made
    await server.stop(0)


async def run(*words: str) -> tuple[int, str, str]:
    """Run twinhullctl."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "twinhull_sidecar.ctl", *words),
        env=os.environ | {"PYTHONPATH": str(ROOT / "sidecar")},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    out, error = await process.communicate()
    return process.returncode or 0, out.decode(), error.decode()


async def test_exit_codes(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert (await run("stop"))[:2] == (ctl.DONE, "stop: done\n")
    code, _, error = await run("resync")
    assert (code, error) == (ctl.FAILED, "twinhullctl: b is not connected\n")
    code, _, error = await run("switchover", "--timeout", "0.2")
    assert code == ctl.TIMED_OUT
    assert "not done after 0.2 s" in error
    assert (await run("dance"))[0] == ctl.USAGE
    monkeypatch.setenv("TWINHULL_SOCKET", "/nonexistent/control.sock")
    assert (await run("status"))[0] == ctl.NOT_FOUND


async def test_events(desk: Desk) -> None:
    _, out, _ = await run("events")
    assert out.split()[2:5] == ["Warning", "PeerLost", "b"]
    _, out, _ = await run("events", "-o", "json")
    assert json.loads(out)["code"] == "PeerLost"


async def test_force_primary_asks_on_a_terminal_and_obeys_a_program(desk: Desk) -> None:
    code, shown = await asyncio.to_thread(type_in, "yes\n", "force-primary")
    assert code == ctl.USAGE
    for words in ("a is Waiting: waits for b", "b is silent", "will not be there", "nothing was done"):
        assert words in shown
    assert not desk.now.last_order.id
    assert (await asyncio.to_thread(type_in, "a\n", "force-primary"))[0] == ctl.DONE
    # The kubectl plugin has asked already.
    assert (await run("force-primary", "--discard-peer"))[0] == ctl.DONE


def type_in(text: str, *words: str) -> tuple[int, str]:
    """Run it on a pseudo-terminal with this typed in."""
    own, theirs = pty.openpty()
    command = [sys.executable, "-m", "twinhull_sidecar.ctl", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "sidecar")}
    with subprocess.Popen(command, env=environment, stdin=theirs, stdout=theirs, stderr=theirs) as process:
        os.close(theirs)
        os.write(own, text.encode())
        shown = b""
        try:
            while part := os.read(own, 4096):
                shown += part
        except OSError:  # the terminal's end, on Linux
            pass
        os.close(own)
    return process.returncode, shown.decode()


@pytest.mark.parametrize(
    ("before", "among"),
    [([], "switchover"), (["status"], "--watch"), (["status", "-o"], "json"), (["completion"], "zsh")],
)
def test_completion_knows_commands_options_and_choices(before: list[str], among: str) -> None:
    assert among in ctl.candidates(before)


def test_completion_in_bash(tmp_path: Path) -> None:
    program = tmp_path / "twinhullctl"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m twinhull_sidecar.ctl "$@"\n')
    program.chmod(0o755)
    script = """
        source <(twinhullctl completion bash)
        COMP_WORDS=(twinhullctl sw) COMP_CWORD=1
        _twinhullctl
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    bash = shutil.which("bash")
    assert bash is not None
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(ROOT / "sidecar")}
    result = subprocess.run(
        [bash, "-euc", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["switchover"], result.stderr
