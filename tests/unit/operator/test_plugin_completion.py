"""Shell completion: the words, and the script in a real bash."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.operator.terminal import PLUGIN, Terminal


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["sw"], ["switchover"]),
        (["re"], ["restart", "resume", "resync"]),
        (["status", ""], ["postgres"]),
        (["status", "-o", "wi"], ["wide"]),
        (["switchover", "postgres", "--to", ""], ["node-a", "node-b"]),
        (["switchover", "--timeout", "5", ""], ["postgres"]),
        (["force-primary", "postgres", "--d"], ["--discard-peer"]),
        (["completion", ""], ["bash", "kubectl", "zsh"]),
        (["bogus"], []),
    ],
)
def test_what_may_stand_here(terminal: Terminal, words: list[str], found: list[str]) -> None:
    lines = terminal.run("__complete", *words).stdout.splitlines()
    assert lines == [*found, ":4"]


def test_a_cluster_that_does_not_answer_completes_nothing(terminal: Terminal) -> None:
    terminal.answers = {"get": (1, "", "Unable to connect to the server")}
    assert terminal.run("__complete", "status", "").stdout == ":4\n"


def test_in_bash(terminal: Terminal, tmp_path: Path) -> None:
    terminal.prepare()
    program = tmp_path / "kubectl-twinhull"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{PLUGIN}" "$@"\n')
    program.chmod(0o755)
    script = """
        source <(kubectl-twinhull completion bash)
        COMP_WORDS=(kubectl-twinhull switchover postgres --to node) COMP_CWORD=4
        _kubectl_twinhull
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    bash = shutil.which("bash")
    assert bash is not None
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    result = subprocess.run(
        [bash, "-euc", script], env=environment, capture_output=True, text=True, check=False
    )
    assert result.stdout.split() == ["node-a", "node-b"], result.stderr


def test_every_script_asks_the_program(terminal: Terminal) -> None:
    for shell in ("bash", "zsh", "kubectl"):
        assert "kubectl-twinhull __complete" in terminal.run("completion", shell).stdout
