"""The operator and FarmModules against a real API server, with the chart's rights: objects, status, rollout."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import test_operator
from tests.lab.api_server import ApiServer, api_server
from tests.lab.operator_process import Script, eventually, grant_rights, operator, start_sidecar
from tests.lab.test_farm_rules import CHECKER, manifest
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import parse

__all__ = ["api_server"]
NODES = ("node-a", "node-b")
HELD = [pb.VirtualIP(address="192.168.10.71", interface="eth0", held=True)]


@dataclass
class Bench(test_operator.Bench):
    """The same for farms, with pods that a test makes in the place of the DaemonSet's controller."""

    def apply(self, name: str, **spec: Any) -> None:
        """Create or change a farm."""
        made = manifest(name, **spec)
        made["metadata"]["namespace"] = self.namespace
        self.server.apply(made)

    def module(self, name: str) -> dict[str, Any]:
        """The farm as the API server has it."""
        return self.server.get("farmmodule", name, "-n", self.namespace)

    def template_hash(self, name: str) -> str:
        """The hash of the DaemonSet's pod template."""
        annotations = self.daemonset(name)["spec"]["template"]["metadata"]["annotations"]
        return str(annotations["twinhull.dev/template-hash"])

    def make_pod(self, name: str, node: str) -> None:
        """A running pod of the DaemonSet as it is now, on this node."""
        pod_name = f"{name}-{node}-{time.monotonic_ns()}"
        metadata = {
            "name": pod_name,
            "namespace": self.namespace,
            "labels": {"twinhull.dev/module": name},
            "annotations": {"twinhull.dev/template-hash": self.template_hash(name)},
        }
        container = {"name": "twinhull", "image": "x"}
        spec = {"nodeName": node, "containers": [container], "terminationGracePeriodSeconds": 0}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
        self.server.kubectl("create", "-f", "-", stdin=json.dumps(pod))
        state = {"name": "twinhull", "image": "x", "imageID": "x", "ready": True, "restartCount": 0}
        status = {"status": {"containerStatuses": [state | {"state": {"running": {}}}]}}
        self.server.kubectl(
            *("patch", "pod", pod_name, "-n", self.namespace, "--subresource=status"),
            *("--type=merge", "-p", json.dumps(status)),
        )

    def pods(self) -> list[str]:
        """The nodes on which there is a pod."""
        return sorted(
            pod["spec"]["nodeName"] for pod in self.server.get("pods", "-n", self.namespace)["items"]
        )


@pytest.fixture(scope="module")
def rights(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's kubeconfig."""
    return grant_rights(api_server, tmp_path_factory.mktemp("rights"))


@pytest.fixture
def bench(api_server: ApiServer, rights: Path, tmp_path: Path) -> Iterator[Bench]:
    """A namespace of the test's own, emptied afterwards."""
    namespace = f"f{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", namespace)
    yield Bench(api_server, rights, namespace, tmp_path)
    kinds = "mirrormodules,farmmodules"
    api_server.kubectl("delete", kinds, "--all", "-n", namespace, "--timeout=20s")


async def say(script: Script, role: str, **farm: Any) -> None:
    """A sidecar says its role and its farm, whole."""
    script.now.ClearField("farm")
    script.now.ClearField("virtual_ips")
    peer = "node-b" if script.now.node == "node-a" else "node-a"
    await script.say(
        role=role,
        reason=f"is {role}",
        farm=pb.Farm(**farm),
        virtual_ips=HELD,
        peer=pb.Peer(node=peer, heard=True, role="Up"),
    )


async def test_a_farm_becomes_objects_and_its_sidecars_become_its_status(bench: Bench) -> None:
    bench.apply("front")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("front")[0] == "True")
        assert bench.names("daemonsets") == {"front"}
        (owner,) = bench.daemonset("front")["metadata"]["ownerReferences"]
        assert owner["kind"] == "FarmModule"
        (configmap,) = (n for n in bench.names("configmaps") if n.startswith("front-twinhull-config-"))
        data = bench.server.get("configmap", configmap, "-n", bench.namespace)["data"]
        config = parse(data["module.json"])
        assert (config.kind, config.volumes) == ("FarmModule", ())
        assert config.farm is not None
        assert [(c.name, c.kind, c.port) for c in config.farm.checkers] == [("haproxy", "http", 8404)]
        module = bench.module("front")
        first, a = await start_sidecar(bench.server, module, "node-a", "127.0.0.11", bench.directory)
        second, b = await start_sidecar(bench.server, module, "node-b", "127.0.0.12", bench.directory)
        try:
            await say(a, "Up", share=0.5, announcing=True, connections=3)
            await say(b, "Up", share=0.5)
            await eventually(lambda: bench.condition("front", "Degraded")[0] == "False")
            line = bench.server.kubectl("get", "farm", "front", "-n", bench.namespace, "--no-headers")
            assert line.split()[:6] == ["front", "2/2", "node-a", "node-a=50%", "node-b=50%", "192.168.10.71"]
            await first.stop(0)
            event = pb.Event(time=time.time(), type="Warning", code="PeerLost", message="node-a is silent")
            b.now.peer.heard = False
            await b.say(farm=pb.Farm(share=1.0, announcing=True), events=[event])
            await eventually(lambda: bench.module("front")["status"]["announcer"] == "node-b")
            await eventually(lambda: bench.condition("front", "Degraded")[1] == "SidecarUnreachable")
            assert bench.module("front")["status"]["up"] == "1/2"
            assert bench.condition("front", "Available")[:2] == ("True", "NodeUp")
            (event_seen,) = bench.server.get("events", "-n", bench.namespace)["items"]
            assert event_seen["involvedObject"]["kind"] == "FarmModule"
        finally:
            await first.stop(0)
            await second.stop(0)
    bench.server.kubectl("delete", "farmmodule", "front", "-n", bench.namespace, "--timeout=5s")
    await eventually(lambda: not bench.names("daemonsets") and not bench.names("services"))
    assert "Traceback" not in bench.log.read_text()


async def test_a_changed_farm_is_rolled_out_node_by_node(bench: Bench) -> None:
    bench.apply("front")
    with operator(bench.kubeconfig, bench.log) as process:
        await eventually(lambda: bench.validity("front")[0] == "True")
        module = bench.module("front")
        for node in NODES:
            bench.make_pod("front", node)
        servers, scripts = [], {}
        for node, address in zip(NODES, ("127.0.0.11", "127.0.0.12"), strict=True):
            server, scripts[node] = await start_sidecar(bench.server, module, node, address, bench.directory)
            servers.append(server)
        try:
            await say(scripts["node-a"], "Up", share=0.5, announcing=True, connections=5)
            await say(scripts["node-b"], "Up", share=0.5, connections=4)
            await eventually(lambda: bench.condition("front", "UpToDate")[0] == "True")
            bench.apply("front", weights={"node-a": 2})
            await eventually(lambda: "drain" in scripts["node-b"].orders)
            assert bench.module("front")["status"]["rolloutDrain"]["node"] == "node-b"
            await say(scripts["node-b"], "Draining", draining=True, connections=4)
            await eventually(lambda: "4 connections left" in bench.condition("front", "UpToDate")[2])
            assert bench.pods() == ["node-a", "node-b"]
            # The operator dies in the middle.
            process.kill()
            process.wait()
            with operator(bench.kubeconfig, bench.log):
                await asyncio.sleep(2)
                assert bench.pods() == ["node-a", "node-b"]
                await say(scripts["node-b"], "Draining", draining=True)
                await eventually(lambda: bench.pods() == ["node-a"])
                assert scripts["node-a"].orders == []
                bench.make_pod("front", "node-b")
                await eventually(lambda: "resume" in scripts["node-b"].orders)
                assert scripts["node-a"].orders == []
                await say(scripts["node-b"], "Up", share=1 / 3)
                await eventually(lambda: "drain" in scripts["node-a"].orders)
                await say(scripts["node-a"], "Draining", draining=True)
                await eventually(lambda: bench.pods() == ["node-b"])
                bench.make_pod("front", "node-a")
                await eventually(lambda: "resume" in scripts["node-a"].orders)
                await say(scripts["node-a"], "Up", share=2 / 3)
                await say(scripts["node-b"], "Up", share=1 / 3, announcing=True)
                await eventually(lambda: bench.condition("front", "UpToDate")[0] == "True")
                await eventually(lambda: "rolloutDrain" not in bench.module("front")["status"], 60)
        finally:
            for server in servers:
                await server.stop(0)
    assert "Traceback" not in bench.log.read_text()


async def test_bad_input_is_a_condition_and_leaves_what_runs_as_it_is(bench: Bench) -> None:
    bench.apply("front")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("front")[0] == "True")
        before = bench.daemonset("front")
        template = manifest()["spec"]["template"]
        container = template["spec"]["containers"][0]
        probe = {"readinessProbe": {"httpGet": {"port": 80, "portt": 1}}}
        strange = {"spec": {**template["spec"], "containers": [container | probe]}}
        port = {"port": 80, "targetPort": "nope"}
        for spec, field, mend in (
            ({"checkers": [CHECKER | {"port": "nope"}]}, "spec.checkers[0].port", "health, postgres"),
            (
                {"virtualIPs": [{"address": "192.168.10.71", "ports": [port]}]},
                "spec.virtualIPs[0].ports[0].targetPort",
                "health, postgres",
            ),
            ({"template": strange, "checkers": None}, "spec.template.spec.containers", "remove or correct"),
        ):
            bench.apply("front", **spec)
            await eventually(lambda: bench.validity("front")[0] == "False")
            _, message = bench.validity("front")
            assert field in message, message
            assert mend in message, message
            assert bench.daemonset("front")["spec"] == before["spec"]
        bench.apply("front")
        await eventually(lambda: bench.validity("front")[0] == "True")
    assert "Traceback" not in bench.log.read_text()


async def test_a_mirror_and_a_farm_of_one_name_or_address(bench: Bench) -> None:
    mirror = test_operator.Bench(bench.server, bench.kubeconfig, bench.namespace, bench.directory)
    mirror.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: mirror.validity("pg")[0] == "True")
        await asyncio.sleep(1.1)  # creation times are in whole seconds
        port = {"port": 80, "targetPort": "postgres"}
        bench.apply("pg")
        bench.apply("front", virtualIPs=[{"address": "192.168.10.50", "ports": [port]}])
        await eventually(lambda: bench.validity("pg")[0] == "False")
        assert f"MirrorModule {bench.namespace}/pg has this name" in bench.validity("pg")[1]
        await eventually(lambda: bench.validity("front")[0] == "False")
        assert f"192.168.10.50 belongs to module {bench.namespace}/pg" in bench.validity("front")[1]
        assert mirror.validity("pg")[0] == "True"
        (owner,) = bench.daemonset("pg")["metadata"]["ownerReferences"]
        assert owner["kind"] == "MirrorModule"
        bench.server.kubectl("delete", "mirrormodule", "pg", "-n", bench.namespace)
        await eventually(lambda: bench.validity("front")[0] == "True")
        await eventually(lambda: bench.validity("pg")[0] == "True", 60)
        ports = [bench.module(name)["status"]["basePort"] for name in ("front", "pg")]
        assert len(set(ports)) == 2
    assert "Traceback" not in bench.log.read_text()
