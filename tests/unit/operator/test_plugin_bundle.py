"""``kubectl twinhull support-bundle``: all that a bug report needs, and no secret."""

from __future__ import annotations

import copy
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.unit.operator import samples
from tests.unit.operator.terminal import Terminal, pod, resource
from twinhull_operator.plugin.kubectl_twinhull.redact import REDACTED, Redactor
from twinhull_operator.render_config import render_config
from twinhull_operator.render_configmap import render_configmap
from twinhull_operator.render_daemonset import render_daemonset
from twinhull_operator.render_secrets import read_secret, render_operator_secret, render_tls_secret
from twinhull_sidecar.config import render

SECRETS = {
    "hunter2-in-env": "POSTGRES_PASSWORD",
    "hunter2-plain-env": "GREETING",
    "hunter2-in-argument": "--requirepass=hunter2-in-argument",
    "hunter2-in-command": "/bin/sh -c PGPASSWORD=hunter2-in-command run",
    "hunter2-in-annotation": "example.test/note",
    "hunter2-in-header": "Authorization",
    "hunter2-in-probe": "probe",
}


def secretive() -> dict[str, Any]:
    """The example with something secret in every place where users put it."""
    made = samples.resource()
    made["status"] = resource()["status"]
    container = made["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [
        {"name": "POSTGRES_PASSWORD", "value": "hunter2-in-env"},
        {"name": "GREETING", "value": "hunter2-plain-env"},
    ]
    container["args"] = ["--requirepass=hunter2-in-argument"]
    container["command"] = ["/bin/sh", "-c", "PGPASSWORD=hunter2-in-command run"]
    container["readinessProbe"] = {"exec": {"command": ["check", "--password", "hunter2-in-probe"]}}
    container["startupProbe"] = {
        "httpGet": {"port": 80, "httpHeaders": [{"name": "Authorization", "value": "hunter2-in-header"}]}
    }
    applied = json.dumps(made["spec"])
    made["metadata"]["annotations"] = {
        "kubectl.kubernetes.io/last-applied-configuration": applied,
        "example.test/note": "hunter2-in-annotation",
    }
    return made


@pytest.fixture
def cluster(terminal: Terminal) -> Terminal:
    """A cluster with secrets in objects, logs and events."""
    made = secretive()
    module = samples.module()
    config = render_config(module, samples.NODES, 7400)
    spec = made["spec"]["template"]["spec"]
    daemonset = render_daemonset(module, config, samples.SETTINGS)
    daemonset["spec"]["template"]["spec"]["containers"] = copy.deepcopy(spec["containers"])
    configmap = render_configmap(module, config)
    document = json.loads(render(config))
    document["application"]["containers"][0]["args"] = ["--requirepass=hunter2-in-argument"]
    configmap["data"]["module.json"] = json.dumps(document)
    foreign = {
        "kind": "ConfigMap",
        "metadata": {"name": "foreign"},
        "data": {"app.ini": "hunter2-in-annotation"},
    }
    pods = [pod("node-a", "pod-a"), pod("node-b", "pod-b")]
    for entry in pods:
        entry["spec"] |= copy.deepcopy(spec)
    event = {"reason": "Failed", "message": "cannot run: hunter2-in-argument is wrong"}
    log = '2026-01-01T10:00:00Z {"message": "connects to postgres://app:hunter2@db with hunter2-in-env"}\n'
    key = read_secret(render_operator_secret(module, samples_now()))["ca.key"].decode()
    answers: dict[str, Any] = {
        "get mirrormodules.twinhull.dev postgres": made,
        "get pods --all-namespaces": {
            "items": [{"metadata": {"name": "op", "namespace": "sys"}, "spec": {}}]
        },
        "get pods": {"items": pods},
        "get daemonsets": {"items": [daemonset]},
        "get configmaps": {"items": [configmap, foreign]},
        "get services": {"items": []},
        "get endpointslices": {"items": []},
        "get events": {"items": [event]},
        "get node node-a": samples.NODES["node-a"],
        "version": {"serverVersion": {}},
    }
    missing = terminal.answers["get farmmodules.twinhull.dev postgres"]
    terminal.answers = {prefix: (0, json.dumps(value), "") for prefix, value in answers.items()}
    terminal.answers |= {
        "get farmmodules.twinhull.dev postgres": missing,
        "get mirrormodules.twinhull.dev --all-namespaces": (0, "NAME ROLE\npostgres Primary\n", ""),
        "get farmmodules.twinhull.dev --all-namespaces": (0, "No resources found\n", ""),
        "get node node-b": (1, "", "Unable to connect"),
        "exec pod-a": (0, '{"role": "Primary"}\n', ""),
        "exec pod-b": (1, "", "error dialing backend"),
        "logs pod-a -c twinhull --timestamps --tail=20000 --previous": (
            1,
            "",
            "previous container not found",
        ),
        "logs pod-a -c twinhull": (0, log, ""),
        "logs pod-a -c postgres": (0, "the application says hunter2-in-env\n", ""),
        "logs pod-b": (1, "", "no route to host"),
        "logs op": (0, f"the operator\n{key}\nAuthorization: Bearer hunter2.hunter2\n", ""),
    }
    return terminal


def samples_now() -> Any:
    """Now, with a zone."""
    import datetime

    return datetime.datetime.now(datetime.UTC)


def unpack(path: Path) -> dict[str, str]:
    """The archive's files, without the folder that they are in."""
    with tarfile.open(path) as archive:
        found = {}
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            found[member.name.partition("/")[2]] = file.read().decode()
    return found


def test_all_that_a_report_needs_is_in_it(cluster: Terminal, tmp_path: Path) -> None:
    target = tmp_path / "bundle.tar.gz"
    result = cluster.run("support-bundle", "postgres", "-f", str(target))
    assert (result.returncode, result.stdout) == (0, f"{target}\n"), result.stderr
    assert target.stat().st_mode & 0o777 == 0o600
    files = unpack(target)
    assert set(files) == {
        *("README.txt", "MISSING.txt", "module.json", "status.txt", "version.json"),
        *(f"objects/{kind}.json" for kind in ("pods", "daemonsets", "configmaps", "services", "events")),
        *("objects/endpointslices.json", "operator/pods.json", "operator/op.log"),
        *("objects/mirrormodules.twinhull.dev.txt", "objects/farmmodules.twinhull.dev.txt"),
        *("nodes/node-a/node.json", "nodes/node-a/sidecar-status.json", "nodes/node-a/twinhull.log"),
    }
    assert "protected" in files["status.txt"]
    # What a node that is down could not give is named; that a container never ended before is no lack.
    assert "nodes/node-b/twinhull.log: no route to host" in files["MISSING.txt"]
    assert "previous" not in files["MISSING.txt"]
    # The sidecar's own part of the pod stays readable: it is what is looked for.
    assert "--gate-dir" in files["objects/daemonsets.json"]
    assert "detection_timeout" in files["objects/configmaps.json"]
    assert cluster.run("support-bundle", "postgres", "-f", str(target)).returncode == 1


@pytest.mark.parametrize("more", [[], ["--application"]])
def test_no_secret_is_in_it_and_none_is_asked_for(cluster: Terminal, tmp_path: Path, more: list[str]) -> None:
    target = tmp_path / "bundle.tar.gz"
    assert cluster.run("support-bundle", "postgres", "-f", str(target), *more).returncode == 0
    files = unpack(target)
    for path, text in files.items():
        for word in ("hunter2", "PRIVATE KEY"):
            assert word not in text, path
    assert ("nodes/node-a/postgres.log" in files) == bool(more)
    assert all("secret" not in " ".join(call).lower() for call in cluster.calls())


def test_a_secret_that_comes_by_chance_is_left_out() -> None:
    module = samples.module()
    operator = render_operator_secret(module, samples_now())
    tls = render_tls_secret(module, read_secret(operator), samples_now())
    text = json.dumps(Redactor().object({"items": [operator, tls]}))
    for secret in (operator, tls):
        for name, value in secret["data"].items():
            assert value not in text, name


def test_what_looks_like_a_secret_goes_from_texts() -> None:
    redactor = Redactor()
    for text in (
        "password=abc123x",
        "postgres://user:abc123x@host/db",
        "Authorization: Bearer abc123xabc123x",
        "token eyJhbGciOiJIUzI1.eyJzdWIiOiIxMjM0.abc123xabc123x",
        "-----BEGIN PRIVATE KEY-----\nabc123x\n",
    ):
        assert "abc123x" not in redactor.text(text)
        assert REDACTED in redactor.text(text)
    assert redactor.text("node-a is Primary: serves") == "node-a is Primary: serves"


def test_the_places_of_secrets_are_all_covered() -> None:
    text = json.dumps(Redactor().object(secretive()))
    for word in SECRETS:
        assert word not in text
    # Names stay: that a variable is set may be what matters.
    assert "POSTGRES_PASSWORD" in text
