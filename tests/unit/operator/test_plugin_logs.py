"""``kubectl twinhull logs``: two logs as one."""

from __future__ import annotations

import json

import pytest

from tests.unit.operator.terminal import Terminal
from twinhull_operator.plugin.kubectl_twinhull.logs import Source, read_line

A = """2026-01-01T10:00:00.1Z {"level": "info", "message": "is Primary", "node": "node-a", "event": "Primary"}
2026-01-01T10:00:02Z {"level": "warning", "message": "node-b is silent", "node": "node-a"}
"""
B = """2026-01-01T10:00:00.05Z starts
2026-01-01T10:00:01.999999999Z {"level": "error", "message": "failed", "exception": "Traceback"}
"""


@pytest.fixture(autouse=True)
def logs(terminal: Terminal) -> None:
    """Both sidecars have a log; the application has one, too."""
    for pod, text in (("pod-a", A), ("pod-b", B)):
        terminal.answers[f"logs {pod} -c twinhull"] = (0, text, "")
        terminal.answers[f"logs {pod} -c postgres"] = (0, "2026-01-01T10:00:01Z LOG: ready\n", "")
    module = json.loads(terminal.answers["get mirrormodules.twinhull.dev postgres"][1])
    module["spec"] = {"template": {"spec": {"containers": [{"name": "postgres"}]}}}
    terminal.answers["get mirrormodules.twinhull.dev postgres"] = (0, json.dumps(module), "")


def test_lines_of_both_nodes_stand_in_the_order_of_their_times(terminal: Terminal) -> None:
    result = terminal.run("logs", "postgres")
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        "2026-01-01 10:00:00.050  node-b  starts",
        "2026-01-01 10:00:00.100  node-a  INFO    is Primary  (event=Primary)",
        "2026-01-01 10:00:01.999  node-b  ERROR   failed",
        "Traceback",
        "2026-01-01 10:00:02.000  node-a  WARNING node-b is silent",
    ]


def test_a_followed_log_is_merged_too(terminal: Terminal) -> None:
    assert terminal.run("logs", "postgres", "-f").stdout == terminal.run("logs", "postgres").stdout


def test_options_are_handed_on(terminal: Terminal) -> None:
    terminal.run("logs", "postgres", "--since", "10m", "--tail", "5", "-p", "--node", "node-b")
    (call,) = (call for call in terminal.calls() if call[0] == "logs")
    assert call[1:] == ["pod-b", "-c", "twinhull", "--timestamps", "--since=10m", "--tail=5", "--previous"]
    assert terminal.run("logs", "postgres", "--node", "node-z").returncode == 3


def test_the_application_when_asked_for(terminal: Terminal) -> None:
    assert "LOG: ready" not in terminal.run("logs", "postgres").stdout
    assert "node-a/postgres  LOG: ready" in terminal.run("logs", "postgres", "-a").stdout


def test_a_node_that_is_down_costs_only_its_own_lines(terminal: Terminal) -> None:
    terminal.answers["logs pod-b"] = (1, "", "dial tcp: no route to host")
    del terminal.answers["logs pod-b -c twinhull"]
    result = terminal.run("logs", "postgres")
    assert result.returncode == 0
    assert "no logs of node-b: dial tcp" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    terminal.answers["logs"] = (1, "", "gone")
    del terminal.answers["logs pod-a -c twinhull"]
    assert terminal.run("logs", "postgres").returncode == 5


def test_as_json_every_line_says_where_it_is_from(terminal: Terminal) -> None:
    first = json.loads(terminal.run("logs", "postgres", "-o", "json").stdout.splitlines()[0])
    assert first == {"time": "2026-01-01T10:00:00.050000000Z", "source": "node-b", "line": "starts"}


def test_a_line_without_a_time_belongs_to_the_one_before() -> None:
    source = Source("node-a", "pod-a", "twinhull")
    assert read_line(source, 1, "rotated away", "2026-01-01T10:00:00.000000000Z").stamp.startswith("2026")
    assert read_line(source, 1, "", "x").text == ""
