"""A module, nodes and sidecar answers that the operator's tests vary."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml

from twinhull_operator.module import Module, read_module
from twinhull_operator.report import NodeReport
from twinhull_operator.settings import Settings
from twinhull_sidecar.api import sidecar_pb2 as pb

ROOT = Path(__file__).parents[3]
UID = "0b8f1f6e-8a0e-4d0a-9a55-5a9a30f9a7c1"
FARM_UID = "7d3c2f51-4f5a-4c1e-8e0b-2f4b6d8a9c10"
SETTINGS = Settings(sidecar_image="example.test/twinhull:1")
NODES = {
    name: {
        "metadata": {"name": name},
        "status": {
            "addresses": [
                {"type": "InternalIP", "address": f"fd00::{number}"},
                {"type": "InternalIP", "address": f"192.0.2.{number}"},
                {"type": "Hostname", "address": name},
            ]
        },
    }
    for number, name in enumerate(("node-a", "node-b", "node-c"), 1)
}


def resource(name: str = "postgres", uid: str = UID, **spec: Any) -> dict[str, Any]:
    """The PostgreSQL example as the API server would return it, with fields of the specification replaced."""
    return _returned("postgres-mirror.yaml", "MirrorModule", name, uid, spec)


def farm_resource(name: str = "front", uid: str = FARM_UID, **spec: Any) -> dict[str, Any]:
    """The farm of the example of a whole site, likewise."""
    return _returned("atc-site.yaml", "FarmModule", name, uid, spec)


def _returned(example: str, kind: str, name: str, uid: str, spec: dict[str, Any]) -> dict[str, Any]:
    documents = yaml.safe_load_all((ROOT / "examples" / example).read_text())
    found: dict[str, Any] = next(document for document in documents if document["kind"] == kind)
    found["metadata"] = {
        "name": name,
        "namespace": "db",
        "uid": uid,
        "generation": 1,
        "creationTimestamp": "2024-01-01T00:00:00Z",
    }
    found["status"] = {"basePort": 7400}
    found["spec"] |= copy.deepcopy(spec)
    return found


def module(name: str = "postgres", uid: str = UID, **spec: Any) -> Module:
    """The same, read."""
    return read_module(resource(name, uid, **spec))


def farm(name: str = "front", uid: str = FARM_UID, **spec: Any) -> Module:
    """The farm, read."""
    return read_module(farm_resource(name, uid, **spec))


def farm_with_container(**fields: Any) -> Module:
    """The farm without checkers of its own, with fields of its container replaced."""
    made = farm_resource()
    del made["spec"]["checkers"]
    made["spec"]["template"]["spec"]["containers"][0] |= fields
    return read_module(made)


def with_container(**fields: Any) -> Module:
    """The module with fields of its container replaced."""
    made = resource()
    made["spec"]["template"]["spec"]["containers"][0] |= fields
    return read_module(made)


def with_pod(**fields: Any) -> Module:
    """The module with fields of its pod's specification replaced."""
    made = resource()
    made["spec"]["template"]["spec"] |= fields
    return read_module(made)


def answer(node: str, role: str, **fields: Any) -> NodeReport:
    """What a reachable sidecar says of itself."""
    peer = fields.pop("peer", pb.Peer())
    fields.setdefault("reason", f"{node} is {role}")
    return NodeReport(
        node=node,
        address="192.0.2.1",
        reachable=True,
        status=pb.Status(node=node, role=role, peer=peer, **fields),
    )


def silent(node: str, last: NodeReport | None = None) -> NodeReport:
    """A sidecar that does not answer any more."""
    return NodeReport(
        node=node,
        address="192.0.2.1",
        unreachable_since=1000.0,
        status=last.status if last is not None else None,
    )


def healthy() -> list[NodeReport]:
    """node-a serves, node-b follows, in sync."""
    vip = pb.VirtualIP(address="192.168.10.50", interface="eth0", held=True)
    return [
        answer(
            "node-a",
            "Primary",
            in_sync=True,
            virtual_ips=[vip],
            application=pb.Application(phase="Running", ready=True),
            peer=pb.Peer(node="node-b", heard=True, role="Secondary"),
        ),
        answer("node-b", "Secondary", in_sync=True, peer=pb.Peer(node="node-a", heard=True, role="Primary")),
    ]


def farm_answer(node: str, role: str = "Up", **fields: Any) -> NodeReport:
    """What a reachable sidecar of a farm says of itself; the fields of its farm among the others."""
    names = ("share", "announcing", "connections", "draining", "checkers")
    own = {"share": 0.5 if role == "Up" else 0.0} | {n: fields.pop(n) for n in names if n in fields}
    held = [pb.VirtualIP(address="192.168.10.71", interface="eth0", held=role in ("Up", "Draining"))]
    peer = "node-b" if node == "node-a" else "node-a"
    fields.setdefault("virtual_ips", held)
    fields.setdefault("peer", pb.Peer(node=peer, heard=True, role="Up"))
    fields.setdefault("application", pb.Application(phase="Running", ready=True))
    return answer(node, role, farm=pb.Farm(**own), **fields)


def healthy_farm() -> list[NodeReport]:
    """Both nodes serve, node-a announces."""
    return [
        farm_answer("node-a", announcing=True, connections=120),
        farm_answer("node-b", connections=80),
    ]
