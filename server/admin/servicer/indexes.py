"""Vector indexes on the wire."""

from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc
from server.admin.indexes import IndexService, IndexStatus
from server.admin.servicer.messages import Context, time_message
from server.admin.servicer.operations import operation_message


class IndexesServicing(admin_pb2_grpc.AdminServiceServicer):
    """Building an index beside the searched one, switching to it and back, dropping it."""

    _indexes: IndexService

    async def StartReindex(
        self, request: admin_pb2.StartReindexRequest, context: Context
    ) -> admin_pb2.StartReindexResponse:
        """Begin to build an index."""
        operation = await self._indexes.start(request.namespace, request.embedding_model, UUID(request.request_id))
        return admin_pb2.StartReindexResponse(operation=operation_message(operation))

    async def ActivateIndex(
        self, request: admin_pb2.ActivateIndexRequest, context: Context
    ) -> admin_pb2.ActivateIndexResponse:
        """Search an index from now on."""
        status = await self._indexes.activate(request.index_name, UUID(request.request_id))
        return admin_pb2.ActivateIndexResponse(index=index_message(status))

    async def RollbackIndex(
        self, request: admin_pb2.RollbackIndexRequest, context: Context
    ) -> admin_pb2.RollbackIndexResponse:
        """Search the index before again."""
        status = await self._indexes.rollback(UUID(request.request_id))
        return admin_pb2.RollbackIndexResponse(index=index_message(status))

    async def DropIndex(self, request: admin_pb2.DropIndexRequest, context: Context) -> admin_pb2.DropIndexResponse:
        """Drop an index."""
        await self._indexes.drop(request.index_name, UUID(request.request_id))
        return admin_pb2.DropIndexResponse()


def index_message(status: IndexStatus) -> admin_pb2.Index:
    """Return an index as the contract shows it."""
    index = status.index
    return admin_pb2.Index(
        name=index.name,
        embedding_model=index.model,
        dimensions=index.dimensions,
        state=admin_pb2.IndexState.Value(f"INDEX_STATE_{index.state.name}"),
        expected_count=status.expected_count,
        actual_count=status.actual_count,
        sample_recall=index.sample_recall or 0.0,
        created_at=time_message(index.created_at),
    )
