"""Export, import and drill on the wire: an operation each, watched until it has ended."""

from collections.abc import AsyncIterator, Iterator
from typing import Any
from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc, wallet_pb2
from server.admin.operation import Operation, OperationState
from server.admin.operations import Operations
from server.admin.recovery.service import DRILL, EXPORT, IMPORT, Imports
from server.admin.servicer.messages import Context, duration_message
from server.refusal import Refusal

EXPORTED = "exported"
"""The stage of events that tell what a finished export holds of one table."""


class RecoveryServicing(admin_pb2_grpc.AdminServiceServicer):
    """What is lost comes back."""

    _operations: Operations
    _imports: Imports

    async def ExportData(
        self, request: admin_pb2.ExportDataRequest, context: Context
    ) -> AsyncIterator[admin_pb2.DataEvent]:
        """Export every table."""
        task = {"destination": request.destination, "compress": request.compress, "copy_files": request.with_files}
        async for event in self._done(EXPORT, task, request.request_id):
            yield event

    async def ImportData(
        self, request: admin_pb2.ImportDataRequest, context: Context
    ) -> AsyncIterator[admin_pb2.DataEvent]:
        """Import an export into this empty system."""
        problem = await self._imports.problem(request.location, UUID(request.request_id))
        task = {"location": request.location, "request_id": request.request_id}
        async for event in self._done(IMPORT, task, request.request_id, problem):
            yield event

    async def RunRecoveryDrill(
        self, request: admin_pb2.RunRecoveryDrillRequest, context: Context
    ) -> AsyncIterator[admin_pb2.DataEvent]:
        """Rehearse recovery."""
        async for event in self._done(DRILL, {"location": request.location}, request.request_id):
            yield event

    async def _done(
        self, kind: str, task: dict[str, Any], request_id: str, problem: Refusal | None = None
    ) -> AsyncIterator[admin_pb2.DataEvent]:
        operation = await self._operations.start(kind, task, UUID(request_id), problem=problem)
        sequence = 0
        async for seen in self._operations.watch(operation.id):
            for table, rows in table_counts(seen):
                sequence += 1
                yield admin_pb2.DataEvent(
                    sequence=sequence, stage=EXPORTED, table=table, rows=rows, operation_id=str(operation.id)
                )
            sequence += 1
            yield data_message(seen, sequence)


def table_counts(operation: Operation) -> Iterator[tuple[str, int]]:
    """Yield how many rows of each table an export that has ended holds."""
    if operation.state.ended:
        yield from operation.result.get("tables", {}).items()


def data_message(operation: Operation, sequence: int) -> admin_pb2.DataEvent:
    """Write how far an operation is, or what came of it."""
    stage, _, table = operation.stage.partition(" ")
    message = admin_pb2.DataEvent(
        sequence=sequence, stage=stage, table=table, rows=operation.done, operation_id=str(operation.id)
    )
    if not operation.state.ended:
        return message
    result = operation.result
    message.done, message.stage, message.table = True, operation.state, ""
    message.ok = operation.state is OperationState.SUCCEEDED and bool(result.get("ok"))
    message.rows, message.location = result.get("rows", 0), result.get("location", "")
    checks = result.get("checks", [])
    if operation.error:
        checks = [{"name": operation.kind, "ok": False, "detail": operation.error}]
    message.checks.extend(
        wallet_pb2.Check(name=check["name"], ok=check["ok"], detail=check["detail"]) for check in checks
    )
    for field in ("recovery_point", "recovery_time"):
        if f"{field}_seconds" in result:
            getattr(message, field).CopyFrom(duration_message(result[f"{field}_seconds"]))
    return message
