"""The pod template of a module: the user's template with the sidecar, the gate and the replicated volumes."""

from __future__ import annotations

import copy

from twinhull_operator.constants import ANNOTATION_CONFIG
from twinhull_operator.module import Module, Object
from twinhull_operator.problem import InvalidModuleError, Problem
from twinhull_operator.render_configmap import configmap_suffix
from twinhull_operator.render_metadata import render_labels
from twinhull_operator.render_secrets import TLS_SUFFIX
from twinhull_operator.render_sidecar import (
    render_install_container,
    render_sidecar_container,
    render_volumes,
)
from twinhull_operator.render_watch import with_commands
from twinhull_operator.settings import Settings
from twinhull_sidecar.config import ModuleConfig, digest
from twinhull_sidecar.workload.probes import ProbeError, rewrite_container

# After the application's own time to stop: draining the stream, flushing both nodes, the peer's start.
HAND_OVER_SECONDS = 60


def render_pod_template(module: Module, config: ModuleConfig, settings: Settings) -> Object:
    """The DaemonSet's pod template. Raises InvalidModuleError for a container that the gate cannot start."""
    metadata = copy.deepcopy(module.template.get("metadata") or {})
    spec = copy.deepcopy(module.template["spec"])
    spec["initContainers"] = [
        render_install_container(settings),
        render_sidecar_container(module, settings),
        *(spec.get("initContainers") or ()),
    ]
    spec["containers"] = [
        _gated(module, index, container) for index, container in enumerate(spec["containers"])
    ]
    spec["volumes"] = [
        *(spec.get("volumes") or ()),
        *render_volumes(module, settings, module.child(configmap_suffix(config)), module.child(TLS_SUFFIX)),
    ]
    spec["affinity"] = {**(spec.get("affinity") or {}), "nodeAffinity": _on_nodes(module)}
    spec["tolerations"] = [*(spec.get("tolerations") or ()), *_tolerations()]
    spec["terminationGracePeriodSeconds"] = module.stop_grace + HAND_OVER_SECONDS
    if settings.image_pull_secrets:
        own = [{"name": name} for name in settings.image_pull_secrets]
        spec["imagePullSecrets"] = [*(spec.get("imagePullSecrets") or ()), *own]
    return {
        "metadata": {
            "labels": {**(metadata.get("labels") or {}), **render_labels(module)},
            "annotations": {
                "kubectl.kubernetes.io/default-container": spec["containers"][0]["name"],
                **(metadata.get("annotations") or {}),
                ANNOTATION_CONFIG: digest(config),
            },
        },
        "spec": spec,
    }


def _gated(module: Module, index: int, container: Object) -> Object:
    field = f"spec.template.spec.containers[{index}]"
    try:
        checked = with_commands(module, container)
        gated = rewrite_container(checked, grace_seconds=module.stop_grace, replicated=module.volumes)
    except ProbeError as error:
        raise InvalidModuleError(Problem(f"{field}.{error.field}", error.message, error.mend)) from error
    gated["volumeMounts"] = [
        {**mount, "mountPropagation": "HostToContainer"} if mount.get("name") in module.volumes else mount
        for mount in gated.get("volumeMounts") or ()
    ]
    return gated


def _on_nodes(module: Module) -> Object:
    # Two terms are alternatives; matchFields takes one value each and does not depend on labels.
    terms = [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]}
        for name in module.node_names
    ]
    return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}


def _tolerations() -> list[Object]:
    """The module's nodes are named by the user: neither a partition nor a control plane's taint keeps pods
    off.
    """
    return [
        {"key": key, "operator": "Exists"}
        for key in (
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "node-role.kubernetes.io/control-plane",
        )
    ]
