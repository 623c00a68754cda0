"""A terminal for ``kubectl twinhull``: the program itself, with a stand-in for kubectl."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.operator.samples import ROOT, farm, healthy, healthy_farm, module
from twinhull_operator.status_module import Findings, render_status

PLUGIN = ROOT / "operator" / "twinhull_operator" / "plugin" / "kubectl-twinhull"
KUBECTL = f"""#!{sys.executable}
import json, pathlib, sys
here = pathlib.Path(__file__).parent
words = [word for word in sys.argv[1:] if not word.startswith("--namespace")]
with open(here / "calls", "a") as calls:
    calls.write(json.dumps(sys.argv[1:]) + "\\n")
answers = json.loads((here / "answers").read_text())
for prefix, (code, out, err) in answers.items():
    if " ".join(words).startswith(prefix):
        sys.stdout.write(out)
        sys.stderr.write(err)
        sys.exit(code)
sys.stderr.write(f"unexpected: {{words}}")
sys.exit(99)
"""
Answer = tuple[int, str, str]


class Terminal:
    """Runs the plugin with a kubectl that gives prepared answers, by the beginning of its command line."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        kubectl = directory / "kubectl"
        kubectl.write_text(KUBECTL)
        kubectl.chmod(0o755)
        made = resource()
        self.answers: dict[str, Answer] = {
            "get mirrormodules.twinhull.dev postgres": (0, json.dumps(made), ""),
            "get mirrormodules.twinhull.dev nix": (1, "", 'Error from server (NotFound): "nix" not found'),
            "get mirrormodules.twinhull.dev front": (
                1,
                "",
                'Error from server (NotFound): "front" not found',
            ),
            "get mirrormodules.twinhull.dev": (0, json.dumps({"items": [made]}), ""),
            "get farmmodules.twinhull.dev front": (0, json.dumps(farm_resource()), ""),
            "get farmmodules.twinhull.dev postgres": (
                1,
                "",
                'Error from server (NotFound): "postgres" not found',
            ),
            "get farmmodules.twinhull.dev nix": (1, "", 'Error from server (NotFound): "nix" not found'),
            "get farmmodules.twinhull.dev": (0, json.dumps({"items": []}), ""),
            "get pods": (0, json.dumps({"items": [pod("node-a", "pod-a"), pod("node-b", "pod-b")]}), ""),
            "exec pod-a -c twinhull -- twinhullctl status": said("Primary"),
            "exec pod-b -c twinhull -- twinhullctl status": said("Secondary"),
        }

    def run(self, *arguments: str, plugin: Path = PLUGIN) -> subprocess.CompletedProcess[str]:
        """Run ``kubectl twinhull ARGUMENTS``."""
        self.prepare()
        return subprocess.run(
            [sys.executable, str(plugin), *arguments],
            env={"PATH": str(self.directory)},
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
            timeout=60,
        )

    def prepare(self) -> None:
        """Let kubectl know its answers."""
        (self.directory / "answers").write_text(json.dumps(self.answers))

    def type(self, text: str, *arguments: str) -> tuple[int, str]:
        """Run it on a pseudo-terminal with this typed in; the exit code and all that stood there."""
        self.prepare()
        own, theirs = pty.openpty()
        with subprocess.Popen(
            [sys.executable, str(PLUGIN), *arguments],
            env={"PATH": str(self.directory), "NO_COLOR": "1"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        ) as process:
            os.close(theirs)
            os.write(own, text.encode())
            shown = b""
            # The terminal's end is an error on Linux.
            with contextlib.suppress(OSError):
                while part := os.read(own, 4096):
                    shown += part
            os.close(own)
        return process.returncode, shown.decode()

    def calls(self) -> list[list[str]]:
        """How kubectl was called."""
        return [json.loads(line) for line in (self.directory / "calls").read_text().splitlines()]


def resource() -> dict[str, Any]:
    """A healthy module as the API server shows it."""
    status = render_status(module(), healthy(), Findings(), {}, now=1.0)
    status = {key: value for key, value in status.items() if value is not None}
    metadata = {"namespace": "db", "name": "postgres"}
    return {"kind": "MirrorModule", "metadata": metadata, "status": status}


def farm_resource() -> dict[str, Any]:
    """A healthy farm as the API server shows it."""
    status = render_status(farm(), healthy_farm(), Findings(), {}, now=1.0)
    status = {key: value for key, value in status.items() if value is not None}
    return {"kind": "FarmModule", "metadata": {"namespace": "db", "name": "front"}, "status": status}


def pod(node: str, name: str) -> dict[str, Any]:
    """A pod as the API server shows it."""
    return {"metadata": {"name": name}, "spec": {"nodeName": node}}


def said(role: str, *, ready: bool = True) -> Answer:
    """The answer of ``twinhullctl status -o json``."""
    return 0, json.dumps({"role": role, "reason": f"is {role}", "application": {"ready": ready}}), ""
