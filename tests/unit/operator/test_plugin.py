"""``kubectl twinhull`` as a program, with a stand-in for kubectl: output, outcome and exit codes.

The real thing, with kubectl and sidecars, runs end to end in tests/e2e.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.operator.samples import ROOT
from tests.unit.operator.terminal import PLUGIN, Answer, Terminal, farm_resource, resource, said
from twinhull_operator.plugin.kubectl_twinhull.command import parser
from twinhull_operator.plugin.kubectl_twinhull.completion import subparsers
from twinhull_operator.plugin.kubectl_twinhull.kubectl import EXIT_CODES
from twinhull_operator.plugin.kubectl_twinhull.verify import describe


def test_the_file_runs_by_itself() -> None:
    assert PLUGIN.stat().st_mode & 0o111
    assert PLUGIN.read_text().startswith("#!/usr/bin/env python3\n")


def test_status_of_all_and_of_one(terminal: Terminal) -> None:
    table = terminal.run("status", "-n", "db")
    assert table.returncode == 0
    header, line = table.stdout.splitlines()
    assert header.split() == [*("NAMESPACE", "NAME", "STATE", "ROLE", "PRIMARY", "SECONDARY", "SYNC", "VIP")]
    assert line.split() == [
        *("db", "postgres", "protected", "Primary", "node-a", "node-b", "InSync", "192.168.10.50")
    ]
    details = terminal.run("status", "postgres").stdout
    assert "ApplicationReady" in details
    assert "node-b" in details
    assert terminal.calls()[0][0] == "--namespace=db"


def test_status_as_json(terminal: Terminal) -> None:
    assert json.loads(terminal.run("status", "postgres", "-o", "json").stdout)["primary"] == "node-a"
    (entry,) = json.loads(terminal.run("status", "-o", "json").stdout)
    assert (entry["name"], entry["status"]["sync"]) == ("postgres", "InSync")


def test_a_farm_has_a_table_of_its_own(terminal: Terminal) -> None:
    terminal.answers["get farmmodules.twinhull.dev"] = (0, json.dumps({"items": [farm_resource()]}), "")
    header, line = terminal.run("status").stdout.split("\n\n")[1].splitlines()
    assert header.split() == ["NAMESPACE", "NAME", "STATE", "UP", "ANNOUNCER", "SHARES", "VIP"]
    assert line.split() == [
        *("db", "front", "protected", "2/2", "node-a", "node-a=50%", "node-b=50%", "192.168.10.71")
    ]
    found = json.loads(terminal.run("status", "-o", "json").stdout)
    assert [(entry["kind"], entry["name"]) for entry in found] == [
        ("MirrorModule", "postgres"),
        ("FarmModule", "front"),
    ]
    details = terminal.run("status", "front").stdout
    assert "CHECKERS PASSING" in details
    assert "120" in details


def test_a_cluster_without_the_definition_of_farms(terminal: Terminal) -> None:
    error = (1, "", 'error: the server doesn\'t have a resource type "farmmodules"')
    terminal.answers |= {name: error for name in terminal.answers if name.startswith("get farmmodules")}
    assert terminal.run("status").returncode == 0
    assert terminal.run("status", "postgres").returncode == 0
    assert terminal.run("status", "nix").returncode == 3


def test_of_two_kinds_with_one_name_the_valid_one_is_shown(terminal: Terminal) -> None:
    refused = farm_resource()
    refused["status"] = {"conditions": [{"type": "ConfigurationValid", "status": "False"}]}
    terminal.answers["get farmmodules.twinhull.dev postgres"] = (0, json.dumps(refused), "")
    assert json.loads(terminal.run("status", "postgres", "-o", "json").stdout)["primary"] == "node-a"


def test_holding_and_resuming_the_failover_of_a_mirror(terminal: Terminal) -> None:
    for command, known in (("hold", True), ("resume", False)):
        terminal.answers[f"exec pod-a -c twinhull -- twinhullctl {command}"] = (0, '{"state": "done"}', "")
        for pod in ("pod-a", "pod-b"):
            told = json.dumps({"role": "Secondary", "failover_held": known})
            terminal.answers[f"exec {pod} -c twinhull -- twinhullctl status"] = (0, told, "")
        result = terminal.run(command, "postgres", "-o", "json")
        assert result.returncode == 0, result.stderr
        assert json.loads(result.stdout)["order"] == {"state": "done"}


def test_the_other_node_does_not_know_of_the_hold_in_time(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl hold"] = (0, '{"state": "done"}', "")
    result = terminal.run("hold", "postgres", "--timeout", "0.1")
    assert (result.returncode, "does not know of it yet" in result.stderr) == (4, True)


def test_what_is_held_and_what_is_drained(terminal: Terminal) -> None:
    wrong = {
        ("hold", "front"): "kubectl twinhull drain front --node NODE",
        ("resume", "front"): "name the node whose draining ends, with --node",
        ("resume", "postgres", "--node", "node-a"): "leave --node out",
    }
    for words, mend in wrong.items():
        result = terminal.run(*words)
        assert (result.returncode, mend in result.stderr) == (2, True), result.stderr


def test_rolling_out_unprotected_is_asked_for_and_names_the_generation(terminal: Terminal) -> None:
    assert "run this specification already" in terminal.run("roll", "postgres", "--unprotected").stdout
    made = resource()
    made["metadata"]["generation"] = 7
    (rollout,) = (c for c in made["status"]["conditions"] if c["type"] == "UpToDate")
    rollout |= {"status": "False", "message": "waits until both nodes are in sync; still to do: node-a"}
    terminal.answers["get mirrormodules.twinhull.dev postgres"] = (0, json.dumps(made), "")
    terminal.answers["annotate mirrormodules.twinhull.dev postgres"] = (0, "annotated", "")
    asked = terminal.run("roll", "postgres")
    assert (asked.returncode, "waits until both nodes are in sync" in asked.stderr) == (2, True)
    assert terminal.run("roll", "postgres", "--unprotected").returncode == 2
    code, shown = terminal.type("postgre\n", "roll", "postgres", "--unprotected")
    assert (code, "not confirmed" in shown) == (2, True)
    code, shown = terminal.type("postgres\n", "roll", "postgres", "--unprotected")
    assert (code, "it stays down" in shown) == (0, True)
    assert terminal.run("roll", "postgres", "--unprotected", "--yes").returncode == 0
    assert terminal.calls()[-1][-2:] == ["twinhull.dev/roll-unprotected=7", "--overwrite"]
    terminal.answers["annotate mirrormodules.twinhull.dev postgres"] = (1, "", "Error (Forbidden): no")
    assert terminal.run("roll", "postgres", "--unprotected", "--yes").returncode == 5


def test_draining_and_resuming_a_node_of_a_farm(terminal: Terminal) -> None:
    for command in ("drain", "resume"):
        order = f"exec pod-b -c twinhull -- twinhullctl {command}"
        terminal.answers[order] = (0, '{"state": "done"}\n', "")
    result = terminal.run("drain", "front", "--node", "node-b")
    assert (result.returncode, result.stdout) == (0, "node-b takes no new clients of front\n")
    assert terminal.run("resume", "front", "--node", "node-b", "-o", "json").returncode == 0
    assert terminal.run("drain", "front", "--node", "node-z").returncode == 2
    # A mirror has nothing to drain, and a farm nothing to switch over.
    assert terminal.run("drain", "postgres", "--node", "node-b").returncode == 3
    assert terminal.run("switchover", "front").returncode == 3


def test_no_such_module(terminal: Terminal) -> None:
    for command in (["status", "nix"], ["switchover", "nix"]):
        result = terminal.run(*command)
        assert result.returncode == 3
        assert "nix" in result.stderr


def test_a_cluster_that_does_not_answer(terminal: Terminal) -> None:
    terminal.answers = {"get": (1, "", "Unable to connect to the server: timeout")}
    assert terminal.run("status").returncode == 5


def test_a_switchover_waits_until_the_other_node_serves(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl switchover"] = (0, '{"state": "done"}\n', "")
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = said("Primary")
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = said("Primary")
    result = terminal.run("switchover", "postgres", "-o", "json")
    assert result.returncode == 0, result.stderr
    answer = json.loads(result.stdout)
    assert (answer["state"], answer["node"]) == ("done", "node-b")


def test_a_switchover_that_never_gets_ready_times_out(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl switchover"] = (0, '{"state": "done"}\n', "")
    result = terminal.run("switchover", "postgres", "--timeout", "0.1")
    assert result.returncode == 4
    assert "not ready yet" in result.stderr


@pytest.mark.parametrize(
    ("answer", "code", "text"),
    [
        (
            (1, "", "twinhullctl: node-b is not in sync\ncommand terminated with exit code 1\n"),
            1,
            "not in sync",
        ),
        ((1, '{"state": "failed", "message": "cannot unmount"}\n', ""), 1, "cannot unmount"),
        ((1, "", "twinhullctl: switchover is accepted but not done after 5 s; see ..."), 4, "not done after"),
        ((1, "", "twinhullctl: the sidecar does not answer: refused"), 3, "does not answer"),
    ],
)
def test_why_a_switchover_did_not_happen(terminal: Terminal, answer: Answer, code: int, text: str) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl switchover"] = answer
    result = terminal.run("switchover", "postgres", "-o", "json")
    assert result.returncode == code
    assert text in result.stderr
    assert "command terminated" not in result.stderr
    assert json.loads(result.stdout)["code"] == code


def test_a_switchover_to_where_it_is_does_nothing(terminal: Terminal) -> None:
    result = terminal.run("switchover", "postgres", "--to", "node-a")
    assert (result.returncode, result.stdout) == (0, "postgres runs on node-a already\n")
    assert terminal.run("switchover", "postgres", "--to", "node-z").returncode == 2


def test_a_switchover_when_nobody_serves_says_who_is_what(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = said("Waiting")
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = (1, "", "gone")
    result = terminal.run("switchover", "postgres")
    assert result.returncode == 3
    assert "node-a is Waiting" in result.stderr
    assert "node-b is silent" in result.stderr


def test_force_primary_asks_first(terminal: Terminal) -> None:
    result = terminal.run("force-primary", "postgres", "--node", "node-b")
    assert result.returncode == 2
    assert "--yes" in result.stderr
    assert all("force-primary" not in call for call in terminal.calls())


def test_force_primary_goes_to_the_named_node(terminal: Terminal) -> None:
    order = "exec pod-b -c twinhull -- twinhullctl force-primary --discard-peer"
    terminal.answers[order] = (0, '{"state": "done"}\n', "")
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = said("Alone")
    result = terminal.run("force-primary", "postgres", "--node", "node-b", "--discard-peer", "--yes")
    assert (result.returncode, result.stdout) == (0, "postgres is served by node-b\n")
    assert terminal.run("force-primary", "postgres", "--node", "node-z", "--yes").returncode == 2


def order(terminal: Terminal, pod: str, *words: str) -> None:
    """The sidecar in this pod does what it is told."""
    terminal.answers[f"exec {pod} -c twinhull -- twinhullctl {' '.join(words)}"] = (
        0,
        '{"state": "done"}\n',
        "",
    )


def test_stop_returns_when_both_nodes_have_stopped(terminal: Terminal) -> None:
    order(terminal, "pod-a", "stop")
    late = terminal.run("stop", "postgres", "--timeout", "0.1")
    assert late.returncode == 4
    assert "told to stop, but has not yet" in late.stderr
    for pod in ("pod-a", "pod-b"):
        terminal.answers[f"exec {pod} -c twinhull -- twinhullctl status"] = said("Stopped")
    result = terminal.run("stop", "postgres")
    assert (result.returncode, result.stdout) == (
        0,
        "postgres is stopped; `kubectl twinhull start postgres` ends that\n",
    )


def test_stop_names_a_node_that_does_not_answer(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = (1, "", "gone")
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = said("Stopped")
    order(terminal, "pod-b", "stop")
    assert "node-a does not answer and learns it later" in terminal.run("stop", "postgres").stdout


def test_start_returns_when_the_application_is_ready(terminal: Terminal) -> None:
    order(terminal, "pod-a", "start")
    assert terminal.run("start", "postgres").returncode == 0
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = said("Primary", ready=False)
    assert terminal.run("start", "postgres", "--timeout", "0.1").returncode == 4
    order(terminal, "pod-a", "start")
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = said("Up")
    assert terminal.run("start", "front").returncode == 0


def test_no_sidecar_to_give_an_order(terminal: Terminal) -> None:
    for pod in ("pod-a", "pod-b"):
        terminal.answers[f"exec {pod} -c twinhull -- twinhullctl status"] = (1, "", "gone")
    for command in ("start", "stop", "restart", "resync", "switchover"):
        assert terminal.run(command, "postgres").returncode == 3


def test_restart_goes_to_the_node_that_serves(terminal: Terminal) -> None:
    order(terminal, "pod-a", "restart")
    assert terminal.run("restart", "postgres").stdout == "postgres was restarted on node-a\n"
    assert terminal.run("restart", "postgres", "--node", "node-b").returncode == 2


def test_a_farm_is_restarted_on_one_node_after_the_other(terminal: Terminal) -> None:
    for pod in ("pod-a", "pod-b"):
        order(terminal, pod, "restart")
        terminal.answers[f"exec {pod} -c twinhull -- twinhullctl status"] = said("Up")
    assert terminal.run("restart", "front").stdout == "front was restarted on node-a and node-b\n"
    asked = [(call[1], call[6]) for call in terminal.calls() if call[0] == "exec"]
    assert asked == [("pod-a", "restart"), ("pod-a", "status"), ("pod-b", "restart"), ("pod-b", "status")]
    # The second node keeps its clients while the first one is not back.
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = said("Waiting")
    assert terminal.run("restart", "front", "--timeout", "0.1").returncode == 4
    assert [call[1] for call in terminal.calls() if call[0] == "exec"].count("pod-b") == 2


def test_resync_waits_until_both_are_in_sync_when_asked(terminal: Terminal) -> None:
    order(terminal, "pod-a", "resync")
    assert "node-b is compared with node-a" in terminal.run("resync", "postgres").stdout
    status: dict[str, object] = {"role": "Primary", "reason": "serves", "in_sync": False}
    status["sync"] = {"bytes_done": "10", "bytes_total": "20"}
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = (0, json.dumps(status), "")
    assert terminal.run("resync", "postgres", "--wait", "--timeout", "0.1").returncode == 4
    status |= {"in_sync": True}
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = (0, json.dumps(status), "")
    assert "node-b is in sync with node-a" in terminal.run("resync", "postgres", "--wait").stdout


def test_what_force_primary_may_lose_is_said_before_it_is_done(terminal: Terminal) -> None:
    """On a terminal; another answer than the node's name does nothing."""
    order(terminal, "pod-b", "force-primary")
    terminal.answers["exec pod-a -c twinhull -- twinhullctl status"] = (1, "", "gone")
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = said("Waiting")
    code, text = terminal.type("yes\n", "force-primary", "postgres", "--node", "node-b")
    assert code == 2
    for words in ("node-b is Waiting", "node-a does not answer", "will not be there", "nothing was done"):
        assert words in text
    assert all(call[6:7] != ["force-primary"] for call in terminal.calls())
    terminal.answers["exec pod-b -c twinhull -- twinhullctl status"] = said("Alone")
    code, text = terminal.type("node-b\n", "force-primary", "postgres", "--node", "node-b")
    assert (code, "postgres is served by node-b" in text) == (0, True)


def test_exit_codes_are_in_the_help_and_the_reference(terminal: Terminal) -> None:
    shown = terminal.run("--help").stdout
    reference = (ROOT / "docs" / "reference" / "kubectl-twinhull.md").read_text()
    for code, text in EXIT_CODES.items():
        assert f"{code:<4} {text}" in shown
        assert f"| {code} | {text} |" in reference
    for command in subparsers(parser()):
        assert f"`kubectl twinhull {command}" in reference, command


def test_the_plugin_as_one_file(terminal: Terminal, tmp_path: Path) -> None:
    """The command of the reference makes an archive that runs without the checkout."""
    target = tmp_path / "packed" / "kubectl-twinhull"
    target.parent.mkdir()
    words = ("-m", "kubectl_twinhull.command:main", "-p", "/usr/bin/env python3", "-o", str(target))
    subprocess.run([sys.executable, "-m", "zipapp", str(PLUGIN.parent), *words], check=True)
    assert terminal.run("status", plugin=target).stdout == terminal.run("status").stdout


def test_a_comparison_that_goes_on_longer_than_one_waits(terminal: Terminal) -> None:
    terminal.answers["exec pod-a -c twinhull -- twinhullctl verify"] = (0, '{"state": "done"}', "")
    result = terminal.run("verify", "postgres", "--timeout", "0.1")
    assert (result.returncode, "the comparison goes on" in result.stderr) == (4, True)


def test_the_lines_of_what_differs() -> None:
    content = {"volume": "data", "path": "base/1", "what": "content", "offset": "8192", "length": "4096"}
    surplus = {"volume": "data", "path": "x", "what": "surplus", "detail": "only the secondary has it"}
    assert describe({"differences": [{**content, "repaired": True}, surplus]}) == [
        "data/base/1: content at byte 8192, 4096 bytes (repaired)",
        "data/x: surplus: only the secondary has it",
    ]
