"""A real Kubernetes API server on loopback: etcd, kube-apiserver and the garbage collector, but no nodes.

Enough for what the API server itself does: a resource's schema and rules, server-side apply, owner references.
"""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.binaries import NODE_BINARIES, build_node_programs
from tests.cluster.topology import REPOSITORY

START_SECONDS = 90
STOP_SECONDS = 20


class RefusedError(Exception):
    """kubectl failed; the text is what it said."""


class ApiServer:
    """A running API server and the administrator's kubeconfig for it."""

    def __init__(self, kubeconfig: Path) -> None:
        self.kubeconfig = kubeconfig

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl. Raises RefusedError."""
        result = subprocess.run(
            ["kubectl", f"--kubeconfig={self.kubeconfig}", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if result.returncode != 0:
            raise RefusedError(result.stderr.strip() or result.stdout.strip())
        return result.stdout

    def get(self, *arguments: str) -> dict[str, Any]:
        """An object, or a list of objects."""
        found: dict[str, Any] = json.loads(self.kubectl("get", *arguments, "-o", "json"))
        return found

    def names(self, kind: str, namespace: str) -> set[str]:
        """Names of the objects of a kind."""
        return {item["metadata"]["name"] for item in self.get(kind, "-n", namespace)["items"]}

    def apply(self, resource: dict[str, Any]) -> None:
        """Server-side apply with strict validation, as a person would. Raises RefusedError."""
        self.kubectl("apply", "--server-side", "--validate=strict", "-f", "-", stdin=json.dumps(resource))

    def add_node(self, name: str, address: str) -> None:
        """A Node object, as a kubelet would register it."""
        node: dict[str, Any] = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}
        self.kubectl("create", "-f", "-", stdin=json.dumps(node))
        status = {"status": {"addresses": [{"type": "InternalIP", "address": address}]}}
        self.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "-p", json.dumps(status))


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]
    finally:
        for one in sockets:
            one.close()


@contextmanager
def running(directory: Path, *, audited: bool = False) -> Iterator[ApiServer]:
    """Start everything in ``directory``; stop it in any case. ``audited``: each request is a line in ``audit.log``."""
    build_node_programs()
    client, peer, secure, manager = _free_ports(4)
    token = secrets.token_hex(16)
    (directory / "tokens.csv").write_text(f'{token},admin,admin,"system:masters"\n')
    key = directory / "service-accounts.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    kubeconfig = _write_kubeconfig(directory / "kubeconfig", secure, token)
    etcd = f"http://127.0.0.1:{client}"
    commands = {
        "etcd": [
            f"--data-dir={directory / 'data'}",
            f"--listen-client-urls={etcd}",
            f"--advertise-client-urls={etcd}",
            f"--listen-peer-urls=http://127.0.0.1:{peer}",
            "--unsafe-no-fsync",
        ],
        "kube-apiserver": [
            f"--etcd-servers={etcd}",
            "--bind-address=127.0.0.1",
            "--advertise-address=127.0.0.1",
            "--endpoint-reconciler-type=none",
            f"--secure-port={secure}",
            f"--cert-dir={directory / 'certificates'}",
            f"--token-auth-file={directory / 'tokens.csv'}",
            f"--service-account-key-file={key}",
            f"--service-account-signing-key-file={key}",
            "--service-account-issuer=https://lab.test",
            "--service-cluster-ip-range=10.97.0.0/16",
            "--authorization-mode=RBAC",
            "--allow-privileged=true",
            "--disable-admission-plugins=ServiceAccount",
            *(_audit(directory) if audited else ()),
        ],
        "kube-controller-manager": [
            f"--kubeconfig={kubeconfig}",
            f"--secure-port={manager}",
            "--bind-address=127.0.0.1",
            f"--cert-dir={directory / 'certificates'}",
            "--leader-elect=false",
            "--controllers=garbage-collector-controller",
        ],
    }
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for name, flags in commands.items():
            processes.append(_start(directory, name, flags))
            if name == "kube-apiserver":
                _wait_ready(ApiServer(kubeconfig), processes)
        yield ApiServer(kubeconfig)
    finally:
        for process in reversed(processes):
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _audit(directory: Path) -> list[str]:
    policy = {
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [{"level": "Metadata"}],
    }
    (directory / "audit-policy").write_text(json.dumps(policy))
    return [
        f"--audit-policy-file={directory / 'audit-policy'}",
        f"--audit-log-path={directory / 'audit.log'}",
        "--audit-log-maxsize=4096",
    ]


def _start(directory: Path, name: str, flags: list[str]) -> subprocess.Popen[bytes]:
    # The Kubernetes programs are one binary that goes by the name it is called by.
    program = NODE_BINARIES / ("etcd" if name == "etcd" else "kubernetes")
    link = directory / name
    link.symlink_to(program)
    with (directory / f"{name}.log").open("wb") as log:
        return subprocess.Popen([link, *flags], stdout=log, stderr=log, cwd=directory, env=dict(os.environ))


def _wait_ready(server: ApiServer, processes: list[subprocess.Popen[bytes]]) -> None:
    deadline = time.monotonic() + START_SECONDS
    last = ""
    while time.monotonic() < deadline:
        if any(process.poll() is not None for process in processes):
            break
        try:
            if server.kubectl("get", "--raw", "/readyz") == "ok":
                return
        except RefusedError as refused:
            last = str(refused)
        time.sleep(0.3)
    logs = "\n".join(
        path.read_text(errors="replace")[-2000:] for path in server.kubeconfig.parent.glob("*.log")
    )
    raise RuntimeError(f"the API server is not ready: {last}\n{logs}")


def _write_kubeconfig(path: Path, port: int, token: str) -> Path:
    cluster = {"server": f"https://127.0.0.1:{port}", "insecure-skip-tls-verify": True}
    content = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": "lab", "user": {"token": token}}],
    }
    path.write_text(json.dumps(content))
    return path


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One API server for all tests, with twinhull's resource definitions and two nodes."""
    with running(tmp_path_factory.mktemp("api-server")) as server:
        furnish(server)
        yield server


def furnish(server: ApiServer) -> None:
    """Twinhull's resource definitions, and two nodes."""
    server.kubectl("apply", "-f", str(REPOSITORY / "crds"))
    kinds = [f"crd/{path.stem}" for path in sorted((REPOSITORY / "crds").iterdir())]
    server.kubectl("wait", "--for=condition=Established", *kinds, "--timeout=30s")
    server.add_node("node-a", "127.0.0.11")
    server.add_node("node-b", "127.0.0.12")
