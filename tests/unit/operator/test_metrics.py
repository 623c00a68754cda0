"""Metrics: what is shown of modules, how it is served, and that documents and dashboard name what exists."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import aiohttp
import pytest
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.unit.operator.samples import ROOT, answer, farm, farm_answer, healthy, healthy_farm, module, silent
from twinhull_operator.metrics import definitions, reference
from twinhull_operator.metrics.collect import FARM_ROLES, MIRROR_ROLES, ModulesCollector
from twinhull_operator.metrics.own import OWN_METRICS, RECONCILE
from twinhull_operator.metrics.server import MetricsServer
from twinhull_operator.metrics.view import FailoverCounter, ModuleView
from twinhull_operator.report import NodeReport
from twinhull_operator.settings import SettingsError, read_settings
from twinhull_operator.status_module import Findings, render_status
from twinhull_sidecar.api import sidecar_pb2 as pb
from twinhull_sidecar.role.model import Role

CHART = ROOT / "charts" / "twinhull"
NODE_A = {"namespace": "db", "module": "postgres", "node": "node-a"}
NAME = re.compile(r"twinhull_(?:module|farm|sidecar|operator|certificate)_[a-z_]+")


def view(reports: list[NodeReport], **fields: Any) -> ModuleView:
    """A mirror with these reports, and the status that the operator makes of them."""
    made = module()
    status = render_status(made, reports, Findings(), {}, now=1.0)
    return ModuleView(made, reports, status, **fields)


def registry(*views: ModuleView) -> CollectorRegistry:
    """A registry that shows these modules."""
    made = CollectorRegistry()
    made.register(ModulesCollector(lambda: views))
    return made


def own_names() -> set[str]:
    """Every name that a query can ask for."""
    names = {metric.name for metric in definitions.METRICS if metric.type != "histogram"}
    spread = [metric.name for metric in definitions.METRICS if metric.type == "histogram"]
    names |= {name + ending for name in spread for ending in ("_bucket", "_count", "_sum")}
    for own in OWN_METRICS:
        (family,) = own.describe()
        endings = {"gauge": ("",), "counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}[
            family.type
        ]
        names |= {family.name + ending for ending in endings}
    return names


def test_a_healthy_mirror() -> None:
    shown = registry(view(healthy()))
    value = shown.get_sample_value
    assert (
        value("twinhull_module_info", {"namespace": "db", "module": "postgres", "kind": "MirrorModule"}) == 1
    )
    assert value("twinhull_module_role", NODE_A | {"role": "Primary"}) == 1
    assert value("twinhull_module_role", NODE_A | {"role": "Alone"}) == 0
    assert value("twinhull_module_in_sync", NODE_A) == 1
    assert value("twinhull_module_virtual_ip_held", NODE_A | {"address": "192.168.10.50"}) == 1
    condition = {"namespace": "db", "module": "postgres", "condition": "Available"}
    assert value("twinhull_module_condition", condition | {"status": "true"}) == 1
    assert value("twinhull_module_condition", condition | {"status": "false"}) == 0
    assert value("twinhull_farm_share_ratio", NODE_A) is None


def test_a_farm_has_shares_and_checkers() -> None:
    reports = [
        farm_answer("node-a", share=0.25, connections=7, checkers=[pb.Checker(name="http", passing=True)]),
        healthy_farm()[1],
    ]
    shown = registry(ModuleView(farm(), reports, {}))
    labels = {"namespace": "db", "module": "front", "node": "node-a"}
    assert shown.get_sample_value("twinhull_farm_share_ratio", labels) == 0.25
    assert shown.get_sample_value("twinhull_farm_connections", labels) == 7
    assert shown.get_sample_value("twinhull_farm_checker_passing", labels | {"checker": "http"}) == 1
    assert shown.get_sample_value("twinhull_module_role", labels | {"role": "Up"}) == 1
    assert shown.get_sample_value("twinhull_module_in_sync", labels) is None


def test_of_a_node_that_does_not_answer_there_is_only_that() -> None:
    primary, secondary = healthy()
    shown = registry(view([silent("node-a", primary), secondary]))
    of_a = [
        sample.name
        for family in shown.collect()
        for sample in family.samples
        if sample.labels.get("node") == "node-a"
    ]
    assert of_a == ["twinhull_sidecar_reachable"]
    assert shown.get_sample_value("twinhull_sidecar_reachable", NODE_A) == 0


def test_a_module_that_is_gone_is_not_shown() -> None:
    views = [view(healthy())]
    shown = CollectorRegistry()
    shown.register(ModulesCollector(lambda: views))
    assert shown.get_sample_value("twinhull_module_in_sync", NODE_A) == 1
    views.clear()
    assert all(not family.samples for family in shown.collect())


def test_a_split_brain_is_one_number() -> None:
    where = {"namespace": "db", "module": "postgres"}
    waiting = answer("node-b", "Waiting", reason_code="SplitBrain")
    both = [answer("node-a", "Alone"), answer("node-b", "Alone")]
    for reports, expected in ((healthy(), 0), ([healthy()[0], waiting], 1), (both, 1)):
        assert registry(view(reports)).get_sample_value("twinhull_module_split_brain", where) == expected


def test_links_and_a_resynchronisation() -> None:
    links = [pb.Link(name="nodes", up=True, silent_seconds=0.4), pb.Link(name="never")]
    peer = pb.Peer(node="node-a", heard=True, role="Alone", links=links)
    sync = pb.SyncProgress(bytes_done=10, bytes_total=40, files_done=1, files_total=3, seconds_left=9.5)
    shown = registry(view([healthy()[0], answer("node-b", "Syncing", peer=peer, sync=sync)]))
    labels = NODE_A | {"node": "node-b"}
    assert shown.get_sample_value("twinhull_module_link_silence_seconds", labels | {"link": "nodes"}) == 0.4
    assert shown.get_sample_value("twinhull_module_link_silence_seconds", labels | {"link": "never"}) is None
    assert shown.get_sample_value("twinhull_module_link_up", labels | {"link": "never"}) == 0
    assert shown.get_sample_value("twinhull_module_resync_done_bytes", labels) == 10
    assert shown.get_sample_value("twinhull_module_resync_left_seconds", labels) == 9.5
    assert shown.get_sample_value("twinhull_module_resync_done_bytes", NODE_A) is None


def test_heartbeats_that_were_lost_on_a_link() -> None:
    peer = pb.Peer(node="node-b", heard=True, links=[pb.Link(name="nodes", up=True, heartbeats=90, lost=3)])
    shown = registry(view([answer("node-a", "Primary", peer=peer), healthy()[1]]))
    assert (
        shown.get_sample_value("twinhull_module_link_lost_heartbeats_total", NODE_A | {"link": "nodes"}) == 3
    )


def test_a_comparison_of_both_nodes_files() -> None:
    where = {"namespace": "db", "module": "postgres"}
    primary, secondary = healthy()
    assert primary.status is not None
    names = (
        "running",
        "compared_files",
        "compared_bytes",
        "differences",
        "repaired_differences",
        "incomplete",
    )

    def values(shown: CollectorRegistry) -> list[float | None]:
        found = [shown.get_sample_value(f"twinhull_module_verify_{name}", where) for name in names]
        return [*found, shown.get_sample_value("twinhull_module_last_verify_timestamp_seconds", where)]

    assert values(registry(view([primary, secondary]))) == [None] * 7
    known = primary.status.verification
    known.CopyFrom(pb.Verification(running=True, begun=100.0, files=7, bytes=4096, found=2, repaired=1))
    assert values(registry(view([primary, secondary]))) == [1, 7, 4096, 2, 1, 0, None]
    known.running, known.ended, known.stopped = False, 160.0, "the peer was lost"
    assert values(registry(view([primary, secondary]))) == [0, 7, 4096, 2, 1, 1, None]
    known.stopped = ""
    ended = view([primary, secondary])
    assert values(registry(ended))[-1] == 160
    # The time outlives the sidecar that compared.
    primary.status.ClearField("verification")
    kept = render_status(module(), [primary, secondary], Findings(), ended.status, now=1.0)
    assert values(registry(ModuleView(module(), [primary, secondary], kept)))[-1] == 160


def test_what_is_not_counted_yet_is_no_metric() -> None:
    sync = pb.SyncProgress(bytes_done=10, files_done=1)
    shown = registry(view([healthy()[0], answer("node-b", "Syncing", sync=sync)]))
    labels = NODE_A | {"node": "node-b"}
    assert shown.get_sample_value("twinhull_module_resync_done_bytes", labels) == 10
    for name in ("size_bytes", "size_files", "left_seconds"):
        assert shown.get_sample_value(f"twinhull_module_resync_{name}", labels) is None


def took_over(detected: float, **fields: Any) -> NodeReport:
    """node-a after a takeover."""
    steps: dict[str, Any] = {
        "promoted": detected + 0.1,
        "peer_lost": detected - 3,
        "code": "PeerLost",
    } | fields
    timeline = pb.Timeline(cause="node-b has been silent for 3.0 s", detected=detected, **steps)
    return answer("node-a", "Alone", last_failover=timeline)


def test_the_steps_of_the_last_failover_count_from_the_last_sign_of_life() -> None:
    shown = registry(view([took_over(100.0, application_ready=100.5), healthy()[1]]))
    step = "twinhull_module_last_failover_step_seconds"
    assert shown.get_sample_value(step, NODE_A | {"step": "detected"}) == 3
    assert shown.get_sample_value(step, NODE_A | {"step": "application_ready"}) == 3.5
    assert shown.get_sample_value(step, NODE_A | {"step": "vip_announced"}) is None
    moment = "twinhull_module_last_failover_timestamp_seconds"
    assert shown.get_sample_value(moment, NODE_A | {"cause": "PeerLost"}) == 100


def test_each_failover_is_counted_once_and_by_a_word() -> None:
    counter = FailoverCounter()
    counter.begin({"lastFailover": {"detected": "1970-01-01T00:01:40.000Z"}})
    # Known from the resource; further steps of it; not at its end yet; a new one; the same again.
    for report in (
        took_over(100.0001),
        took_over(100.0, application_ready=101),
        took_over(200.0, promoted=0),
    ):
        counter.see(report)
    assert not counter.counts
    for report in (took_over(200.0), took_over(200.0, application_ready=201), silent("node-a")):
        counter.see(report)
    assert counter.counts == {("node-a", "PeerLost"): 1}
    # A sidecar of an earlier release has only the sentence, which is no label.
    counter.see(took_over(300.0, code=""))
    assert counter.counts["node-a", "Other"] == 1
    shown = registry(view(healthy(), failovers=counter.counts))
    assert shown.get_sample_value("twinhull_module_failovers_total", NODE_A | {"cause": "PeerLost"}) == 1


def test_how_long_operations_waited_for_the_other_node() -> None:
    primary, secondary = healthy()
    assert primary.status is not None
    counts = [0, 3, 5, *[0] * (len(definitions.LATENCY_BOUNDS) - 3), 1]
    primary.status.replication_latency.CopyFrom(pb.Latency(counts=counts, sum_microseconds=6_000_000))
    families = {family.name: family for family in registry(view([primary, secondary])).collect()}
    samples = families["twinhull_module_replication_latency_seconds"].samples
    buckets = {s.labels["le"]: s.value for s in samples if s.name.endswith("_bucket")}
    assert (buckets["0.0001"], buckets["0.00025"], buckets["0.0005"]) == (0, 3, 8)
    assert (buckets["5"], buckets["+Inf"]) == (8, 9)
    assert {s.name.rsplit("_", 1)[1]: s.value for s in samples if "le" not in s.labels} == {
        "count": 9,
        "sum": 6.0,
    }
    assert {s.labels["node"] for s in samples} == {"node-a"}


def test_the_classes_are_the_engines() -> None:
    source = (ROOT / "sidecar/mirrorfs/src/stream/primary/latency.rs").read_text()
    (bounds,) = re.findall(r"BOUNDS_US: \[u64; \d+\] =\s*\[([^]]*)\]", source)
    seconds = [int(bound.replace("_", "")) / 1e6 for bound in bounds.split(",") if bound.strip()]
    assert seconds == list(definitions.LATENCY_BOUNDS)


def test_every_role_has_its_sample() -> None:
    assert set(MIRROR_ROLES) == set(Role)
    from twinhull_sidecar.control.farm_role import FarmRole

    assert set(FARM_ROLES) == set(FarmRole)


async def test_the_page_over_http() -> None:
    RECONCILE.labels("MirrorModule", "success").observe(0.1)
    server = MetricsServer(lambda: [view(healthy())])
    port = await server.start(0, "127.0.0.1")
    try:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/metrics") as response:
                assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
                text = await response.text()
            headers = {"Accept": "application/openmetrics-text; version=1.0.0"}
            async with session.get(f"http://127.0.0.1:{port}/metrics", headers=headers) as response:
                assert response.headers["Content-Type"].startswith("application/openmetrics-text")
                assert (await response.text()).endswith("# EOF\n")
        families = {family.name: family for family in text_string_to_metric_families(text)}
        assert len(families["twinhull_module_role"].samples) == 2 * len(MIRROR_ROLES)
        assert families["twinhull_operator_reconcile_duration_seconds"].type == "histogram"
        assert families["twinhull_module_replicated_bytes"].type == "counter"
        # A second server cannot have the port; the operator goes on without its page.
        assert await MetricsServer(list).start(port, "127.0.0.1") == 0
    finally:
        await server.close()


def test_labels_do_not_grow_with_time() -> None:
    """Of 200 modules, at most 80 samples each; none has a sentence in a label."""
    found = [view([took_over(100.0), healthy()[1]]) for _ in range(200)]
    found = [replace(one, module=replace(one.module, name=f"m{number}")) for number, one in enumerate(found)]
    samples = [sample for family in registry(*found).collect() for sample in family.samples]
    assert len(samples) < 200 * 80
    assert not any(" " in value for sample in samples for value in sample.labels.values())


@pytest.mark.parametrize("metric", definitions.METRICS, ids=lambda metric: metric.name)
def test_names_follow_the_conventions(metric: definitions.Metric) -> None:
    assert re.fullmatch(r"twinhull_(module|farm|sidecar|certificate)_[a-z_]+", metric.name)
    assert metric.name.endswith("_total") == (metric.type == "counter")
    assert metric.help.endswith(".")
    assert not set(metric.labels) & {"le", "instance", "job"}


def test_the_reference_is_the_code() -> None:
    document = (ROOT / "docs" / "reference" / "metrics.md").read_text()
    assert document == reference.replaced(document), "run python -m twinhull_operator.metrics.reference"


def test_the_dashboard_and_the_alerts_ask_for_metrics_that_exist() -> None:
    dashboard = json.loads((CHART / "dashboards" / "twinhull.json").read_text())
    shown = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())] + [
        variable["query"]["query"] for variable in dashboard["templating"]["list"][1:]
    ]
    alerts = yaml.safe_load((CHART / "alerts" / "twinhull.yaml").read_text())
    asked = [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    for query in (*shown, *asked):
        names = set(NAME.findall(query))
        assert names, query
        assert names <= own_names(), query
    # Whatever a module has is on the dashboard.
    of_modules = {metric.name for metric in definitions.METRICS}
    on_it = {name.removesuffix("_bucket") for query in shown for name in NAME.findall(query)}
    unshown = {
        "twinhull_module_problems",
        "twinhull_module_application_restarts",
        "twinhull_module_peer_heard",
    }
    assert of_modules - on_it == unshown
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(ids) == len(set(ids))
    cells = [
        (column, line)
        for place in (panel["gridPos"] for panel in dashboard["panels"])
        for column in range(place["x"], place["x"] + place["w"])
        for line in range(place["y"], place["y"] + place["h"])
    ]
    assert len(cells) == len(set(cells)), "panels lie over one another"


def test_the_port_of_the_metrics() -> None:
    image = {"TWINHULL_SIDECAR_IMAGE": "x"}
    assert read_settings(image).metrics_port is None
    assert read_settings(image | {"TWINHULL_METRICS_PORT": "8081"}).metrics_port == 8081
    with pytest.raises(SettingsError, match="TWINHULL_METRICS_PORT is '0'; set it to a port"):
        read_settings(image | {"TWINHULL_METRICS_PORT": "0"})
