"""The DaemonSet and its pod template."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.unit.operator.samples import NODES, SETTINGS, module, resource, with_container, with_pod
from twinhull_operator.module import Module, read_module
from twinhull_operator.problem import InvalidModuleError
from twinhull_operator.render_config import render_config
from twinhull_operator.render_daemonset import render_daemonset


def daemonset(made: Module | None = None) -> dict[str, Any]:
    """The DaemonSet of a module."""
    chosen = made or module()
    return render_daemonset(chosen, render_config(chosen, NODES, 7400), SETTINGS)


def pod(made: Module | None = None) -> dict[str, Any]:
    """Its pod specification."""
    found: dict[str, Any] = daemonset(made)["spec"]["template"]["spec"]
    return found


def named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The entry of that name."""
    (found,) = (entry for entry in entries if entry["name"] == name)
    return found


def test_pods_are_replaced_by_the_rollout_only_and_die_with_the_module() -> None:
    found = daemonset()
    assert found["spec"]["updateStrategy"] == {"type": "OnDelete"}
    (owner,) = found["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["uid"], owner["blockOwnerDeletion"]) == ("MirrorModule", module().uid, False)
    selector = found["spec"]["selector"]["matchLabels"]
    assert selector.items() <= found["spec"]["template"]["metadata"]["labels"].items()


def test_one_pod_on_each_of_the_two_nodes_whatever_their_labels() -> None:
    terms = pod()["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert [term["matchFields"][0]["values"] for term in terms["nodeSelectorTerms"]] == [
        ["node-a"],
        ["node-b"],
    ]
    assert {t["key"] for t in pod()["tolerations"]} == {
        "node.kubernetes.io/not-ready",
        "node.kubernetes.io/unreachable",
        "node-role.kubernetes.io/control-plane",
    }
    # No limit in time and all effects: a partition never evicts a pod.
    assert all(t.keys() == {"key", "operator"} for t in pod()["tolerations"])


def test_the_users_affinity_and_tolerations_stay() -> None:
    own = {"key": "dedicated", "operator": "Exists"}
    found = pod(with_pod(tolerations=[own], affinity={"podAffinity": {"x": 1}}))
    assert own in found["tolerations"]
    assert found["affinity"]["podAffinity"] == {"x": 1}


def test_the_sidecar_is_native_privileged_and_comes_before_the_users_init_containers() -> None:
    found = pod(with_pod(initContainers=[{"name": "mine", "image": "x"}]))["initContainers"]
    assert [c["name"] for c in found] == ["twinhull-install-gate", "twinhull", "mine"]
    sidecar = found[1]
    assert sidecar["restartPolicy"] == "Always"
    assert sidecar["securityContext"]["privileged"] is True
    assert sidecar["startupProbe"]["exec"]["command"] == ["twinhull-sidecar", "ready"]
    assert "privileged" not in found[0]["securityContext"]


def test_the_sidecar_sees_the_node_and_its_mounts_reach_the_application() -> None:
    found = pod()
    mounts = {m["name"]: m for m in named(found["initContainers"], "twinhull")["volumeMounts"]}
    base = mounts["twinhull-base"]
    assert base["mountPath"] == "/var/lib/twinhull/db-postgres"
    assert base["mountPropagation"] == "Bidirectional"
    assert mounts["twinhull-proc"]["mountPath"] == "/host/proc"
    assert named(found["volumes"], "data")["hostPath"]["path"] == "/var/lib/twinhull/db-postgres/mnt/data"
    (mount,) = (m for m in found["containers"][0]["volumeMounts"] if m["name"] == "data")
    assert mount["mountPropagation"] == "HostToContainer"


def test_the_sidecars_flags() -> None:
    arguments = named(pod()["initContainers"], "twinhull")["args"]
    flags = dict(zip(arguments[::2], arguments[1::2], strict=True))
    assert flags == {
        "--config": "/etc/twinhull/module.json",
        "--node": "$(NODE_NAME)",
        "--tls-dir": "/etc/twinhull/tls",
        "--netns": "/host/proc/1/ns/net",
        "--pod-ip": "$(POD_IP)",
        "--gate-dir": "/twinhull/gate",
        "--cri-socket": "/run/containerd/containerd.sock",
        "--pod-name": "$(POD_NAME)",
        "--pod-namespace": "$(POD_NAMESPACE)",
        "--pod-uid": "$(POD_UID)",
    }


def test_configuration_and_keys_are_one_volume_without_the_operators_own() -> None:
    sources = named(pod()["volumes"], "twinhull-config")["projected"]["sources"]
    paths = [item["path"] for source in sources for kind in source.values() for item in kind["items"]]
    assert sorted(paths) == [
        "module.json",
        "tls/ca.crt",
        "tls/key",
        "tls/node-a.crt",
        "tls/node-a.key",
        "tls/node-b.crt",
        "tls/node-b.key",
    ]


def test_the_gate_starts_the_application_and_answers_its_liveness_probe() -> None:
    container = pod()["containers"][0]
    assert container["command"][:4] == ["/twinhull/gate/gate", "run", "--container", "postgres"]
    assert container["livenessProbe"]["exec"]["command"][0] == "/twinhull/gate/gate"
    assert container["readinessProbe"]["exec"]["command"][0] == "pg_isready"
    assert named(pod()["volumes"], "twinhull-gate")["emptyDir"]["medium"] == "Memory"


def test_a_probe_that_cannot_be_rewritten_names_its_field() -> None:
    with pytest.raises(InvalidModuleError) as caught:
        daemonset(with_container(livenessProbe={"httpGet": {"port": "nope"}}))
    (problem,) = caught.value.problems
    assert problem.field == "spec.template.spec.containers[0].livenessProbe.httpGet.port"
    assert "postgres" in problem.mend


def test_the_pod_gets_time_to_hand_over_after_the_application_stopped() -> None:
    assert pod()["terminationGracePeriodSeconds"] == 60 + 60
    assert pod(with_pod(terminationGracePeriodSeconds=0))["terminationGracePeriodSeconds"] == 60


def test_the_template_hash_changes_with_the_pod_and_only_with_it() -> None:
    def value(made: Module) -> str:
        return str(
            daemonset(made)["spec"]["template"]["metadata"]["annotations"]["twinhull.dev/template-hash"]
        )

    assert value(module()) == value(module())
    assert value(module()) != value(with_container(image="other"))
    assert value(module()) != value(module(failover={"detectionTimeout": "4s"}))


def test_the_users_template_is_not_changed() -> None:
    made = resource()
    before = copy.deepcopy(made)
    daemonset(read_module(made))
    assert made == before


def test_the_users_labels_stay_but_cannot_take_ours() -> None:
    made = resource()
    made["spec"]["template"]["metadata"] = {"labels": {"team": "a", "twinhull.dev/module": "other"}}
    labels = daemonset(read_module(made))["spec"]["template"]["metadata"]["labels"]
    assert (labels["team"], labels["twinhull.dev/module"]) == ("a", "postgres")
