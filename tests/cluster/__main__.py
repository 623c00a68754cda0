"""The test cluster from the command line: ``python -m tests.cluster --help`` lists what it does."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from tests.cluster import binaries, images, kind, power
from tests.cluster.command import CommandError, run
from tests.cluster.topology import APP_IMAGE, APP_REPOSITORY, KUBECONFIG, NODES, POSTGRES_IMAGE, node_named


def main() -> int:
    """Parses the command line and carries it out; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.cluster", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "up", help="build what is missing, create or start the cluster, wait until it is Ready"
    )
    commands.add_parser(
        "prepare", help="build what the cluster and its tests need, and nothing else (minutes when cold)"
    )
    commands.add_parser("down", help="delete the cluster with its network and routes")
    commands.add_parser("status", help="power of the nodes, and what the API server says of them")
    commands.add_parser(
        "images", help="build twinhull's image and PostgreSQL's, and load both into the nodes"
    )
    commands.add_parser("image", help="build twinhull's image only")
    load = commands.add_parser("load", help="copy images from podman's storage into the nodes")
    load.add_argument("image", nargs="+")
    for name, text in (("cut", "take the power from a node"), ("restore", "give it back")):
        command = commands.add_parser(name, help=text)
        command.add_argument("node", type=_node, help=" or ".join(node.name for node in NODES))
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        parser.error("needs root: it makes containers, bridges and routes")
    try:
        _carry_out(arguments)
    except (CommandError, TimeoutError, RuntimeError) as failure:
        print(f"twinhull cluster: {failure}", file=sys.stderr)
        return 1
    return 0


def _carry_out(arguments: argparse.Namespace) -> None:
    match arguments.command:
        case "up":
            kind.up()
            print(f"export KUBECONFIG={KUBECONFIG}")
        case "prepare":
            # A test that found something missing would build it within its own time limit.
            kind.build()
            binaries.build_node_programs()
            images.build_twinhull()
            images.build_postgres()
            images.build_haproxy()
        case "down":
            kind.down()
        case "status":
            _print_status()
        case "images":
            images.build_twinhull()
            images.build_postgres()
            for image in (f"{APP_REPOSITORY}:{images.release_tag()}", POSTGRES_IMAGE):
                images.load(image)
        case "image":
            images.build_twinhull()
            print(APP_IMAGE)
        case "load":
            for image in arguments.image:
                images.load(image)
        case "cut":
            power.cut(node_named(arguments.node))
        case "restore":
            power.restore(node_named(arguments.node))


def _print_status() -> None:
    if not Path(KUBECONFIG).is_file():
        print("no cluster")
        return
    for node in NODES:
        print(f"{node.name}: {'on' if power.is_on(node) else 'off'}, {node.address}")
    print(run("kubectl", f"--kubeconfig={KUBECONFIG}", "get", "nodes", "-o", "wide", "--request-timeout=5s"))


def _node(name: str) -> str:
    try:
        return node_named(name).name
    except ValueError as unknown:
        raise argparse.ArgumentTypeError(str(unknown)) from unknown


if __name__ == "__main__":
    sys.exit(main())
