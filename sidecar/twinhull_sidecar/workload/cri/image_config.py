"""Entrypoint, command and stop signal of an image, asked of the node's container runtime.

kubelet has pulled the image before the container exists, so this needs neither a registry nor the API server.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc.aio

from twinhull_sidecar.workload.adapter import WorkloadError
from twinhull_sidecar.workload.cri import image_pb2

METHOD = "/runtime.v1.ImageService/ImageStatus"
TIMEOUT = 5.0


@dataclass(frozen=True)
class ImageConfig:
    """What a container gets from its image (OCI image specification, config.md)."""

    entrypoint: tuple[str, ...] = ()
    cmd: tuple[str, ...] = ()
    stop_signal: str = ""


def merge_command(
    image: ImageConfig, command: Sequence[str] | None, args: Sequence[str] | None
) -> tuple[str, ...]:
    """The process a container runs.

    As the runtime does for kubelet (containerd, WithProcessArgs): a ``command`` replaces entrypoint and CMD
    both, ``args`` alone replace CMD. Raises WorkloadError when nothing is left to run.
    """
    command, args = tuple(command or ()), tuple(args or ())
    argv = command + args if command else image.entrypoint + (args or image.cmd)
    if not argv:
        raise WorkloadError("neither the container nor its image has a command; set the container's command")
    return argv


def parse_info(info: str) -> ImageConfig:
    """The OCI configuration within the runtime's verbose answer. Raises WorkloadError."""
    try:
        document: Any = json.loads(info)
        config: Any = document["imageSpec"]["config"]
    except (ValueError, KeyError, TypeError):
        raise WorkloadError("the container runtime's answer holds no image configuration") from None
    if not isinstance(config, dict):
        raise WorkloadError("the container runtime's answer holds no image configuration")

    def words(key: str) -> tuple[str, ...]:
        value = config.get(key) or []
        if not isinstance(value, list):
            raise WorkloadError(f"the image's {key} is no list")
        return tuple(str(word) for word in value)

    return ImageConfig(words("Entrypoint"), words("Cmd"), str(config.get("StopSignal") or ""))


class ImageConfigs:
    """Asks one runtime, and remembers: an image that a container was made from does not change under it."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket
        self._known: dict[str, ImageConfig] = {}
        self._channel: grpc.aio.Channel | None = None

    async def get(self, image: str) -> ImageConfig:
        """Configuration of ``image``, named as in the manifest. Raises WorkloadError."""
        known = self._known.get(image)
        if known is None:
            known = self._known[image] = await self._ask(image)
        return known

    async def _ask(self, image: str) -> ImageConfig:
        if not self._socket.is_socket():
            raise WorkloadError(
                f"no container runtime at {self._socket}; give its socket, or set the container's command"
            )
        if self._channel is None:
            # Go's server refuses the authority that gRPC makes of a socket's path.
            options = [("grpc.default_authority", "localhost")]
            self._channel = grpc.aio.insecure_channel(f"unix:{self._socket}", options=options)
        call = self._channel.unary_unary(
            METHOD,
            request_serializer=image_pb2.ImageStatusRequest.SerializeToString,
            response_deserializer=image_pb2.ImageStatusResponse.FromString,
        )
        request = image_pb2.ImageStatusRequest(image=image_pb2.ImageSpec(image=image), verbose=True)
        try:
            response: image_pb2.ImageStatusResponse = await call(request, timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            raise WorkloadError(
                f"the container runtime at {self._socket} did not tell of image {image}: {error.details()}"
            ) from None
        if not response.HasField("image"):
            raise WorkloadError(f"image {image} is not on this node; name it exactly as the pod does")
        return parse_info(response.info.get("info", ""))

    async def close(self) -> None:
        """Close the connection to the runtime."""
        if self._channel is not None:
            await self._channel.close(None)
            self._channel = None
