"""Checks of a module's pod template: what would break replication, the gate or the pinning to two nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from twinhull_operator.constants import OWN_PREFIX, SIDECAR_CONTAINER
from twinhull_operator.module import Module, Object
from twinhull_operator.problem import Problem

_SPEC: Final = "spec.template.spec"
_LONGEST_GRACE: Final = 3600
_PINNED: Final = "remove it, the pods run on spec.nodes"
_FORBIDDEN: Final = {
    "nodeName": ("would pin both pods to one node", _PINNED),
    "nodeSelector": ("could keep a pod off its node", _PINNED),
    "hostNetwork": (
        "takes the pod's own address away, to which virtual IPs lead",
        "remove it and use spec.virtualIPs",
    ),
    "hostPID": ("would hide the container's own process tree from the gate", "remove it"),
    "shareProcessNamespace": ("would take process id 1 from the gate", "remove it"),
}


def check_template(module: Module) -> tuple[Problem, ...]:
    """All findings of the template and of what refers to it."""
    return (
        *_forbidden_fields(module),
        *_reserved_names(module),
        *_volumes(module),
        *_mounts(module),
        *_target_ports(module),
    )


def _forbidden_fields(module: Module) -> Iterator[Problem]:
    spec = module.template["spec"]
    for name, (why, mend) in _FORBIDDEN.items():
        if spec.get(name):
            yield Problem(f"{_SPEC}.{name}", why, mend)
    if (spec.get("affinity") or {}).get("nodeAffinity"):
        yield Problem(f"{_SPEC}.affinity.nodeAffinity", "could keep a pod off its node", _PINNED)
    if not 0 <= module.stop_grace <= _LONGEST_GRACE:
        yield Problem(
            f"{_SPEC}.terminationGracePeriodSeconds",
            f"{module.stop_grace} is longer than a hand-over may take",
            f"write at most {_LONGEST_GRACE}",
        )


def _reserved_names(module: Module) -> Iterator[Problem]:
    spec = module.template["spec"]
    for kind in ("initContainers", "containers", "volumes"):
        for index, entry in enumerate(spec.get(kind) or ()):
            name = str(entry.get("name", ""))
            if name == SIDECAR_CONTAINER or name.startswith(OWN_PREFIX):
                yield Problem(
                    f"{_SPEC}.{kind}[{index}].name",
                    f"{name!r} is a name of the sidecar's own",
                    "choose another name",
                )


def _volumes(module: Module) -> Iterator[Problem]:
    mounted = {mount.get("name") for container in module.containers for mount in _mounts_of(container)}
    defined = {volume.get("name"): i for i, volume in enumerate(module.template["spec"].get("volumes") or ())}
    for index, name in enumerate(module.volumes):
        if name in defined:
            yield Problem(
                f"{_SPEC}.volumes[{defined[name]}].name",
                f"{name!r} is a replicated volume, which the operator adds to the pod",
                "remove this entry or give it another name",
            )
        if name not in mounted:
            yield Problem(
                f"spec.volumes[{index}].name",
                f"no container of the template mounts the volume {name!r}",
                f"add {{name: {name}, mountPath: ...}} to a container's volumeMounts, or remove the volume",
            )


def _mounts(module: Module) -> Iterator[Problem]:
    for kind in ("initContainers", "containers"):
        for outer, container in enumerate(module.template["spec"].get(kind) or ()):
            for inner, mount in enumerate(_mounts_of(container)):
                field = f"{_SPEC}.{kind}[{outer}].volumeMounts[{inner}]"
                yield from _mount(module, field, kind, mount)


def _mount(module: Module, field: str, kind: str, mount: Object) -> Iterator[Problem]:
    path = str(mount.get("mountPath", ""))
    if path and not path.startswith("/"):
        yield Problem(f"{field}.mountPath", f"{path!r} is not an absolute path", "begin it with /")
    if mount.get("name") not in module.volumes:
        return
    if kind == "initContainers":
        yield Problem(
            f"{field}.name",
            "init containers run on both nodes, before the replicated files are there",
            "remove the mount and do this work in the container's command",
        )
    for name in ("subPath", "subPathExpr"):
        if mount.get(name):
            yield Problem(
                f"{field}.{name}",
                "is resolved before the replicated files are there",
                "mount the whole volume, or declare one more in spec.volumes",
            )


def _mounts_of(container: Object) -> list[Object]:
    return container.get("volumeMounts") or []


def _target_ports(module: Module) -> Iterator[Problem]:
    known = container_ports(module)
    for outer, vip in enumerate(module.virtual_ips):
        for inner, port in enumerate(vip.ports):
            if isinstance(port.target, str) and (port.target, port.protocol) not in known:
                names = sorted(name for name, protocol in known if protocol == port.protocol)
                yield Problem(
                    f"spec.virtualIPs[{outer}].ports[{inner}].targetPort",
                    f"no container has a {port.protocol} port named {port.target!r}",
                    f"use a number or one of: {', '.join(names) or 'none is named'}",
                )


def container_ports(module: Module) -> dict[tuple[str, str], int]:
    """Number of each named port of the application containers, by name and protocol."""
    return {
        (port["name"], port.get("protocol", "TCP")): int(port["containerPort"])
        for container in module.containers
        for port in container.get("ports") or ()
        if port.get("name") and port.get("containerPort")
    }
