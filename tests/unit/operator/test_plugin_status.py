"""``kubectl twinhull status``: tables, other formats, and going on while the API server is away."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from typing import Any

import yaml
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.operator.samples import answer, healthy, module, silent
from tests.unit.operator.terminal import PLUGIN, Terminal, resource
from twinhull_operator.plugin.kubectl_twinhull.show import Paint, details, state, summary, to_yaml, why
from twinhull_operator.report import NodeReport
from twinhull_operator.status_module import Findings, render_status

PLAIN = Paint(on=False)


def shown(reports: list[NodeReport], **findings: Any) -> dict[str, Any]:
    """A module with these reports, as the API server shows it."""
    status = render_status(module(), reports, Findings(**findings), {}, now=1.0)
    return resource() | {"status": status}


def test_the_state_in_one_word() -> None:
    primary, secondary = healthy()
    assert state(shown([primary, secondary])) == "protected"
    alone = answer("node-a", "Alone", application=primary.status.application) if primary.status else primary
    cases = {
        "serving": [alone, silent("node-b")],
        "down": [answer("node-a", "Waiting"), answer("node-b", "Waiting")],
        "unknown": [silent("node-a"), silent("node-b")],
    }
    for word, reports in cases.items():
        assert state(shown(reports)) == word
        assert why(shown(reports)), word
    assert state({"metadata": {}}) == "starting"


def test_why_a_module_is_not_protected_stands_below_the_table() -> None:
    lines = summary([shown([healthy()[0], silent("node-b")])], PLAIN).split("\n\n")
    assert lines[-1].startswith("db/postgres: SidecarUnreachable: the sidecar on node-b does not answer")
    assert "\n\n" not in summary([shown(healthy())], PLAIN)


def test_a_terminal_gets_colours_that_do_not_move_the_columns() -> None:
    plain = summary([shown(healthy())], PLAIN)
    coloured = summary([shown(healthy())], Paint(on=True))
    assert "\033[32mprotected\033[0m" in coloured
    assert coloured.replace("\033[32m", "").replace("\033[0m", "") == plain


def test_checkers_are_counted_on_each_node_and_a_failing_one_is_a_problem() -> None:
    assert "CHECKERS" not in details(shown(healthy()), PLAIN)
    primary, secondary = healthy()
    assert primary.status is not None
    assert secondary.status is not None
    secondary.status.checkers.add(name="cable", passing=True)
    primary.status.checkers.add(name="web", passing=True)
    primary.status.checkers.add(name="cable", passing=False, detail="there is no interface eth0")
    primary.status.problems.add(field="checkers[1]", message="cable fails: there is no interface eth0")
    text = details(shown([primary, secondary]), PLAIN)
    header, first, second = text[text.index("NODE ") :].splitlines()[:3]
    column = header.index("CHECKERS PASSING")
    assert [line[column:].split()[0] for line in (first, second)] == ["1/2", "1/1"]
    assert "PROBLEM  spec.checkers[1] on node-a: cable fails: there is no interface eth0" in text


def test_wide_has_more_columns(terminal: Terminal) -> None:
    header, line = terminal.run("status", "-o", "wide").stdout.splitlines()
    assert "UP TO DATE" in header
    assert line.split()[-3:] == ["True", "2/2", "-"]
    assert "192.0.2.1" in terminal.run("status", "postgres", "-o", "wide").stdout


def test_yaml_is_the_json(terminal: Terminal) -> None:
    found = yaml.safe_load(terminal.run("status", "-o", "yaml").stdout)
    assert found == json.loads(terminal.run("status", "-o", "json").stdout)
    assert found[0]["state"] == "protected"
    one = yaml.safe_load(terminal.run("status", "postgres", "-o", "yaml").stdout)
    assert one["primary"] == "node-a"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8"), max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=12,
)


@given(VALUES)
def test_any_value_survives_as_yaml(value: object) -> None:
    assert yaml.safe_load(to_yaml(value)) == value


def test_watch_goes_on_while_the_api_server_is_away(terminal: Terminal) -> None:
    terminal.prepare()
    environment = {"PATH": str(terminal.directory), "PYTHONUNBUFFERED": "1"}
    words = [sys.executable, str(PLUGIN), "status", "-w", "-o", "json", "--interval", "0.05"]
    # What a shell starts in the background ignores SIGINT, and so would all that the tests start there.
    words = ["/usr/bin/env", "--default-signal=INT", *words]
    with subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert json.loads(process.stdout.readline())[0]["status"]["sync"] == "InSync"
        good = dict(terminal.answers)
        terminal.answers = {"get": (1, "", "Unable to connect to the server: timeout")}
        replace(terminal)
        calls = len(terminal.calls())
        while len(terminal.calls()) < calls + 4:
            time.sleep(0.02)
        changed = shown([healthy()[0], silent("node-b")])
        terminal.answers = good | {
            "get mirrormodules.twinhull.dev": (0, json.dumps({"items": [changed]}), "")
        }
        replace(terminal)
        # What did not change was not said again.
        assert json.loads(process.stdout.readline())[0]["state"] == "serving"
        assert interrupt(process) == 130


def interrupt(process: subprocess.Popen[str]) -> int:
    """The exit code after Ctrl-C; pressed again where Python lost it (in a finalizer, exceptions count for nothing)."""
    for _ in range(4):
        process.send_signal(signal.SIGINT)
        try:
            return process.wait(10)
        except subprocess.TimeoutExpired:
            continue
    process.kill()
    raise TimeoutError("it goes on after SIGINT")


def replace(terminal: Terminal) -> None:
    """Other answers at once: never half a file."""
    prepared = terminal.directory / "answers.new"
    prepared.write_text(json.dumps(terminal.answers))
    prepared.replace(terminal.directory / "answers")


def test_watch_of_a_cluster_that_never_answered_ends(terminal: Terminal) -> None:
    terminal.answers = {"get": (1, "", "Unable to connect to the server: timeout")}
    assert terminal.run("status", "-w").returncode == 5
