"""Long-running operations on the wire."""

import json
from collections.abc import AsyncIterator
from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc
from server.admin.operation import Operation
from server.admin.operations import Operations
from server.admin.servicer.messages import Context, time_message


class OperationsServicing(admin_pb2_grpc.AdminServiceServicer):
    """Work that outlives the call that asked for it."""

    _operations: Operations

    async def GetOperation(
        self, request: admin_pb2.GetOperationRequest, context: Context
    ) -> admin_pb2.GetOperationResponse:
        """Return an operation."""
        operation = await self._operations.get(UUID(request.operation_id))
        return admin_pb2.GetOperationResponse(operation=operation_message(operation))

    async def ListOperations(
        self, request: admin_pb2.ListOperationsRequest, context: Context
    ) -> admin_pb2.ListOperationsResponse:
        """List operations."""
        page = await self._operations.list(request.kind, size=request.page_size, page_token=request.page_token)
        return admin_pb2.ListOperationsResponse(
            operations=[operation_message(operation) for operation in page.items],
            next_page_token=page.next_page_token,
        )

    async def WatchOperation(
        self, request: admin_pb2.WatchOperationRequest, context: Context
    ) -> AsyncIterator[admin_pb2.OperationEvent]:
        """Stream an operation's progress."""
        sequence = 0
        async for operation in self._operations.watch(UUID(request.operation_id)):
            sequence += 1
            yield admin_pb2.OperationEvent(sequence=sequence, operation=operation_message(operation))

    async def CancelOperation(
        self, request: admin_pb2.CancelOperationRequest, context: Context
    ) -> admin_pb2.CancelOperationResponse:
        """Stop an operation."""
        operation = await self._operations.cancel(UUID(request.operation_id), UUID(request.request_id))
        return admin_pb2.CancelOperationResponse(operation=operation_message(operation))


def operation_message(operation: Operation) -> admin_pb2.Operation:
    """Return an operation as the contract shows it."""
    return admin_pb2.Operation(
        id=str(operation.id),
        kind=operation.kind,
        state=admin_pb2.OperationState.Value(f"OPERATION_STATE_{operation.state.name}"),
        done=operation.done,
        total=operation.total,
        stage=operation.stage,
        result=json.dumps(operation.result, ensure_ascii=False) if operation.result else "",
        error=operation.error,
        created_at=time_message(operation.created_at),
        updated_at=time_message(operation.updated_at),
    )
