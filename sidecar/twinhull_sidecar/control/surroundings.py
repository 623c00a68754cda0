"""What a sidecar is given besides its module's configuration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from twinhull_sidecar import tls
from twinhull_sidecar.api import sidecar_pb2 as pb


@dataclass(frozen=True)
class Surroundings:
    """The node, its identity, and where the application is. The key of ``identity`` never changes; its certificate
    may, see ``identity_now``.
    """

    node: str
    identity: tls.Identity
    identity_now: Callable[[], tls.Identity]
    gate_dir: Path
    gate_binary: Path
    cri_socket: Path
    pod_ip: str | None = None


class ModuleLoop(Protocol):
    """The control loop of one module, of whatever kind."""

    def status(self) -> pb.Status:
        """The status now."""

    async def order(self, request: pb.OrderRequest) -> pb.OrderReply:
        """Accept or refuse an order."""

    def terminate(self) -> None:
        """Leave in order; :meth:`run` returns then."""

    async def run(self) -> None:
        """Decide and act until the end."""
