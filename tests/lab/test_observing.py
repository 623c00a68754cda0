"""What an administrator sees, against a real API server: the metrics page, `kubectl twinhull`, the support bundle."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster.topology import BINARIES, REPOSITORY
from tests.lab.api_server import ApiServer, api_server
from tests.lab.operator_process import eventually, grant_rights, operator, start_sidecar
from tests.lab.test_operator import Bench
from twinhull_operator.render_secrets import decode_secret
from twinhull_sidecar.api import sidecar_pb2 as pb

__all__ = ["api_server"]

PLUGIN = REPOSITORY / "operator/twinhull_operator/plugin/kubectl-twinhull"


@pytest.fixture(scope="module")
def rights(api_server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator's kubeconfig, with the chart's rights."""
    return grant_rights(api_server, tmp_path_factory.mktemp("rights"))


@pytest.fixture
def bench(api_server: ApiServer, rights: Path, tmp_path: Path) -> Iterator[Bench]:
    """A namespace of the test's own."""
    namespace = f"t{time.monotonic_ns()}"
    api_server.kubectl("create", "namespace", namespace)
    yield Bench(api_server, rights, namespace, tmp_path)
    api_server.kubectl("delete", "mirrormodules", "--all", "-n", namespace, "--timeout=20s")


def plugin(bench: Bench, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``kubectl twinhull`` as an administrator."""
    environment = {
        "KUBECONFIG": str(bench.server.kubeconfig),
        "PATH": f"{BINARIES}:{os.environ['PATH']}",
        # kubectl keeps a cache below it.
        "HOME": str(bench.directory),
    }
    argv = [sys.executable, str(PLUGIN), *words, "-n", bench.namespace]
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=120)


async def test_metrics_plugin_and_bundle_of_a_module(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    monkeypatch.setenv("TWINHULL_METRICS_PORT", str(port))

    def samples() -> dict[tuple[str, ...], float]:
        """The module's samples by name and the labels beside namespace and module; empty before there is a page."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text = answer.read().decode()
        except (urllib.error.URLError, ConnectionError):
            return {}
        return {
            (
                sample.name,
                *(v for k, v in sorted(sample.labels.items()) if k not in ("module", "namespace")),
            ): (sample.value)
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.labels.get("namespace", bench.namespace) == bench.namespace
        }

    bench.apply("pg")
    with operator(bench.kubeconfig, bench.log):
        module = await eventually(
            lambda: found if (found := bench.module("pg")).get("status", {}).get("basePort") else None
        )
        await eventually(lambda: "pg-twinhull-tls" in bench.names("secrets"))
        first, a = await start_sidecar(bench.server, module, "node-a", "127.0.0.11", bench.directory)
        second, b = await start_sidecar(bench.server, module, "node-b", "127.0.0.12", bench.directory)
        link = pb.Link(name="nodes", up=True, silent_seconds=0.3)
        await a.say(
            role="Primary",
            in_sync=True,
            reason="serves",
            replicated_bytes=4096,
            application=pb.Application(phase="Running", ready=True),
            virtual_ips=[pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)],
            peer=pb.Peer(node="node-b", heard=True, role="Secondary", links=[link]),
        )
        await b.say(role="Secondary", in_sync=True, peer=pb.Peer(node="node-a", heard=True, role="Primary"))
        await eventually(lambda: bench.condition("pg", "Degraded")[0] == "False")
        found = await eventually(
            lambda: s if (s := samples()).get(("twinhull_module_role", "node-a", "Primary")) == 1 else None
        )
        assert found["twinhull_module_replicated_bytes_total", "node-a"] == 4096
        assert found["twinhull_module_condition", "Available", "true"] == 1
        assert found["twinhull_module_link_silence_seconds", "nodes", "node-a"] == 0.3
        assert found["twinhull_operator_api_requests_total", "GET", "200"] > 5
        assert found["twinhull_operator_reconcile_duration_seconds_count", "MirrorModule", "success"] >= 1
        expiry = found["twinhull_certificate_expiry_timestamp_seconds", "node-a"]
        assert expiry == pytest.approx(time.time() + 365 * 86400, abs=600)

        # node-a dies; node-b takes over and tells its timeline.
        await first.stop(0)
        await eventually(lambda: samples().get(("twinhull_sidecar_reachable", "node-a")) == 0)
        assert not [key for key in samples() if key[0] == "twinhull_module_role" and "node-a" in key]
        now = time.time()
        line = pb.Timeline(
            cause="node-a is silent", code="PeerLost", peer_lost=now - 3.1, detected=now, promoted=now
        )
        await b.say(role="Alone", last_failover=line)
        failovers = ("twinhull_module_failovers_total", "PeerLost", "node-b")
        found = await eventually(lambda: s if (s := samples()).get(failovers) == 1 else None)
        assert found["twinhull_module_last_failover_step_seconds", "node-b", "detected"] == pytest.approx(3.1)
        await eventually(lambda: bench.module("pg")["status"].get("primary") == "node-b")

        await asyncio.to_thread(look_with_the_plugin, bench)
        await second.stop(0)
        bench.server.kubectl("delete", "mirrormodule", "pg", "-n", bench.namespace)
        await eventually(lambda: not [key for key in samples() if key[0].startswith("twinhull_module_")])


def look_with_the_plugin(bench: Bench) -> None:
    """The table, and a bundle without any part of the module's Secrets."""
    shown = plugin(bench, "status")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.splitlines()[1].split()[1:5] == ["pg", "down", "Alone", "node-b"]
    assert json.loads(plugin(bench, "status", "pg", "-o", "json").stdout)["primary"] == "node-b"
    # There is no kubelet here, so there are no pods to give an order to.
    assert plugin(bench, "switchover", "pg").returncode == 3
    assert plugin(bench, "status", "nix").returncode == 3
    target = bench.directory / "bundle.tar.gz"
    made = plugin(bench, "support-bundle", "pg", "-f", str(target))
    assert made.returncode == 0, made.stderr
    files: dict[str, bytes] = {}
    with tarfile.open(target) as archive:
        for member in archive:
            file = archive.extractfile(member)
            assert file is not None
            files[member.name.partition("/")[2]] = file.read()
    assert {"module.json", "status.txt", "objects/daemonsets.json", "objects/configmaps.json"} <= set(files)
    assert "objects/events.json" in files
    whole = b"\n".join(files.values())
    for suffix in ("tls", "operator"):
        secret = bench.server.get("secret", f"pg-twinhull-{suffix}", "-n", bench.namespace)
        for name, encoded in secret["data"].items():
            assert encoded.encode() not in whole, name
        for name, content in decode_secret(secret).items():
            for part in content.splitlines()[1:-1] or [content]:
                assert part not in whole, name
