"""Types of the generated stubs, which protoc's gRPC plugin does not write. Keep in step with sidecar.proto."""

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio

from twinhull_sidecar.api import sidecar_pb2 as pb

class SidecarStub:
    def __init__(self, channel: grpc.aio.Channel) -> None: ...
    GetStatus: grpc.aio.UnaryUnaryMultiCallable[pb.StatusRequest, pb.Status]
    WatchStatus: grpc.aio.UnaryStreamMultiCallable[pb.StatusRequest, pb.Status]
    Order: grpc.aio.UnaryUnaryMultiCallable[pb.OrderRequest, pb.OrderReply]

class SidecarServicer:
    async def GetStatus(self, request: pb.StatusRequest, context: Any) -> pb.Status: ...
    def WatchStatus(self, request: pb.StatusRequest, context: Any) -> AsyncIterator[pb.Status]: ...
    async def Order(self, request: pb.OrderRequest, context: Any) -> pb.OrderReply: ...

def add_SidecarServicer_to_server(servicer: SidecarServicer, server: grpc.aio.Server) -> None: ...
