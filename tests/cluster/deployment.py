"""Puts twinhull and a module on the test cluster as a user would: the chart, then a manifest from ``examples/``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import yaml

from tests.cluster import images, kind
from tests.cluster.command import CommandError, run, step, succeeds
from tests.cluster.topology import (
    APP_REPOSITORY,
    CONTROL_PLANE,
    FARM_IP,
    HAPROXY_IMAGE,
    KUBECONFIG,
    NODES,
    POSTGRES_IMAGE,
    REPOSITORY,
    VIRTUAL_IP,
    Node,
)

NAMESPACE = "twinhull-system"
MIRROR, FARM = "MirrorModule", "FarmModule"
_IMAGES = {"/postgres:": POSTGRES_IMAGE, "/haproxy:": HAPROXY_IMAGE}


def chart_is_installed() -> bool:
    """Whether the release is there."""
    return succeeds("helm", "status", "twinhull", f"--kubeconfig={KUBECONFIG}", f"--namespace={NAMESPACE}")


def install_chart() -> None:
    """Builds and loads the image, and installs or upgrades the chart with it; waits for the operator."""
    images.build_twinhull()
    tag = images.release_tag()
    images.load(f"{APP_REPOSITORY}:{tag}")
    with step("install the chart"):
        # Helm leaves a chart's CRDs alone once they are there; the checkout's may be newer.
        kind.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(REPOSITORY / "crds"))
        run(
            "helm", "upgrade", "--install", "twinhull", REPOSITORY / "charts/twinhull",
            f"--kubeconfig={KUBECONFIG}", f"--namespace={NAMESPACE}", "--create-namespace",
            f"--set=image.repository={APP_REPOSITORY}", f"--set-string=image.tag={tag}", "--wait", "--timeout=120s",
        )  # fmt: skip


def uninstall_chart() -> None:
    """Removes the chart and its CRDs; modules must be gone."""
    run("helm", "uninstall", "twinhull", f"--kubeconfig={KUBECONFIG}", f"--namespace={NAMESPACE}",
        "--ignore-not-found", "--wait")  # fmt: skip
    kind.kubectl("delete", "--ignore-not-found", "-f", str(REPOSITORY / "crds"))


def example(name: str, change: Callable[[dict[str, Any]], None] | None = None) -> list[dict[str, Any]]:
    """A manifest of ``examples/`` with the nodes, the address and the image of this cluster in place of its own.

    Args:
        change: called with each module's object for further changes.
    """
    text = (REPOSITORY / "examples" / name).read_text()
    # The control plane first: the module's first primary is then on the node that the demo cuts.
    for placeholder, node in zip(("node-a", "node-b"), NODES, strict=True):
        text = text.replace(placeholder, node.name)
    documents: list[dict[str, Any]] = list(yaml.safe_load_all(text))
    addresses = {
        entry["address"]: str(FARM_IP if document["kind"] == FARM else VIRTUAL_IP)
        for document in documents
        for entry in document.get("spec", {}).get("virtualIPs", ())
    }
    for placeholder, address in addresses.items():
        text = text.replace(placeholder, address)
    documents = list(yaml.safe_load_all(text))
    for document in documents:
        if document["kind"] not in {MIRROR, FARM}:
            continue
        for container in document["spec"]["template"]["spec"]["containers"]:
            for part, image in _IMAGES.items():
                if part in container["image"]:
                    container["image"] = image
        if change is not None:
            change(document)
    return documents


class Module:
    """One module on the cluster, seen through the API server and through each node's own sidecar."""

    def __init__(self, name: str, namespace: str = "default", module_kind: str = MIRROR) -> None:
        self.name = name
        self.namespace = namespace
        self._resource = f"{module_kind.lower()}s.twinhull.dev"

    @classmethod
    def apply(
        cls, documents: list[dict[str, Any]], namespace: str = "default", module_kind: str = MIRROR
    ) -> Module:
        """Applies a manifest and returns the module of that kind in it.

        Raises:
            CommandError: the API server refused it.
        """
        kind.kubectl("apply", f"--namespace={namespace}", "-f", "-", stdin=yaml.safe_dump_all(documents))
        name = next(document["metadata"]["name"] for document in documents if document["kind"] == module_kind)
        return cls(name, namespace, module_kind)

    def delete(self, documents: list[dict[str, Any]], timeout: float = 180) -> None:
        """Deletes what ``apply`` made, and the module's data on both nodes, which a deletion keeps."""
        kind.kubectl("delete", f"--namespace={self.namespace}", "--ignore-not-found", "--wait",
                     f"--timeout={timeout:.0f}s", "-f", "-", stdin=yaml.safe_dump_all(documents))  # fmt: skip
        kind.kubectl("wait", f"--namespace={self.namespace}", "--for=delete", "pod", f"--timeout={timeout:.0f}s",
                     f"--selector=twinhull.dev/module={self.name}")  # fmt: skip
        self.discard_data()

    def discard_data(self) -> None:
        """Removes what a deleted module left on both nodes: a new module would refuse data that is not its own."""
        for node in NODES:
            run("podman", "exec", node.name, "rm", "-rf", "--one-file-system", self.directory)

    def exists(self) -> bool:
        """Whether the resource exists."""
        shown = kind.kubectl(
            "get", self._resource, self.name, f"--namespace={self.namespace}", "--ignore-not-found"
        )
        return bool(shown.strip())

    @property
    def directory(self) -> str:
        """The module's directory on each node."""
        return f"/var/lib/twinhull/{self.namespace}-{self.name}"

    def resource_status(self) -> dict[str, Any]:
        """``.status`` of the resource, as the operator last wrote it."""
        shown = kind.kubectl("get", self._resource, self.name, f"--namespace={self.namespace}", "-o", "json",
                             "--request-timeout=5s")  # fmt: skip
        status: dict[str, Any] = json.loads(shown).get("status", {})
        return status

    def status(self, node: Node) -> dict[str, Any]:
        """What the sidecar on a node says, asked over its local socket: the API server plays no part.

        Raises:
            CommandError: the node has no power, or no sidecar that answers.
        """
        answer: dict[str, Any] = json.loads(self.control(node, "status", "-o", "json"))
        return answer

    def control(self, node: Node, *arguments: str) -> str:
        """``twinhullctl`` in the sidecar of a node, reached through the node's container runtime.

        Raises:
            CommandError: it failed; the message has its words.
        """
        found = run(
            "podman", "exec", node.name, "crictl", "ps", "--quiet", "--state=Running", "--name=^twinhull$",
            f"--label=io.kubernetes.pod.namespace={self.namespace}",
        ).split()  # fmt: skip
        for container in found:
            labels = json.loads(run("podman", "exec", node.name, "crictl", "inspect", container))
            pod = labels["status"]["labels"]["io.kubernetes.pod.name"]
            if pod.rsplit("-", 1)[0] == self.name:
                return run(
                    "podman", "exec", node.name, "crictl", "exec", container, "twinhullctl", *arguments
                )
        raise CommandError(["twinhullctl", *arguments], 1, f"no sidecar of {self.name} runs on {node.name}")

    def serving_node(self) -> Node | None:
        """The node whose sidecar says that it serves; None when no sidecar that answers does."""
        for node in NODES:
            try:
                if self.status(node)["role"] in {"Primary", "Alone"}:
                    return node
            except CommandError:
                continue
        return None

    def wait(
        self, what: str, reached: Callable[[], bool], timeout: float = 120, interval: float = 0.3
    ) -> None:
        """Waits until a condition holds; a sidecar that does not answer yet counts as 'no'.

        Raises:
            TimeoutError: with what each sidecar last said.
        """
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            try:
                if reached():
                    return
            except CommandError:
                pass
            time.sleep(interval)
        raise TimeoutError(f"{self.name}: {what}: not within {timeout:.0f} s\n{self.describe()}")

    def wait_in_sync(self, timeout: float = 180) -> Node:
        """Waits for a serving node with its application ready and a peer in sync; returns that node."""

        def settled() -> bool:
            states = [self.status(node) for node in NODES]
            roles = sorted(state["role"] for state in states)
            serving = next((state for state in states if state["role"] == "Primary"), None)
            return (
                roles == ["Primary", "Secondary"] and serving is not None and bool(serving["application"]["ready"])
                and all(state["in_sync"] for state in states)
            )  # fmt: skip

        self.wait("one Primary with a ready application, one Secondary in sync", settled, timeout)
        node = self.serving_node()
        assert node is not None
        return node

    def wait_both_up(self, timeout: float = 120) -> None:
        """Waits until both nodes of a farm take clients."""
        self.wait(
            "both nodes Up",
            lambda: all(state["role"] == "Up" and 0 < state["farm"]["share"] < 1
                        for state in map(self.status, NODES)),
            timeout,
        )  # fmt: skip

    def describe(self) -> str:
        """What each sidecar says and what its pod is, for the message of a failed test."""
        lines = []
        for node in NODES:
            try:
                state = self.status(node)
                lines.append(f"{node.name}: {state['role']}: {state['reason']} {state.get('problems') or ''}")
            except CommandError as silent:
                lines.append(f"{node.name}: {str(silent).splitlines()[-1]}")
        try:
            lines.append(kind.kubectl("get", "pods", "-A", "-o", "wide", "--request-timeout=5s"))
        except CommandError as frozen:
            lines.append(str(frozen))
        return "\n".join(lines)


def other(node: Node) -> Node:
    """The other node."""
    return next(candidate for candidate in NODES if candidate != node)


def move_to(module: Module, node: Node, timeout: float = 120) -> None:
    """Makes a node the primary by a switchover, unless it is."""
    if module.wait_in_sync(timeout) != node:
        module.control(other(node), "switchover")
        module.wait("switchover", lambda: module.wait_in_sync(timeout) == node, timeout)


HOLDER_OF_API = CONTROL_PLANE
"""The node that the API server and etcd are on: its loss is the case that twinhull exists for."""
