"""The application is the other containers of this pod, each started by its gate.

The gates come to ``lease.sock`` in the pod's memory-backed gate volume. Nothing here speaks to kubelet or the
API server, so all of it works while both are dead.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from twinhull_sidecar.config import Container
from twinhull_sidecar.workload.adapter import OnChange, WorkloadError
from twinhull_sidecar.workload.cri import ImageConfig, ImageConfigs, merge_command
from twinhull_sidecar.workload.gated import Gate, GatedWorkload, Launch
from twinhull_sidecar.workload.signals import parse_signal

log = logging.getLogger(__name__)

SOCKET_NAME = "lease.sock"


class PodWorkload(GatedWorkload):
    """Adapter *pod*: the containers named in the configuration, by their gates."""

    def __init__(
        self,
        containers: Sequence[Container],
        gate_dir: Path,
        cri_socket: Path,
        *,
        on_change: OnChange = lambda: None,
    ) -> None:
        names = [container.name for container in containers]
        super().__init__(names, gate_dir / SOCKET_NAME, on_change=on_change)
        self._containers = {container.name: container for container in containers}
        self._images = ImageConfigs(cri_socket)

    async def _prepare(self, gate: Gate) -> Launch:
        container = self._containers[gate.name]
        hello = gate.hello
        # The gate tells the arguments as kubelet expanded them; the configuration has them unexpanded.
        original = hello.original if hello is not None else container.command
        args = hello.args if hello is not None else container.args
        try:
            image = await self._images.get(container.image)
        except WorkloadError as error:
            if original is None:
                raise
            # Only the image's stop signal is missed then; it is worth no refusal.
            log.warning("container %s will be stopped by SIGTERM: %s", gate.name, error)
            return Launch()
        argv = merge_command(image, None, args) if original is None else None
        return Launch(argv, _stop_signal(gate.name, image))

    async def close(self) -> None:
        """Kill what runs, wait until it is gone, stop listening."""
        await super().close()
        await self._images.close()


def _stop_signal(container: str, image: ImageConfig) -> int | None:
    if not image.stop_signal:
        return None
    try:
        return parse_signal(image.stop_signal)
    except ValueError as error:
        log.warning("container %s will be stopped by SIGTERM: its image's STOPSIGNAL: %s", container, error)
        return None
