"""`logs`: both sidecars' logs (and the application's, when asked for) merged in time."""

from __future__ import annotations

import argparse
import contextlib
import heapq
import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

from .kubectl import (
    CONTAINER,
    DONE,
    KUBECTL_FAILED,
    NOT_FOUND,
    Kubectl,
    PluginError,
    find_module,
    find_pods,
)

FETCH_TIMEOUT = 60.0
REORDER = 1.0
"""Seconds that a line waits for an earlier one of the other node while the logs are followed."""
KNOWN = ("time", "level", "message", "logger", "node")


class Source(NamedTuple):
    """A container's log."""

    node: str
    pod: str
    container: str

    @property
    def label(self) -> str:
        """As it stands before each line."""
        return self.node if self.container == CONTAINER else f"{self.node}/{self.container}"


class Line(NamedTuple):
    """``stamp`` is the container runtime's, RFC 3339, of that node's clock; ``number`` keeps a log's own order."""

    stamp: str
    number: int
    label: str
    text: str


def read_line(source: Source, number: int, raw: str, last: str) -> Line:
    """A line of `kubectl logs --timestamps`; one without a stamp belongs to the line before it."""
    stamp, space, text = raw.partition(" ")
    if not space or len(stamp) < 20 or not stamp[:4].isdigit() or not stamp.endswith("Z"):
        return Line(last, number, source.label, raw)
    # Of different lengths in one log: 12:00:00Z, 12:00:00.5Z.
    whole, _, fraction = stamp[:-1].partition(".")
    return Line(f"{whole}.{fraction.ljust(9, '0')}Z", number, source.label, text)


def describe(line: Line, width: int) -> str:
    """For a person: time, where, level, message, and what else the sidecar said."""
    text = line.text
    try:
        entry: Any = json.loads(text) if text.startswith("{") else None
    except ValueError:
        entry = None
    if isinstance(entry, dict) and "message" in entry:
        level = str(entry.get("level", "")).upper()
        more = " ".join(
            f"{key}={value}" for key, value in entry.items() if key not in KNOWN and key != "exception"
        )
        text = f"{level:<7} {entry['message']}" + (f"  ({more})" if more else "")
        if "exception" in entry:
            text += "\n" + str(entry["exception"])
    return f"{line.stamp[:23].replace('T', ' ')}  {line.label:<{width}}  {text}"


def find_sources(kubectl: Kubectl, arguments: argparse.Namespace) -> list[Source]:
    """The logs to show. Raises PluginError."""
    module = find_module(kubectl, arguments.name)
    pods = find_pods(kubectl, arguments.name)
    containers = [CONTAINER]
    if arguments.application:
        spec = module.get("spec", {}).get("template", {}).get("spec", {})
        containers += [container["name"] for container in spec.get("containers") or []]
    if arguments.node:
        pods = {node: pod for node, pod in pods.items() if node == arguments.node}
        if not pods:
            raise PluginError(NOT_FOUND, f"{arguments.name} has no pod on {arguments.node}")
    return [Source(node, pod, container) for node, pod in sorted(pods.items()) for container in containers]


def options(arguments: argparse.Namespace) -> list[str]:
    """What is handed on to `kubectl logs`."""
    found = ["--timestamps"]
    if arguments.since:
        found.append(f"--since={arguments.since}")
    if arguments.tail >= 0:
        found.append(f"--tail={arguments.tail}")
    if arguments.previous:
        found.append("--previous")
    return found


def fetch(kubectl: Kubectl, source: Source, *arguments: str) -> tuple[list[Line], str]:
    """A log's lines, and why there are none."""
    try:
        result = kubectl.run("logs", source.pod, "-c", source.container, *arguments, timeout=FETCH_TIMEOUT)
    except PluginError as error:
        return [], str(error)
    if result.returncode != 0:
        return [], result.stderr.strip()
    lines: list[Line] = []
    for number, raw in enumerate(result.stdout.splitlines()):
        lines.append(read_line(source, number, raw, lines[-1].stamp if lines else ""))
    return lines, ""


def show_logs(kubectl: Kubectl, arguments: argparse.Namespace) -> int:
    """`logs`."""
    sources = find_sources(kubectl, arguments)
    width = max(len(source.label) for source in sources)
    if arguments.follow:
        for line in follow(kubectl, sources, options(arguments)):
            _print(line, width, arguments)
        return DONE
    found, missing = [], []
    for source in sources:
        lines, error = fetch(kubectl, source, *options(arguments))
        found.append(lines)
        if error:
            missing.append(f"{source.label}: {error}")
            print(f"no logs of {missing[-1]}", file=sys.stderr)
    if len(missing) == len(sources):
        raise PluginError(KUBECTL_FAILED, f"no logs of {arguments.name} can be read")
    for line in heapq.merge(*found, key=lambda line: line.stamp):
        _print(line, width, arguments)
    return DONE


def _print(line: Line, width: int, arguments: argparse.Namespace) -> None:
    if arguments.output == "json":
        print(json.dumps({"time": line.stamp, "source": line.label, "line": line.text}), flush=True)
    else:
        print(describe(line, width), flush=True)


def follow(kubectl: Kubectl, sources: list[Source], arguments: list[str]) -> Iterator[Line]:
    """Lines as they come, each held back a moment for an earlier one of the other node. Ends with the last log."""
    lines: queue.SimpleQueue[Line | None] = queue.SimpleQueue()
    processes = [
        subprocess.Popen(
            kubectl.command("logs", source.pod, "-c", source.container, "--follow", *arguments),
            stdout=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
        )
        for source in sources
    ]
    for source, process in zip(sources, processes, strict=True):
        threading.Thread(target=_read, args=(source, process, lines), daemon=True).start()
    waiting: list[tuple[str, float, Line]] = []
    running = len(sources)
    try:
        while running or waiting:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=0.1)
                if line is None:
                    running -= 1
                else:
                    heapq.heappush(waiting, (line.stamp, time.monotonic(), line))
            while waiting and (not running or time.monotonic() - waiting[0][1] > REORDER):
                yield heapq.heappop(waiting)[2]
    finally:
        for process in processes:
            process.terminate()


def _read(source: Source, process: subprocess.Popen[str], lines: queue.SimpleQueue[Line | None]) -> None:
    last = ""
    if process.stdout is not None:
        for number, raw in enumerate(process.stdout):
            line = read_line(source, number, raw.rstrip("\n"), last)
            last = line.stamp
            lines.put(line)
    lines.put(None)
