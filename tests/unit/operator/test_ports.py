"""Allotment of base ports."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.operator.samples import NODES, module
from twinhull_operator.module import Module, ModuleNode
from twinhull_operator.ports import NoFreePortError, allot_base_port, rendered_base_port
from twinhull_operator.render_config import render_config
from twinhull_operator.render_configmap import render_configmap


def on(name: str, nodes: tuple[str, str], port: int | None) -> Module:
    """A module of that name on these nodes."""
    first, second = (ModuleNode(node) for node in nodes)
    return replace(module(name, uid=name), nodes=(first, second), base_port=port)


def test_the_first_module_gets_the_first_port() -> None:
    assert allot_base_port(on("a", ("x", "y"), None), []) == 7400


def test_ports_on_a_shared_node_differ_and_gaps_are_filled() -> None:
    others = [on("a", ("x", "y"), 7400), on("b", ("y", "z"), 7404), on("c", ("v", "w"), 7402)]
    assert allot_base_port(on("d", ("y", "u"), None), others) == 7402


def test_modules_on_other_nodes_do_not_matter() -> None:
    assert allot_base_port(on("d", ("p", "q"), None), [on("a", ("x", "y"), 7400)]) == 7400


def test_an_allotted_port_stays() -> None:
    assert allot_base_port(on("a", ("x", "y"), 7410), [on("b", ("x", "y"), 7410)]) == 7410


def test_no_port_left_is_said() -> None:
    others = [on(f"m{port}", ("x", "y"), port) for port in range(7400, 8000, 2)]
    with pytest.raises(NoFreePortError, match="taken on x and z"):
        allot_base_port(on("new", ("x", "z"), None), others)


def test_a_lost_status_is_mended_from_what_the_pods_use() -> None:
    lost = replace(module(), base_port=None)
    rendered = render_configmap(lost, render_config(lost, NODES, 7422))
    foreign = {**rendered, "data": {"module.json": "{}"}}
    assert rendered_base_port(lost, [foreign, rendered]) == 7422
    assert rendered_base_port(replace(lost, uid="another"), [rendered]) is None
