"""Brings a module's objects into the cluster: rendered, tried on the API server, then applied."""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping

from twinhull_operator.certificates import Lifetimes
from twinhull_operator.constants import ANNOTATION_TEMPLATE, LABEL_MANAGED_BY, LABEL_MODULE
from twinhull_operator.kube import (
    CONFIG_MAPS,
    DAEMON_SETS,
    ENDPOINT_SLICES,
    PODS,
    SECRETS,
    SERVICES,
    ApiError,
    Kube,
    Resource,
)
from twinhull_operator.module import Module, Object
from twinhull_operator.problem import InvalidModuleError, Problem
from twinhull_operator.render_configmap import render_configmap
from twinhull_operator.render_daemonset import render_daemonset
from twinhull_operator.render_endpointslice import endpointslice_suffix, render_endpointslices
from twinhull_operator.render_secrets import (
    OPERATOR_SUFFIX,
    TLS_SUFFIX,
    DamagedSecretError,
    read_secret,
    render_operator_secret,
    render_tls_secret,
)
from twinhull_operator.render_service import render_service
from twinhull_operator.settings import Settings
from twinhull_sidecar.config import ModuleConfig

_FIELD_IN_TEXT = re.compile(r"\.(spec\.template\.[A-Za-z0-9_.\[\]=\"-]+)")
_ADDED_CONTAINERS = 2  # the gate's installer and the sidecar stand before the user's init containers


async def apply_module(kube: Kube, module: Module, config: ModuleConfig, settings: Settings) -> str:
    """Apply everything; return the hash of the pod template.

    The DaemonSet is tried first without effect, so that a template which the API server refuses changes
    nothing. Raises InvalidModuleError for such a template or for an object of that name that is not the
    module's, and ApiError when the API server cannot be asked.
    """
    daemonset = render_daemonset(module, config, settings)
    others = [
        (CONFIG_MAPS, render_configmap(module, config)),
        (SERVICES, render_service(module)),
        *((ENDPOINT_SLICES, slice_) for slice_ in render_endpointslices(module)),
    ]
    for resource, body in [(DAEMON_SETS, daemonset), *others]:
        await _check_owner(kube, module, resource, body)
    try:
        await kube.apply(DAEMON_SETS, daemonset, dry_run=True)
    except ApiError as error:
        raise refusal(error) from error
    await ensure_secrets(kube, module, settings.lifetimes)
    for resource, body in others:
        await kube.apply(resource, body)
    await kube.apply(DAEMON_SETS, daemonset)
    await _remove_leftovers(kube, module, config)
    return str(daemonset["spec"]["template"]["metadata"]["annotations"][ANNOTATION_TEMPLATE])


async def ensure_secrets(kube: Kube, module: Module, lifetimes: Lifetimes) -> Mapping[str, bytes]:
    """Create the module's Secrets where they are missing; return the operator's.

    Raises InvalidModuleError when one is there and unusable: replacing it would cut the running sidecars
    apart.
    """
    now = datetime.datetime.now(datetime.UTC)
    try:
        secret = await kube.get(SECRETS, module.namespace, module.child(OPERATOR_SUFFIX))
        if secret is None:
            await kube.create(SECRETS, render_operator_secret(module, now, lifetimes))
            # Read back: another operator may have been quicker, and there must be one authority only.
            secret = await kube.get(SECRETS, module.namespace, module.child(OPERATOR_SUFFIX))
        if secret is None:
            raise ApiError(
                0, "Conflict", f"Secret {module.child(OPERATOR_SUFFIX)} disappeared while it was made"
            )
        _check_secret_owner(module, secret)
        operator = read_secret(secret)
        if await kube.get(SECRETS, module.namespace, module.child(TLS_SUFFIX)) is None:
            await kube.create(SECRETS, render_tls_secret(module, operator, now, lifetimes))
    except DamagedSecretError as error:
        message, _, mend = str(error).partition("; ")
        raise InvalidModuleError(Problem("metadata.name", message, mend or "delete it")) from error
    return operator


async def read_operator_secret(kube: Kube, module: Module) -> Mapping[str, bytes] | None:
    """The operator Secret's data, or None when it is missing or unusable (which :func:`ensure_secrets`
    reports).
    """
    secret = await kube.get(SECRETS, module.namespace, module.child(OPERATOR_SUFFIX))
    if secret is None or not is_owned(module, secret):
        return None
    try:
        return read_secret(secret)
    except DamagedSecretError:
        return None


async def has_daemonset(kube: Kube, module: Module) -> bool:
    """Whether the module's DaemonSet is there, and its own."""
    existing = await kube.get(DAEMON_SETS, module.namespace, module.child())
    return existing is not None and is_owned(module, existing)


async def _check_owner(kube: Kube, module: Module, resource: Resource, body: Object) -> None:
    name = body["metadata"]["name"]
    existing = await kube.get(resource, module.namespace, name)
    if existing is not None and not is_owned(module, existing):
        raise InvalidModuleError(_foreign(body["kind"], name))


def _check_secret_owner(module: Module, secret: Object) -> None:
    if not is_owned(module, secret):
        raise InvalidModuleError(_foreign("Secret", secret["metadata"]["name"]))


def _foreign(kind: str, name: str) -> Problem:
    return Problem(
        "metadata.name",
        f"{kind} {name} exists already and does not belong to this module",
        "rename or delete it, or create the module under another name",
    )


def is_owned(module: Module, existing: Object) -> bool:
    """Whether an object belongs to the module."""
    owners = existing["metadata"].get("ownerReferences") or ()
    return any(owner["uid"] == module.uid for owner in owners)


def refusal(error: ApiError) -> Exception:
    """What the API server's refusal of the DaemonSet means for the module; the error itself if it is no
    refusal.
    """
    if error.causes and error.status in (400, 422):
        return InvalidModuleError(*(_template_problem(field, message) for field, message in error.causes))
    if "field not declared in schema" in error.message or error.status in (400, 422):
        match = _FIELD_IN_TEXT.search(error.message)
        field = match[1].rstrip(".:") if match else "spec.template"
        return InvalidModuleError(Problem(field, error.message, "remove or correct the field"))
    return error


def _template_problem(field: str, message: str) -> Problem:
    """The field as the user wrote it: twinhull's own init containers come before the template's."""
    match = re.match(r"(spec\.template\.spec\.initContainers\[)(\d+)(\].*)", field)
    if match is None:
        return Problem(field, message, "correct the template")
    if int(match[2]) >= _ADDED_CONTAINERS:
        index = int(match[2]) - _ADDED_CONTAINERS
        return Problem(f"{match[1]}{index}{match[3]}", message, "correct the template")
    mend = "let the cluster admit the sidecar's privileged container in this namespace"
    return Problem("metadata.namespace", f"the sidecar is refused: {field}: {message}", mend)


async def _remove_leftovers(kube: Kube, module: Module, config: ModuleConfig) -> None:
    """Delete ConfigMaps that no pod uses any more, and the EndpointSlices of addresses that were removed."""
    selector = f"{LABEL_MODULE}={module.name},{LABEL_MANAGED_BY}=twinhull"
    current = render_configmap(module, config)["metadata"]["name"]
    pods = await kube.list(PODS, module.namespace, f"{LABEL_MODULE}={module.name}")
    used = {current} | {
        source["configMap"]["name"]
        for pod in pods
        for volume in pod["spec"].get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
        if "configMap" in source
    }
    wanted = {module.child(endpointslice_suffix(vip)) for vip in module.virtual_ips}
    for resource, keep in ((CONFIG_MAPS, used), (ENDPOINT_SLICES, wanted)):
        for existing in await kube.list(resource, module.namespace, selector):
            metadata = existing["metadata"]
            if metadata["name"] not in keep and is_owned(module, existing):
                await kube.delete(resource, module.namespace, metadata["name"], metadata["uid"])
