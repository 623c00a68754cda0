"""Kubernetes Events about a module. Pure.

An event's name is made of what it says, so the same one is never there twice: not after the operator starts
again, and not when two operators run for a moment.
"""

from __future__ import annotations

import hashlib

from twinhull_operator.constants import API_VERSION, EVENT_COMPONENT
from twinhull_operator.module import Module, Object
from twinhull_operator.report import NodeReport
from twinhull_operator.times import rfc3339_micro, rfc3339_seconds

_LONGEST_MESSAGE = 1024  # of a core/v1 Event


def render_new_events(module: Module, report: NodeReport, *, after: str, oldest: float) -> list[Object]:
    """Events of a node's sidecar that are new: later than ``after`` (RFC 3339 with microseconds, or empty)
    and than ``oldest`` (Unix seconds).
    """
    if report.status is None:
        return []
    return [
        render_event(module, kind=e.type, reason=e.code, message=e.message, time=e.time, node=report.node)
        for e in report.status.events
        if e.time > oldest and rfc3339_micro(e.time) > after
    ]


def render_event(
    module: Module, *, kind: str, reason: str, message: str, time: float, node: str = "", once_per: str = ""
) -> Object:
    """A core/v1 Event. ``kind`` is Normal or Warning, ``time`` in Unix seconds.

    ``once_per`` takes the time's place in the event's identity, for what is found again and again.
    """
    identity = "\0".join((module.uid, node, reason, message, once_per or rfc3339_micro(time)))
    text = f"{node}: {message}" if node else message
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{module.name}.{hashlib.sha256(identity.encode()).hexdigest()[:16]}",
            "namespace": module.namespace,
        },
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": module.kind,
            "namespace": module.namespace,
            "name": module.name,
            "uid": module.uid,
        },
        "type": kind if kind in ("Normal", "Warning") else "Normal",
        "reason": reason or "Unspecified",
        "message": text[:_LONGEST_MESSAGE],
        "source": {"component": EVENT_COMPONENT, **({"host": node} if node else {})},
        "firstTimestamp": rfc3339_seconds(time),
        "lastTimestamp": rfc3339_seconds(time),
        "count": 1,
    }
