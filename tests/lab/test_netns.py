"""The laboratory's own network: links carry, cuts cut exactly what they name, nothing is left behind."""

from __future__ import annotations

from pathlib import Path

from tests.lab.netns import NODES, Lab


def test_every_link_carries_both_families(lab: Lab) -> None:
    for version in (4, 6):
        assert lab.reaches("a", lab.address("b", "lan", version))
        assert lab.reaches("b", lab.address("a", "direct", version))
        assert lab.reaches("client", lab.address("b", "lan", version))


def test_a_cut_link_leaves_the_other_link_and_the_client(lab: Lab) -> None:
    lab.cut("lan")
    assert not lab.reaches("a", lab.address("b"))
    assert lab.reaches("a", lab.address("b", "direct"))
    assert lab.reaches("client", lab.address("a"))
    lab.heal("lan")
    assert lab.reaches("a", lab.address("b"))


def test_a_node_can_be_cut_off_and_unplugged(lab: Lab) -> None:
    lab.cut("lan", "a")
    assert not lab.reaches("client", lab.address("a"))
    assert lab.reaches("client", lab.address("b"))
    lab.heal("lan", "a")
    lab.unplug("direct", "a")
    assert "NO-CARRIER" in lab.run("a", "ip", "link", "show", "direct0")
    lab.plug("direct", "a")
    assert lab.reaches("client", lab.address("a"))


def test_pods_reach_each_other_and_both_nodes(lab: Lab) -> None:
    pods = {node: lab.add_pod(node) for node in NODES}
    for version in (4, 6):
        addresses = {node: pod.address4 if version == 4 else pod.address6 for node, pod in pods.items()}
        assert lab.reaches(pods["a"].name, addresses["b"])
        assert lab.reaches(pods["a"].name, lab.address("b", "lan", version))
        assert lab.reaches("b", addresses["b"])


def test_nothing_is_left_behind() -> None:
    with Lab() as lab:
        process = lab.spawn("a", ["sleep", "60"])
        names = [lab.namespace(where) for where in (*NODES, "client", "switch")]
        assert all(Path("/run/netns", name).exists() for name in names)
    assert process.poll() is not None
    assert not any(Path("/run/netns", name).exists() for name in names)
