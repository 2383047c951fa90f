"""A server that refuses calls as gRPC itself does between a server's stop and its telling so."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc

from bacmr.v1 import ingestion_pb2, retrieval_pb2, wallet_pb2


class Stopping(grpc.GenericRpcHandler):
    """Refuses `refusals` calls, then answers; `asked` counts all. Answers nobody before `gate`, if there is one."""

    def __init__(self) -> None:
        self.refusals = 0
        self.asked = 0
        self.gate: asyncio.Event | None = None
        self.client: Any = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        """Return what answers a method of the contract."""
        match handler_call_details.method:
            case "/bacmr.v1.WalletService/GetBalance":
                return grpc.unary_unary_rpc_method_handler(self._balance)
            case "/bacmr.v1.RetrievalService/Ask":
                return grpc.unary_stream_rpc_method_handler(self._ask)
            case "/bacmr.v1.IngestionService/UploadDocument":
                return grpc.stream_unary_rpc_method_handler(self._upload)
        return None

    async def _refuse(self, context: Any) -> None:
        self.asked += 1
        if self.gate is not None:
            await self.gate.wait()
        if self.refusals:
            self.refusals -= 1
            await context.abort(grpc.StatusCode.CANCELLED, "CANCELLED")

    async def _balance(self, _: bytes, context: Any) -> bytes:
        await self._refuse(context)
        return wallet_pb2.GetBalanceResponse(available_tokens=5).SerializeToString()

    async def _ask(self, _: bytes, context: Any) -> AsyncIterator[bytes]:
        await self._refuse(context)
        end = retrieval_pb2.AskCompleted(finish_reason=retrieval_pb2.ASK_FINISH_REASON_STOP)
        yield retrieval_pb2.AskEvent(sequence=1, completed=end).SerializeToString()

    async def _upload(self, parts: AsyncIterator[bytes], context: Any) -> bytes:
        await self._refuse(context)
        size = sum([len(ingestion_pb2.UploadDocumentRequest.FromString(part).chunk) async for part in parts])
        document = ingestion_pb2.Document(size_bytes=size)
        return ingestion_pb2.UploadDocumentResponse(document=document).SerializeToString()


@asynccontextmanager
async def serving(stopping: Stopping, listen: str) -> AsyncIterator[tuple[Stopping, int]]:
    """Serve it, healthy, on an address; yields it with its port."""
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    server.add_generic_rpc_handlers((stopping,))
    port = server.add_insecure_port(listen)
    await server.start()
    try:
        yield stopping, port
    finally:
        await server.stop(None)
