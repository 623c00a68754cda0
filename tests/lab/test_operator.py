"""The operator against a real API server, with the chart's rights: objects, status, refusals, restarts,
deletion.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab.api_server import ApiServer, api_server
from tests.lab.operator_process import eventually, grant_rights, operator, start_sidecar
from tests.lab.test_resource_rules import manifest
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.config import parse

__all__ = ["api_server"]


@dataclass
class Bench:
    """An API server with an operator; a namespace for one test."""

    server: ApiServer
    kubeconfig: Path
    namespace: str
    directory: Path

    @property
    def log(self) -> Path:
        """What the operator wrote."""
        return self.directory / "operator.log"

    def apply(self, name: str, **spec: Any) -> None:
        """Create or change a module."""
        made = manifest(name, **spec)
        made["metadata"]["namespace"] = self.namespace
        self.server.apply(made)

    def module(self, name: str) -> dict[str, Any]:
        """The module as the API server has it."""
        return self.server.get("mirrormodule", name, "-n", self.namespace)

    def condition(self, name: str, kind: str) -> tuple[str, str, str]:
        """Status, reason and message of a condition; empty when it is not there yet, or of an older
        specification.
        """
        module = self.module(name)
        if module.get("status", {}).get("observedGeneration") != module["metadata"]["generation"]:
            return "", "", ""
        for entry in module["status"].get("conditions") or []:
            if entry["type"] == kind:
                return entry["status"], entry["reason"], entry["message"]
        return "", "", ""

    def validity(self, name: str) -> tuple[str, str]:
        """Status and message of ConfigurationValid."""
        status, _, message = self.condition(name, "ConfigurationValid")
        return status, message

    def names(self, kind: str) -> set[str]:
        """Names of the namespace's objects of a kind."""
        return self.server.names(kind, self.namespace)

    def daemonset(self, name: str) -> dict[str, Any]:
        """The module's DaemonSet."""
        return self.server.get("daemonset", name, "-n", self.namespace)


@pytest.fixture(scope="module")
def rights(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's kubeconfig."""
    return grant_rights(api_server, tmp_path_factory.mktemp("rights"))


@pytest.fixture
def bench(api_server: ApiServer, rights: Path, tmp_path: Path) -> Iterator[Bench]:
    """A namespace of the test's own, emptied afterwards."""
    namespace = f"t{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", namespace)
    yield Bench(api_server, rights, namespace, tmp_path)
    api_server.kubectl("delete", "mirrormodules", "--all", "-n", namespace, "--timeout=20s")


async def test_a_module_becomes_objects_and_its_sidecars_become_its_status(bench: Bench) -> None:
    bench.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: "pg" in bench.names("daemonsets"))
        module = await eventually(
            lambda: found if (found := bench.module("pg")).get("status", {}).get("conditions") else None
        )
        assert module["metadata"].get("finalizers") is None
        assert module["metadata"].get("annotations") is None
        assert bench.validity("pg") == ("True", "the specification can be carried out")
        assert {"pg-twinhull-tls", "pg-twinhull-operator"} <= bench.names("secrets")
        assert "pg" in bench.names("services")
        (configmap,) = (name for name in bench.names("configmaps") if name.startswith("pg-twinhull-config-"))
        document = bench.server.get("configmap", configmap, "-n", bench.namespace)["data"]["module.json"]
        assert parse(document).links[0].addresses == {"node-a": "127.0.0.11", "node-b": "127.0.0.12"}

        first, a = await start_sidecar(bench.server, module, "node-a", "127.0.0.11", bench.directory)
        second, b = await start_sidecar(bench.server, module, "node-b", "127.0.0.12", bench.directory)
        await a.say(
            role="Primary",
            in_sync=True,
            reason="serves; the peer is up to date",
            application=pb.Application(phase="Running", ready=True),
            virtual_ips=[pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)],
            peer=pb.Peer(node="node-b", heard=True, role="Secondary"),
            events=[pb.Event(time=time.time(), type="Normal", code="Promoted", message="serves")],
        )
        await b.say(role="Secondary", in_sync=True, peer=pb.Peer(node="node-a", heard=True, role="Primary"))
        await eventually(lambda: bench.condition("pg", "Degraded")[0] == "False")
        line = bench.server.kubectl("get", "mirror", "pg", "-n", bench.namespace, "--no-headers")
        assert line.split()[:6] == ["pg", "Primary", "node-a", "node-b", "InSync", "192.168.10.50"]

        # node-a dies: its sidecar is silent, the other one takes over.
        await first.stop(0)
        silent = "SidecarUnreachable"
        await eventually(lambda: bench.condition("pg", "SidecarsReachable")[1] == silent)
        assert bench.module("pg")["status"]["primary"] == "node-a"
        timeline = pb.Timeline(cause="PeerLost", detected=time.time() - 1, promoted=time.time())
        await b.say(
            role="Alone",
            last_failover=timeline,
            application=pb.Application(phase="Running", ready=True),
            events=[pb.Event(time=time.time(), type="Warning", code="PeerLost", message="node-a is silent")],
        )
        await eventually(lambda: bench.module("pg")["status"]["primary"] == "node-b")
        assert bench.module("pg")["status"]["lastFailover"]["cause"] == "PeerLost"
        await second.stop(0)

    def events() -> list[tuple[str, str]]:
        found = bench.server.get("events", "-n", bench.namespace)["items"]
        return sorted((event["reason"], event["message"]) for event in found)

    assert events() == [("PeerLost", "node-b: node-a is silent"), ("Promoted", "node-a: serves")]
    # An operator that starts anew and cannot ask anybody keeps what was known, and repeats no event.
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.condition("pg", "Available")[1] == "PrimaryUnreachable")
        status = bench.module("pg")["status"]
        assert (status["primary"], status["primaryLastKnown"]) == ("node-b", True)
        assert status["nodes"][1]["role"] == "Alone"
        assert len(events()) == 2
    assert "Traceback" not in bench.log.read_text()


async def test_bad_input_is_a_condition_and_leaves_what_runs_as_it_is(bench: Bench) -> None:
    bench.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "True")
        before = bench.daemonset("pg")
        configmaps = bench.names("configmaps")
        template = manifest("pg")["spec"]["template"]
        container = template["spec"]["containers"][0]

        def changed(**fields: Any) -> dict[str, Any]:
            return {"spec": {**template["spec"], "containers": [container | fields]}}

        mount = container["volumeMounts"][0]
        port = {"port": 5432, "targetPort": "nope"}
        for spec, field, mend in (
            (
                {"template": changed(imagee="x")},
                "spec.template.spec.containers",
                "remove or correct the field",
            ),
            (
                {"template": changed(image="")},
                "spec.template.spec.containers[0].image",
                "correct the template",
            ),
            (
                {"template": changed(volumeMounts=[mount, {"name": "nope", "mountPath": "/x"}])},
                "spec.template.spec.containers[0].volumeMounts[1].name",
                "correct the template",
            ),
            (
                {"template": changed(volumeMounts=[])},
                "spec.volumes[0].name",
                "volumeMounts",
            ),
            (
                {"template": changed(volumeMounts=[mount | {"mountPath": "relative"}])},
                "spec.template.spec.containers[0].volumeMounts[0].mountPath",
                "begin it with /",
            ),
            (
                {"virtualIPs": [{"address": "192.168.10.50", "ports": [port]}]},
                "spec.virtualIPs[0].ports[0].targetPort",
                "postgres",
            ),
            ({"virtualIPs": [{"address": "10.0.0.9/0"}]}, "spec.virtualIPs[0].prefix", "1 to 32"),
        ):
            bench.apply("pg", **spec)
            await eventually(lambda: bench.validity("pg")[0] == "False")
            _, message = bench.validity("pg")
            assert field in message, message
            assert mend in message, message
            assert bench.daemonset("pg")["spec"] == before["spec"]
            assert bench.names("configmaps") == configmaps
        bench.apply("pg")
        await eventually(lambda: bench.validity("pg")[0] == "True")
    assert "Traceback" not in bench.log.read_text()


async def test_an_unknown_node_makes_nothing(bench: Bench) -> None:
    bench.apply("pg", nodes=[{"name": "node-a"}, {"name": "node-x"}])
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "False")
        message = bench.validity("pg")[1]
        assert "spec.nodes[1].name: the cluster has no node 'node-x'" in message
        assert bench.names("daemonsets") == set()
        assert bench.names("secrets") == set()
        events = bench.server.get("events", "-n", bench.namespace)["items"]
        assert [event["reason"] for event in events] == ["InvalidSpecification"]


async def test_overlapping_modules_the_older_one_goes_on(bench: Bench) -> None:
    bench.apply("first")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("first")[0] == "True")
        await asyncio.sleep(1.1)  # creation times are in whole seconds
        bench.apply("second")
        await eventually(lambda: bench.validity("second")[0] == "False")
        expected = f"spec.virtualIPs[0].address: 192.168.10.50 belongs to module {bench.namespace}/first"
        assert expected in bench.validity("second")[1]
        assert bench.validity("first")[0] == "True"
        bench.server.kubectl("delete", "mirrormodule", "first", "-n", bench.namespace)
        await eventually(lambda: bench.validity("second")[0] == "True")


async def test_base_ports_differ_and_stay(bench: Bench) -> None:
    for number in range(3):
        bench.apply(f"m{number}", virtualIPs=None)

    def ports() -> list[int]:
        found = [bench.module(f"m{number}").get("status", {}).get("basePort") for number in range(3)]
        return [port for port in found if port is not None]

    with operator(bench.kubeconfig, bench.log) as process:
        await eventually(lambda: len(ports()) == 3)
        process.kill()
    allotted = ports()
    assert len(set(allotted)) == 3
    wipe = json.dumps([{"op": "remove", "path": "/status"}])
    arguments = ("-n", bench.namespace, "--subresource=status", "--type=json", "-p", wipe)
    bench.server.kubectl("patch", "mirrormodule", "m1", *arguments)
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: ports() == allotted)


async def test_an_object_of_somebody_else_is_not_taken_over(bench: Bench) -> None:
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "pg", "namespace": bench.namespace},
        "spec": {"ports": [{"port": 80}], "selector": {"mine": "yes"}},
    }
    bench.server.kubectl("create", "-f", "-", stdin=json.dumps(service))
    bench.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "False")
        assert "Service pg exists already and does not belong to this module" in bench.validity("pg")[1]
        assert bench.names("daemonsets") == set()
    found = bench.server.get("service", "pg", "-n", bench.namespace)
    assert found["spec"]["selector"] == {"mine": "yes"}


async def test_certificates_are_made_once(bench: Bench) -> None:
    bench.apply("pg")

    def keys() -> list[dict[str, str]]:
        return [
            bench.server.get("secret", f"pg-twinhull-{name}", "-n", bench.namespace)["data"]
            for name in ("operator", "tls")
        ]

    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "True")
    made = keys()
    bench.apply("pg", failover={"detectionTimeout": "5s"})
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "True")
        assert keys() == made
        bench.server.kubectl("delete", "secret", "pg-twinhull-tls", "-n", bench.namespace)
        bench.apply("pg", failover={"detectionTimeout": "6s"})
        await eventually(lambda: "pg-twinhull-tls" in bench.names("secrets"))
        # Made again from the same authority and with the same shared key: running sidecars still agree with
        # it.
        assert keys()[0] == made[0]
        assert keys()[1]["key"] == made[1]["key"]


async def test_deletion_is_not_held_up_and_takes_all_objects(bench: Bench) -> None:
    bench.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        await eventually(lambda: bench.validity("pg")[0] == "True")
    # No operator runs any more.
    bench.server.kubectl("delete", "mirrormodule", "pg", "-n", bench.namespace, "--timeout=5s")
    kinds = ("daemonsets", "secrets", "services", "endpointslices")
    await eventually(lambda: not any(bench.names(kind) for kind in kinds))
    await eventually(lambda: not any(name.startswith("pg") for name in bench.names("configmaps")))
