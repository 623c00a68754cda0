"""Calls kubectl, finds modules and pods; the exit codes."""

from __future__ import annotations

import json
import subprocess
from typing import Any

DONE, FAILED, USAGE, NOT_FOUND, TIMED_OUT, KUBECTL_FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130
EXIT_CODES = {
    DONE: "done",
    FAILED: "refused or failed; the sidecar's reason is printed",
    USAGE: "wrong usage, or not confirmed",
    NOT_FOUND: "no such module, nobody serves, or no sidecar of it that can be asked",
    TIMED_OUT: "accepted, but not done within --timeout",
    KUBECTL_FAILED: "kubectl failed (cluster not reachable, no permission)",
    INTERRUPTED: "interrupted",
}
CONTAINER = "twinhull"
MODULE_LABEL = "twinhull.dev/module"
MIRRORS, FARMS = "mirrormodules.twinhull.dev", "farmmodules.twinhull.dev"
RESOURCES = (MIRRORS, FARMS)


class PluginError(Exception):
    """The command ends with this text and exit code."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Kubectl:
    """Calls kubectl with the user's own options for cluster and namespace."""

    def __init__(self, options: list[str], timeout: float) -> None:
        self._options = options
        self._timeout = timeout

    def command(self, *arguments: str) -> list[str]:
        """The words of the command line."""
        return ["kubectl", *self._options, *arguments]

    def run(self, *arguments: str, timeout: float | None = None) -> subprocess.CompletedProcess[str]:
        """Run it. Raises PluginError when it cannot be run or hangs."""
        try:
            return subprocess.run(
                self.command(*arguments),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout or self._timeout,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except FileNotFoundError:
            raise PluginError(KUBECTL_FAILED, "kubectl is not in PATH") from None
        except subprocess.TimeoutExpired:
            raise PluginError(
                KUBECTL_FAILED, "the API server does not answer; see twinhullctl on a node"
            ) from None

    def get(self, *arguments: str) -> dict[str, Any]:
        """What `kubectl get` shows, as JSON. Raises PluginError."""
        result = self.run("get", *arguments, "-o", "json")
        if result.returncode != 0:
            text = result.stderr.strip()
            raise PluginError(
                NOT_FOUND if "NotFound" in text else KUBECTL_FAILED, text or "kubectl get failed"
            )
        answer: dict[str, Any] = json.loads(result.stdout)
        return answer


def is_farm(module: dict[str, Any]) -> bool:
    """Whether the module is a FarmModule."""
    return bool(module.get("kind") == "FarmModule")


def condition(module: dict[str, Any], kind: str) -> dict[str, Any]:
    """A condition of the module, or an empty object."""
    found = module.get("status", {}).get("conditions") or []
    return next((entry for entry in found if entry["type"] == kind), {})


def find_modules(kubectl: Kubectl, *options: str) -> list[dict[str, Any]]:
    """The modules of both kinds. Raises PluginError when neither kind can be asked for."""
    found: list[dict[str, Any]] = []
    unknown: list[PluginError] = []
    for resource in RESOURCES:
        try:
            found += kubectl.get(resource, *options)["items"]
        except PluginError as error:
            # A cluster that was upgraded from a release without this kind.
            if "have a resource type" not in str(error):
                raise
            unknown.append(error)
    if len(unknown) == len(RESOURCES):
        raise unknown[0]
    return found


def find_module(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """The module of that name; of two of different kinds the valid one. Raises PluginError."""
    found: list[dict[str, Any]] = []
    missing: list[PluginError] = []
    for resource in RESOURCES:
        try:
            found.append(kubectl.get(resource, name))
        except PluginError as error:
            if error.code != NOT_FOUND and "have a resource type" not in str(error):
                raise
            missing.append(error)
    if not found:
        raise missing[0]
    return max(found, key=lambda module: condition(module, "ConfigurationValid").get("status") == "True")


def find_pods(kubectl: Kubectl, name: str) -> dict[str, str]:
    """Names of the module's pods by node. Raises PluginError when there is none."""
    pods = kubectl.get("pods", "-l", f"{MODULE_LABEL}={name}")["items"]
    found = {
        pod["spec"]["nodeName"]: pod["metadata"]["name"]
        for pod in pods
        if pod["spec"].get("nodeName") and "deletionTimestamp" not in pod["metadata"]
    }
    if not found:
        raise PluginError(NOT_FOUND, f"module {name} has no pods; see `kubectl twinhull status {name}`")
    return found
