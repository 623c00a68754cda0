"""The parts of a module's pod that are twinhull's own: sidecar, installer of the gate, and their volumes."""

from __future__ import annotations

from pathlib import PurePosixPath

from twinhull_operator.constants import (
    CONFIG_DIRECTORY,
    CONFIG_FILE,
    HOST_PROC,
    INSTALL_CONTAINER,
    SIDECAR_CONTAINER,
    VOLUME_BASE,
    VOLUME_CONFIG,
    VOLUME_CRI,
    VOLUME_PROC,
)
from twinhull_operator.module import Module, Object
from twinhull_operator.render_witness import render_fencing_sources, render_witness_sources
from twinhull_operator.settings import Settings
from twinhull_sidecar.workload.probes import GATE_DIR, GATE_VOLUME, gate_volume

_START_SECONDS = 2
_START_ATTEMPTS = 90


def render_install_container(settings: Settings) -> Object:
    """The init container that puts the gate's binary into the pod."""
    return {
        "name": INSTALL_CONTAINER,
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.image_pull_policy,
        "command": ["twinhull-sidecar", "install-gate", GATE_DIR],
        "volumeMounts": [_gate_mount()],
        "resources": dict(settings.sidecar_resources),
        "securityContext": {
            **_root(),
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def render_sidecar_container(module: Module, settings: Settings) -> Object:
    """The native sidecar: the pod's only privileged container.

    It outlives the application's containers when the pod ends, so it can hand over in order.
    """
    run_as = {"NODE_NAME": "spec.nodeName", "POD_IP": "status.podIP", "POD_UID": "metadata.uid"}
    run_as |= {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace"}
    return {
        "name": SIDECAR_CONTAINER,
        "image": settings.sidecar_image,
        "imagePullPolicy": settings.image_pull_policy,
        "restartPolicy": "Always",
        "command": ["twinhull-sidecar", "run"],
        "args": [
            *("--config", f"{CONFIG_DIRECTORY}/{CONFIG_FILE}"),
            *("--node", "$(NODE_NAME)"),
            *("--tls-dir", f"{CONFIG_DIRECTORY}/tls"),
            *("--netns", f"{HOST_PROC}/1/ns/net"),
            *("--pod-ip", "$(POD_IP)"),
            *("--gate-dir", GATE_DIR),
            *("--cri-socket", settings.cri_socket),
            *("--pod-name", "$(POD_NAME)"),
            *("--pod-namespace", "$(POD_NAMESPACE)"),
            *("--pod-uid", "$(POD_UID)"),
        ],
        "env": [
            {"name": name, "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": path}}}
            for name, path in run_as.items()
        ],
        "startupProbe": {
            "exec": {"command": ["twinhull-sidecar", "ready"]},
            "periodSeconds": _START_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": _START_ATTEMPTS,
        },
        "securityContext": {**_root(), "privileged": True},
        "resources": dict(settings.sidecar_resources),
        "volumeMounts": [
            {"name": VOLUME_CONFIG, "mountPath": CONFIG_DIRECTORY, "readOnly": True},
            {"name": VOLUME_PROC, "mountPath": HOST_PROC},
            # The mirror's mounts below it are made by the sidecar and must reach the node and the
            # application.
            {"name": VOLUME_BASE, "mountPath": module.base_dir, "mountPropagation": "Bidirectional"},
            {"name": VOLUME_CRI, "mountPath": _cri_directory(settings)},
            _gate_mount(),
        ],
    }


def render_volumes(module: Module, settings: Settings, configmap: str, secret: str) -> list[Object]:
    """The volumes of the sidecar, and one per replicated volume for the application."""
    tls_files = ["ca.crt", "key", *(f"{node}.{end}" for node in module.node_names for end in ("crt", "key"))]
    return [
        {
            # One projected volume: a Secret cannot be mounted inside a read-only ConfigMap volume.
            "name": VOLUME_CONFIG,
            "projected": {
                "defaultMode": 0o400,
                "sources": [
                    {"configMap": {"name": configmap, "items": [{"key": CONFIG_FILE, "path": CONFIG_FILE}]}},
                    {
                        "secret": {
                            "name": secret,
                            "items": [{"key": name, "path": f"tls/{name}"} for name in tls_files],
                        }
                    },
                    *render_witness_sources(module),
                    *render_fencing_sources(module),
                ],
            },
        },
        {"name": VOLUME_PROC, "hostPath": {"path": "/proc", "type": "Directory"}},
        {"name": VOLUME_BASE, "hostPath": {"path": module.base_dir, "type": "DirectoryOrCreate"}},
        {"name": VOLUME_CRI, "hostPath": {"path": _cri_directory(settings), "type": "DirectoryOrCreate"}},
        gate_volume(),
        *(
            {"name": name, "hostPath": {"path": f"{module.base_dir}/mnt/{name}", "type": "DirectoryOrCreate"}}
            for name in module.volumes
        ),
    ]


def _root() -> Object:
    # Said for these containers alone, so that a runAsNonRoot of the template's pod goes on to hold for the
    # others.
    return {"runAsUser": 0, "runAsGroup": 0, "runAsNonRoot": False}


def _gate_mount() -> Object:
    return {"name": GATE_VOLUME, "mountPath": GATE_DIR}


def _cri_directory(settings: Settings) -> str:
    return str(PurePosixPath(settings.cri_socket).parent)
