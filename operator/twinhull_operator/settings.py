"""What the chart tells the operator through its environment."""

from __future__ import annotations

import datetime
import json
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twinhull_operator.certificates import Lifetimes


class SettingsError(ValueError):
    """An environment variable is missing or wrong; the message names it and the mend."""


@dataclass(frozen=True)
class Election:
    """The Lease by which one of several operators acts, and this operator's name in it."""

    namespace: str
    name: str
    identity: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


@dataclass(frozen=True)
class Settings:
    """How module pods are made.

    ``cri_socket`` is the container runtime's socket on the nodes, asked for an image's own entrypoint.
    ``metrics_port``: where the operator serves metrics; None: nowhere. ``lifetimes``: of the modules' certificates.
    ``election``: None where there is one operator only.
    """

    sidecar_image: str
    image_pull_policy: str = "IfNotPresent"
    image_pull_secrets: tuple[str, ...] = ()
    cri_socket: str = "/run/containerd/containerd.sock"
    sidecar_resources: Mapping[str, Any] = field(
        default_factory=lambda: {"requests": {"cpu": "50m", "memory": "96Mi"}}
    )
    metrics_port: int | None = None
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    election: Election | None = None


_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
SHORTEST_LIFETIME = datetime.timedelta(seconds=10)
LONGEST_LIFETIME = Lifetimes().authority / 3


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Settings from ``TWINHULL_*`` variables. Raises SettingsError."""
    image = environment.get("TWINHULL_SIDECAR_IMAGE", "")
    if not image:
        raise SettingsError("TWINHULL_SIDECAR_IMAGE is not set; set it to the image of the sidecar")
    cri_socket = environment.get("TWINHULL_CRI_SOCKET", Settings.cri_socket)
    if not cri_socket.startswith("/") or cri_socket.rsplit("/", 1)[0] == "":
        raise SettingsError(f"TWINHULL_CRI_SOCKET is {cri_socket!r}; set it to the absolute path of a socket")
    defaults = Settings(sidecar_image=image)
    resources: Any = defaults.sidecar_resources
    if text := environment.get("TWINHULL_SIDECAR_RESOURCES"):
        try:
            resources = json.loads(text)
        except json.JSONDecodeError as error:
            raise SettingsError(
                f"TWINHULL_SIDECAR_RESOURCES is not JSON ({error}); write an object"
            ) from error
        if not isinstance(resources, dict):
            raise SettingsError('TWINHULL_SIDECAR_RESOURCES is not an object; write {"requests": {...}}')
    port = environment.get("TWINHULL_METRICS_PORT", "")
    if port and not (port.isascii() and port.isdecimal() and 0 < int(port) < 65536):
        raise SettingsError(
            f"TWINHULL_METRICS_PORT is {port!r}; set it to a port, 1 to 65535, or leave it out"
        )
    return Settings(
        sidecar_image=image,
        image_pull_policy=environment.get("TWINHULL_IMAGE_PULL_POLICY", defaults.image_pull_policy),
        image_pull_secrets=tuple(environment.get("TWINHULL_IMAGE_PULL_SECRETS", "").split()),
        cri_socket=cri_socket,
        sidecar_resources=resources,
        metrics_port=int(port) if port else None,
        lifetimes=_lifetimes(environment.get("TWINHULL_CERTIFICATE_LIFETIME", "")),
        election=_election(
            environment.get("TWINHULL_LEASE", ""),
            environment.get("TWINHULL_IDENTITY") or socket.gethostname(),
        ),
    )


def _election(lease: str, identity: str) -> Election | None:
    if not lease:
        return None
    namespace, separator, name = lease.partition("/")
    if not (separator and _NAME.fullmatch(namespace) and _NAME.fullmatch(name)):
        raise SettingsError(f"TWINHULL_LEASE is {lease!r}; set it to NAMESPACE/NAME of a Lease")
    return Election(namespace, name, identity)


def _lifetimes(seconds: str) -> Lifetimes:
    if not seconds:
        return Lifetimes()
    if seconds.isascii() and seconds.isdecimal() and len(seconds) < 12:
        leaf = datetime.timedelta(seconds=int(seconds))
        if SHORTEST_LIFETIME <= leaf <= LONGEST_LIFETIME:
            return Lifetimes(leaf=leaf)
    raise SettingsError(
        f"TWINHULL_CERTIFICATE_LIFETIME is {seconds!r}; set it to whole seconds, at least "
        f"{SHORTEST_LIFETIME.total_seconds():.0f} and at most {LONGEST_LIFETIME.total_seconds():.0f}"
    )
