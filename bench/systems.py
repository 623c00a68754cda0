"""The systems under test, all on the same two nodes and disks, all mounted at once so that runs interleave."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from bench import glusterfs, mirrorfs
from bench.nodes import Node, open_nodes
from bench.works import Place


@dataclass(frozen=True)
class System:
    """A mounted system under test."""

    name: str
    place: Place


def _ext4(stack: ExitStack, nodes: tuple[Node, Node]) -> Place:
    plain = nodes[0].disk / "plain"
    nodes[0].run("mkdir", "-p", str(plain))
    return Place(plain, nodes[0].prefix)


KINDS: dict[str, Callable[[ExitStack, tuple[Node, Node]], Place]] = {
    "ext4": _ext4,
    "twinhull-alone": lambda stack, nodes: mirrorfs.start(stack, nodes, "alone"),
    "twinhull": lambda stack, nodes: mirrorfs.start(stack, nodes, "write"),
    "twinhull-commit": lambda stack, nodes: mirrorfs.start(stack, nodes, "commit"),
    "GlusterFS": glusterfs.start,
}


def open_systems(stack: ExitStack, wanted: set[str]) -> list[System]:
    """Start the wanted systems (all when empty). Raises SystemExit naming an unknown one."""
    unknown = wanted - KINDS.keys()
    if unknown:
        sys.exit(f"--systems: unknown {sorted(unknown)}; there are {', '.join(KINDS)}")
    nodes = open_nodes(stack)
    return [
        System(name, start(stack, nodes)) for name, start in KINDS.items() if not wanted or name in wanted
    ]
