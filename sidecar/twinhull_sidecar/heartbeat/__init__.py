"""Heartbeats between a module's two sidecars: small authenticated UDP datagrams over every link."""

from twinhull_sidecar.heartbeat.heartbeat import Heartbeat, LinkHealth
from twinhull_sidecar.heartbeat.session import ReceivedMessage

__all__ = ["Heartbeat", "LinkHealth", "ReceivedMessage"]
