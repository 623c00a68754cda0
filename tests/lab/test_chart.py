"""The chart as helm renders it."""

from __future__ import annotations

import json
import subprocess
from typing import Any

import pytest
import yaml

from tests.cluster.binaries import build_host_tools
from tests.cluster.topology import BINARIES, KUBERNETES_VERSION, REPOSITORY
from twinhull_operator.settings import read_settings

CHART = REPOSITORY / "charts" / "twinhull"


@pytest.fixture(scope="module", autouse=True)
def helm() -> None:
    """helm is there."""
    build_host_tools()


def run_helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm on the chart."""
    return subprocess.run([BINARIES / "helm", *arguments], capture_output=True, text=True, check=False)


def render(*settings: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What is installed with these settings, by kind and name."""
    flags = [f"--set={setting}" for setting in settings]
    result = run_helm(
        *("template", "twinhull", str(CHART), "--namespace=system", f"--kube-version={KUBERNETES_VERSION}"),
        *flags,
    )
    assert result.returncode == 0, result.stderr
    documents = [document for document in yaml.safe_load_all(result.stdout) if document]
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


def test_helm_has_no_complaint() -> None:
    result = run_helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize(
    "setting",
    [
        "bogus=1",
        "image.pullPolicy=Sometimes",
        "operator.leaveLostNodeAfter=-1",
        "sidecar.criSocket=relative",
        "certificates.lifetimeDays=0",
        "operator.replicas=3",
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str) -> None:
    arguments = ("template", "t", str(CHART), f"--kube-version={KUBERNETES_VERSION}", f"--set={setting}")
    result = run_helm(*arguments)
    assert result.returncode != 0
    assert setting.split("=", maxsplit=1)[0].rsplit(".", 1)[-1] in result.stderr


def test_the_operator_has_no_privilege_and_leaves_a_lost_node_quickly() -> None:
    spec = render()["Deployment", "twinhull-operator"]["spec"]
    pod = spec["template"]["spec"]
    (container,) = pod["containers"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    seconds = {t["key"]: t.get("tolerationSeconds") for t in pod["tolerations"]}
    assert seconds["node.kubernetes.io/unreachable"] == 5
    assert seconds["node.kubernetes.io/not-ready"] == 5


def test_two_replicas_elect_the_one_that_acts() -> None:
    single, double = render(), render("operator.replicas=2", "console.enabled=true")
    (one,) = single["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]["containers"]
    assert "TWINHULL_LEASE" not in {entry["name"] for entry in one["env"]}
    assert ("Role", "twinhull-election") not in single
    spec = double["Deployment", "twinhull-operator"]["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (2, "RollingUpdate")
    pod = spec["template"]["spec"]
    environment = {entry["name"]: entry.get("value", "") for entry in pod["containers"][0]["env"]}
    election = read_settings(environment | {"TWINHULL_IDENTITY": "a"}).election
    assert election is not None
    assert (election.namespace, election.name, election.identity) == ("system", "twinhull-operator", "a")
    named, new = double["Role", "twinhull-election"]["rules"]
    assert (named["resourceNames"], named["verbs"]) == ([election.name], ["get", "patch"])
    assert new["verbs"] == ["create"]
    # Ready is who serves: a Service must not send anybody to a console that does not listen yet.
    assert one["readinessProbe"]["httpGet"]["port"] == "healthz"
    assert pod["containers"][0]["readinessProbe"]["tcpSocket"]["port"] == "console"
    # They shall not be on one node, and a session stays with one of them.
    assert pod["affinity"]["podAntiAffinity"]
    assert double["Service", "twinhull-console"]["spec"]["sessionAffinity"] == "ClientIP"


def test_rights_are_named_one_by_one_and_certificates_cannot_be_listed_or_deleted() -> None:
    rules = render()["ClusterRole", "system-twinhull"]["rules"]
    for rule in rules:
        assert "*" not in rule["verbs"] + rule["resources"] + rule["apiGroups"]
    (secrets,) = (rule["verbs"] for rule in rules if rule["resources"] == ["secrets"])
    assert secrets == ["get", "create", "patch"]


def test_named_namespaces_get_roles_and_the_cluster_only_what_has_no_namespace() -> None:
    made = render("watchNamespaces={db,web}")
    assert ("Role", "twinhull") in made
    resources = {
        name for rule in made["ClusterRole", "system-twinhull"]["rules"] for name in rule["resources"]
    }
    assert resources == {
        *("nodes", "mirrormodules", "farmmodules", "customresourcedefinitions", "namespaces")
    }
    arguments = made["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]["containers"][0]["args"]
    assert {"--namespace=db", "--namespace=web"} <= set(arguments)


def test_the_pods_images_are_the_charts() -> None:
    made = render("image.repository=example.test/t", "image.tag=v7", "imagePullSecrets={a,b}")
    container = made["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]["containers"][0]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    assert container["image"] == environment["TWINHULL_SIDECAR_IMAGE"] == "example.test/t:v7"
    assert environment["TWINHULL_IMAGE_PULL_SECRETS"] == "a b"
    assert read_settings(environment).lifetimes.leaf.days == 365


MONITORING = (
    "metrics.podMonitor.enabled=true",
    "metrics.alerts.enabled=true",
    "metrics.dashboard.enabled=true",
)


def test_monitoring_is_asked_for_by_name() -> None:
    kinds = {kind for kind, _ in render()}
    assert not kinds & {"PodMonitor", "PrometheusRule", "ConfigMap"}
    made = render(*MONITORING)
    container = made["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]["containers"][0]
    (endpoint,) = made["PodMonitor", "twinhull"]["spec"]["podMetricsEndpoints"]
    assert endpoint["port"] in {port["name"] for port in container["ports"]}
    selector = made["PodMonitor", "twinhull"]["spec"]["selector"]["matchLabels"]
    labels = made["Deployment", "twinhull-operator"]["spec"]["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    (group,) = made["PrometheusRule", "twinhull"]["spec"]["groups"]
    assert "{{ $labels.module }}" in group["rules"][0]["annotations"]["summary"]
    dashboard = json.loads(made["ConfigMap", "twinhull-dashboard"]["data"]["twinhull.json"])
    assert dashboard["uid"] == "twinhull"


def test_the_console_is_asked_for_by_name_and_brings_its_rights() -> None:
    assert ("Service", "twinhull-console") not in render()
    made = render("console.enabled=true", "console.certificateSecret=site", "console.names={ops.test}")
    pod = made["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    environment = {entry["name"]: entry["value"] for entry in container["env"]}
    names = environment["TWINHULL_CONSOLE_NAMES"].split()
    assert {"twinhull-console.system.svc", "ops.test"} <= set(names)
    assert {"name": "console", "containerPort": 8443} in container["ports"]
    assert {"name": "console-certificate", "secret": {"secretName": "site"}} in pod["volumes"]
    (port,) = made["Service", "twinhull-console"]["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "console")
    rights = {
        resource: rule["verbs"]
        for rule in made["ClusterRole", "system-twinhull-console"]["rules"]
        for resource in rule["resources"]
    }
    assert rights == {"tokenreviews": ["create"], "subjectaccessreviews": ["create"]}


def test_only_administrators_may_lose_data_by_force() -> None:
    made = render("console.enabled=true")
    verbs = {
        role: {verb for rule in made["ClusterRole", f"twinhull-{role}"]["rules"] for verb in rule["verbs"]}
        for role in ("viewer", "operator-user", "administrator")
    }
    assert verbs["viewer"] == {"get", "list", "watch"}
    assert verbs["administrator"] - verbs["operator-user"] == {"force-primary"}
    assert {"switchover", "drain", "resync"} <= verbs["operator-user"]


def test_without_metrics_there_is_no_port_and_no_monitor() -> None:
    made = render("metrics.enabled=false", *MONITORING)
    container = made["Deployment", "twinhull-operator"]["spec"]["template"]["spec"]["containers"][0]
    assert [port["name"] for port in container["ports"]] == ["healthz"]
    assert "TWINHULL_METRICS_PORT" not in {entry["name"] for entry in container["env"]}
    assert not {kind for kind, _ in made} & {"PodMonitor", "PrometheusRule", "ConfigMap"}
