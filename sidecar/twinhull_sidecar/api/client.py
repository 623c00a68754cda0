"""Connections to a sidecar's control interface: mutual TLS to a node, or the Unix socket on the node."""

from __future__ import annotations

import grpc
import grpc.aio

from twinhull_sidecar import tls
from twinhull_sidecar.api.sidecar_pb2_grpc import SidecarStub


class Connection:
    """An open channel and its stub. Close it, or use it as ``async with``."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel
        self.sidecar = SidecarStub(channel)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the channel; calls under way end with CANCELLED."""
        await self._channel.close()


def connect_node(address: str, port: int, identity: tls.Identity, holder: str, uid: str) -> Connection:
    """A connection to the sidecar of node ``holder`` of the module ``uid``; dials at the first call."""
    target = f"ipv6:[{address}]:{port}" if ":" in address else f"ipv4:{address}:{port}"
    credentials = grpc.ssl_channel_credentials(identity.ca, identity.private_key, identity.certificate)
    options = [
        ("grpc.ssl_target_name_override", tls.dns_name(holder, uid)),
        ("grpc.enable_http_proxy", 0),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.keepalive_time_ms", 10_000),
        ("grpc.keepalive_timeout_ms", 5_000),
    ]
    return Connection(grpc.aio.secure_channel(target, credentials, options=options))


def connect_socket(path: str) -> Connection:
    """A connection to the sidecar on this node over its Unix socket."""
    options = [("grpc.enable_http_proxy", 0), ("grpc.default_authority", "localhost")]
    return Connection(grpc.aio.insecure_channel(f"unix:{path}", options=options))
