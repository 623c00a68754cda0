"""The operator as a process, with the rights that the chart gives it, and sidecars that say what a test
wants.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.cluster.binaries import build_host_tools
from tests.cluster.topology import BINARIES, KUBERNETES_VERSION, REPOSITORY
from tests.lab.api_server import ApiServer
from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.api.server import Server

NAMESPACE = "twinhull-system"
IMAGE = "example.test/twinhull:1"


def grant_rights(server: ApiServer, directory: Path, *values: str) -> Path:
    """A kubeconfig of the service account that the chart makes with these values, with the roles that it gives it."""
    build_host_tools()
    rendered = subprocess.run(
        [
            *(BINARIES / "helm", "template", "twinhull", REPOSITORY / "charts" / "twinhull"),
            *(f"--namespace={NAMESPACE}", f"--kube-version={KUBERNETES_VERSION}"),
            *(f"--set={value}" for value in values),
        ],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    kinds = ("ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding")
    wanted = [document for document in yaml.safe_load_all(rendered) if document and document["kind"] in kinds]
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    for document in (namespace, *wanted):
        server.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    token = server.kubectl("create", "token", "twinhull", "-n", NAMESPACE).strip()
    config = json.loads(server.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": token}
    path = directory / "operator-kubeconfig"
    path.write_text(json.dumps(config))
    return path


@contextmanager
def operator(kubeconfig: Path, log: Path, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run the operator with these variables in its environment; end it in any case."""
    environment = os.environ | {
        "KUBECONFIG": str(kubeconfig),
        "TWINHULL_SIDECAR_IMAGE": IMAGE,
        "PYTHONPATH": f"{REPOSITORY / 'operator'}:{REPOSITORY / 'sidecar'}",
        **settings,
    }
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "twinhull_operator.main", "--verbose"],
            env=environment,
            stdout=output,
            stderr=output,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class Script:
    """A sidecar's control loop that says what the test tells it to say."""

    def __init__(self, node: str) -> None:
        self.now = pb.Status(node=node, role="Waiting", reason="starts")
        self.orders: list[str] = []
        self._count = 0
        self._changed = asyncio.Condition()

    async def say(self, **fields: Any) -> None:
        """Change fields of the status."""
        async with self._changed:
            self.now.MergeFrom(pb.Status(**fields))
            self._count += 1
            self._changed.notify_all()

    def status(self) -> pb.Status:
        """See api.server.Controller."""
        return self.now

    async def wait_changed(self, seen: int) -> int:
        """See api.server.Controller."""
        async with self._changed:
            await self._changed.wait_for(lambda: self._count != seen)
            return self._count

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """See api.server.Controller."""
        self.orders.append(request.action)
        return pb.OrderReply(accepted=True, id=request.id)


async def start_sidecar(
    server: ApiServer, module: dict[str, Any], node: str, address: str, directory: Path
) -> tuple[Server, Script]:
    """The control interface of a node's sidecar, with the certificates that the operator made."""
    metadata = module["metadata"]
    secret = server.get("secret", f"{metadata['name']}-twinhull-tls", "-n", metadata["namespace"])
    own = directory / node
    own.mkdir(exist_ok=True)
    for name, value in secret["data"].items():
        (own / name).write_bytes(base64.b64decode(value))
    script = Script(node)
    interface = Server(script)
    interface.listen_node(address, module["status"]["basePort"], tls.load(own, node, metadata["uid"]))
    await interface.start()
    return interface, script


async def eventually(condition: Callable[[], Any], seconds: float = 30.0) -> Any:
    """What ``condition`` returns as soon as it is true. The event loop goes on meanwhile."""
    deadline = time.monotonic() + seconds
    while not (found := await asyncio.to_thread(condition)):
        if time.monotonic() > deadline:
            raise TimeoutError(f"{condition} did not become true within {seconds:g} s")
        await asyncio.sleep(0.2)
    return found
