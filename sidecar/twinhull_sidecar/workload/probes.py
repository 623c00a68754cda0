"""Rewrites an application container so that the gate starts it and answers kubelet for it. Pure.

Liveness and startup probes must pass while the application is held. kubelet also counts a startup probe and
an initial delay from the start of the container only, but here the application starts much later, and again
after each switchover. So the liveness probe carries both with it, and the gate counts them from the
application's own start. The gate counts failures too, ends the application at the threshold, and leaves the
restart to the sidecar; kubelet's own threshold is set higher, for the case that the gate does not.

Readiness stays as it is: a held pod belongs to no Service. So do lifecycle hooks.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

GATE_VOLUME = "twinhull-gate"
GATE_DIR = "/twinhull/gate"
GATE = f"{GATE_DIR}/gate"
POD_IP_VARIABLE = "TWINHULL_POD_IP"
#: kubelet's threshold is this much above the original, which the gate acts on.
BACKSTOP_FAILURES = 2
#: Starting the probe program takes time that the original probe did not need.
EXTRA_TIMEOUT_SECONDS = 1
DEFAULT_GRACE_SECONDS = 30

Json = Mapping[str, Any]


class ProbeError(ValueError):
    """A field of the container is wrong; ``field`` is its path in the container, ``mend`` what to write."""

    def __init__(self, field: str, message: str, mend: str) -> None:
        super().__init__(f"{field}: {message}; {mend}")
        self.field = field
        self.message = message
        self.mend = mend


def gate_volume() -> dict[str, Any]:
    """The pod's volume for gate program and socket. In memory: a release must not survive a power cut."""
    return {"name": GATE_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}}


def rewrite_container(
    container: Json,
    *,
    image_command: bool | None = None,
    grace_seconds: int = DEFAULT_GRACE_SECONDS,
    replicated: Collection[str] = (),
) -> dict[str, Any]:
    """The container as it goes into the pod; the one given is not changed.

    ``image_command``: whether the image's own entrypoint is to be used (None: when there is no command).
    ``grace_seconds``: the pod's terminationGracePeriodSeconds. ``replicated``: names of the pod's replicated
    volumes, whose mounts the gate looks after. Raises ProbeError, naming the field.
    """
    result: dict[str, Any] = deepcopy(dict(container))
    name = result.get("name")
    if not isinstance(name, str) or not name:
        raise ProbeError("name", "is missing", "give the container a name")
    command = list(result.get("command") or [])
    by_image = not command if image_command is None else image_command
    if not by_image and not command:
        raise ProbeError("command", "is missing", "give the command, or let the image's be used")
    wrapped = [GATE, "run", "--container", name]
    for mount in result.get("volumeMounts") or []:
        if mount.get("name") in replicated:
            wrapped += ["--volume", str(mount.get("mountPath"))]
    # The arguments stay where they are: the runtime appends them, with kubelet's $(VAR) expanded.
    result["command"] = [*wrapped, "--image-command", "--"] if by_image else [*wrapped, "--", *command]
    _add_mount(result)
    _rewrite_probes(result, name, grace_seconds)
    return result


def _add_mount(container: dict[str, Any]) -> None:
    mounts = list(container.get("volumeMounts") or [])
    for index, mount in enumerate(mounts):
        path = str(mount.get("mountPath", "")).rstrip("/")
        if path == "/twinhull" or path.startswith(f"{GATE_DIR}/") or path == GATE_DIR:
            field = f"volumeMounts[{index}].mountPath"
            raise ProbeError(field, f"{path} hides the gate's directory {GATE_DIR}", "mount it elsewhere")
    # Read-only, so that an application cannot replace the gate; connecting to a socket needs no more.
    mounts.append({"name": GATE_VOLUME, "mountPath": GATE_DIR, "readOnly": True})
    container["volumeMounts"] = mounts


@dataclass(frozen=True)
class _Timing:
    initial_delay: int
    timeout: int
    period: int
    failures: int


def _rewrite_probes(container: dict[str, Any], name: str, grace: int) -> None:
    liveness = container.get("livenessProbe")
    startup = container.get("startupProbe")
    if not liveness and not startup:
        return
    kinds: list[str] = []
    startup_options: list[str] = []
    startup_timeout = 0
    if startup:
        timing = _timing(startup, "startupProbe")
        words = _check(startup, "startupProbe", container)
        kinds.append(words[0])
        startup_timeout = timing.timeout
        window = timing.initial_delay + timing.period * timing.failures
        startup_options = [
            "--startup",
            json.dumps(words, separators=(",", ":")),
            "--startup-window-ms",
            str(window * 1000),
            "--startup-timeout-ms",
            str(timing.timeout * 1000),
        ]
        container["startupProbe"] = _probe(
            startup,
            timing,
            ["none", *_options(name, startup, timing, grace, initial_delay=0), *startup_options],
            timing.timeout,
        )
    if liveness:
        timing = _timing(liveness, "livenessProbe")
        kind, *check = _check(liveness, "livenessProbe", container)
        kinds.append(kind)
        common = _options(name, liveness, timing, grace, initial_delay=timing.initial_delay)
        words = [kind, *common, *startup_options, *check]
        container["livenessProbe"] = _probe(liveness, timing, words, max(timing.timeout, startup_timeout))
    else:
        # kubelet's startup probe never runs again once it has passed, but the application starts again.
        container["livenessProbe"] = deepcopy(container["startupProbe"])
    if any(kind != "exec" for kind in kinds):
        _add_pod_ip(container)


def _options(name: str, probe: Json, timing: _Timing, grace: int, *, initial_delay: int) -> list[str]:
    own_grace = probe.get("terminationGracePeriodSeconds")
    grace_ms = (grace if own_grace is None else int(own_grace)) * 1000
    return [
        *("--container", name),
        *("--timeout-ms", str(timing.timeout * 1000)),
        "--liveness",
        *("--threshold", str(timing.failures)),
        *("--grace-ms", str(grace_ms)),
        *("--initial-delay-ms", str(initial_delay * 1000)),
    ]


def _probe(original: Json, timing: _Timing, words: list[str], timeout: int) -> dict[str, Any]:
    kept = ("periodSeconds", "successThreshold", "terminationGracePeriodSeconds")
    return {
        **{key: original[key] for key in kept if key in original},
        "exec": {"command": [GATE, "probe", *words]},
        "timeoutSeconds": timeout + EXTRA_TIMEOUT_SECONDS,
        "failureThreshold": timing.failures + BACKSTOP_FAILURES,
    }


def _timing(probe: Json, field: str) -> _Timing:
    def number(key: str, default: int, least: int) -> int:
        value = probe.get(key)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ProbeError(f"{field}.{key}", f"{value!r} is no number of at least {least}", "give one")
        # Zero is Kubernetes' way to say "the default".
        return value or default

    return _Timing(
        number("initialDelaySeconds", 0, 0),
        number("timeoutSeconds", 1, 0),
        number("periodSeconds", 10, 0),
        number("failureThreshold", 3, 0),
    )


def _check(probe: Json, field: str, container: Json) -> list[str]:
    """Kind and options of ``gate probe`` for the original check."""
    ports = container.get("ports") or []
    if exec_ := probe.get("exec"):
        command = exec_.get("command")
        if not command:
            raise ProbeError(f"{field}.exec.command", "is empty", "give the command to run")
        return ["exec", "--", *command]
    if http := probe.get("httpGet"):
        words = ["http", "--port", str(_port(http.get("port"), f"{field}.httpGet.port", ports))]
        words += ["--path", http.get("path") or "/"]
        if scheme := http.get("scheme"):
            if str(scheme).upper() not in ("HTTP", "HTTPS"):
                raise ProbeError(f"{field}.httpGet.scheme", f"{scheme!r} is unknown", "write HTTP or HTTPS")
            words += ["--scheme", str(scheme).lower()]
        if host := http.get("host"):
            words += ["--host", str(host)]
        for header in http.get("httpHeaders") or []:
            words += ["--header", f"{header['name']}: {header['value']}"]
        return words
    if tcp := probe.get("tcpSocket"):
        words = ["tcp", "--port", str(_port(tcp.get("port"), f"{field}.tcpSocket.port", ports))]
        return [*words, "--host", str(tcp["host"])] if tcp.get("host") else words
    if health := probe.get("grpc"):
        words = ["grpc", "--port", str(_port(health.get("port"), f"{field}.grpc.port", ports))]
        return [*words, "--service", health["service"]] if health.get("service") else words
    raise ProbeError(field, "has no check", "give it one of exec, httpGet, tcpSocket, grpc")


def _port(port: object, field: str, ports: Sequence[Json]) -> int:
    """A port by number, or by name among the container's ports."""
    number: object = port
    if isinstance(port, str):
        if port.isascii() and port.isdigit():
            number = int(port)
        else:
            named = {entry.get("name"): entry.get("containerPort") for entry in ports}
            if port not in named:
                known = ", ".join(sorted(str(key) for key in named if key)) or "none"
                raise ProbeError(
                    field,
                    f"{port!r} is the name of no port of the container",
                    f"named ports: {known}; use one of them or a number",
                )
            number = named[port]
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 65535:
        raise ProbeError(field, f"{port!r} is no port", "give a number from 1 to 65535, or a port's name")
    return number


def _add_pod_ip(container: dict[str, Any]) -> None:
    """kubelet probes the pod's address, and the application may listen on that one alone."""
    env = list(container.get("env") or [])
    if all(variable.get("name") != POD_IP_VARIABLE for variable in env):
        env.append({"name": POD_IP_VARIABLE, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    container["env"] = env
