"""Long-running work: asked for once, done by a worker, watched from any process, stopped on request."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from server.admin.audit import Audit
from server.admin.operation import Operation, OperationState, Runner, Stopped
from server.admin.store.operations import OperationStore
from server.caller import current
from server.database.once import Once
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Connection, Database
from server.jobs.queue import OPERATIONS_QUEUE, JobQueue
from server.refusal import Conflict, IllegalState, NotFound, Refusal

RUN_OPERATION = "run_operation"
"""The queue's name for the run of an operation."""
POLL_SECONDS = 0.3
HEARTBEAT_SECONDS = 5.0
FAILED_INSIDE = "It failed by a fault of the server; its log says more under this request id."

log = structlog.get_logger(__name__)


class Operations:
    """Operations of the kinds that `runners` know, one at a time per kind and object."""

    def __init__(
        self, database: Database, once: Once, audit: Audit, queue: JobQueue, runners: Mapping[str, Runner]
    ) -> None:
        self._database = database
        self._once = once
        self._audit = audit
        self._queue = queue
        self._runners = dict(runners)
        self._store = OperationStore()

    async def start(
        self,
        kind: str,
        task: Mapping[str, Any],
        request_id: UUID,
        *,
        object: str = "",
        problem: Refusal | None = None,
    ) -> Operation:
        """Ask for work; the same request again returns the same operation, as it stands now.

        The operation, its audit and its place in the queue are one transaction. Raises Conflict while another
        operation of this kind on this object has not ended, and `problem`, but not to a request that was served before.
        """

        async def effect(connection: Connection) -> UUID:
            if problem is not None:
                raise problem
            return await self.add(connection, kind, task, object=object)

        return await self.get(await self._once.run(f"start.{kind}", request_id, (object, task), UUID, effect))

    async def add(self, connection: Connection, kind: str, task: Mapping[str, Any], *, object: str = "") -> UUID:
        """Ask for work in an open transaction and return the operation's id. Raises Conflict as `start` does."""
        operation = await self._store.add(connection, kind, object, task, current().user_id, current().request_id)
        if operation is None:
            raise Conflict(f"Another {kind} has not ended yet; wait for it or cancel it.")
        await self._audit.record(connection, f"operation.{kind}", f"operation/{operation.id}", None, task)
        await self._queue.enqueue(
            connection, RUN_OPERATION, {"operation_id": str(operation.id)}, queue=OPERATIONS_QUEUE
        )
        return operation.id

    async def get(self, operation_id: UUID) -> Operation:
        """Return an operation. Raises NotFound."""
        async with self._database.transaction() as connection:
            return _found(await self._store.get(connection, operation_id))

    async def list(self, kind: str, *, size: int, page_token: str) -> Page[Operation]:
        """List operations, newest first, of one kind if given."""
        filters = ("operations", kind)
        size = page_size(size)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.list(connection, kind, after, size + 1)
        return cut(rows, size, filters, lambda operation: (operation.created_at, operation.id))

    async def cancel(self, operation_id: UUID, request_id: UUID) -> Operation:
        """Stop an operation; its runner cleans up. Raises NotFound, and IllegalState when it has ended."""

        async def effect(connection: Connection) -> Operation:
            before = _found(await self._store.get(connection, operation_id))
            cancelled = await self._store.end(connection, operation_id, OperationState.CANCELLED, before.result)
            if cancelled is None:
                raise IllegalState("The operation has ended.", state=before.state)
            await self._audit.record(
                connection, "operation.cancel", f"operation/{operation_id}", before.state, cancelled.state
            )
            return cancelled

        return await self._once.run("CancelOperation", request_id, operation_id, Operation, effect)

    async def watch(self, operation_id: UUID, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> AsyncIterator[Operation]:
        """Yield the operation now, at every change and when nothing changed for a while, until it has ended.

        It reads the row, so it works whichever process does the work. Raises NotFound.
        """
        loop = asyncio.get_running_loop()
        last, told_at = None, 0.0
        while True:
            operation = await self.get(operation_id)
            if operation != last or loop.time() - told_at >= heartbeat_seconds:
                last, told_at = operation, loop.time()
                yield operation
            if operation.state.ended:
                return
            await asyncio.sleep(POLL_SECONDS)

    async def run(self, operation_id: UUID) -> None:
        """Do the work. For the queue, which runs it again after a crash or a refusal that may go away."""
        async with self._database.transaction() as connection:
            operation = await self._store.begin(connection, operation_id)
        if operation is None:
            return
        try:
            result = await self._runners[operation.kind](operation, _Line(self._database, self._store, operation.id))
        except Stopped:
            log.info("operation_stopped", operation_id=str(operation_id), kind=operation.kind)
            return
        async with self._database.transaction() as connection:
            await self._store.end(connection, operation_id, OperationState.SUCCEEDED, result)

    async def give_up(self, operation_id: UUID, error: BaseException) -> None:
        """Mark an operation as failed that the queue will not run again, with a sentence that people may read."""
        sentence = _in_words(error) if isinstance(error, Refusal) else FAILED_INSIDE
        async with self._database.transaction() as connection:
            await self._store.end(connection, operation_id, OperationState.FAILED, {}, sentence)


@dataclass(frozen=True, slots=True)
class _Line:
    """Writes progress into the operation's row, where its watchers look."""

    database: Database
    store: OperationStore
    operation_id: UUID

    async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Keep how far the work is. Raises Stopped once it was cancelled."""
        async with self.database.transaction() as connection:
            running = await self.store.report(connection, self.operation_id, stage, done, total)
        if not running:
            raise Stopped


def _in_words(refusal: Refusal) -> str:
    """Return a refusal with its violations in one sentence: whoever reads it has no other details."""
    return "; ".join(f"{each.field} {each.description}" for each in refusal.violations) or str(refusal)


def _found(operation: Operation | None) -> Operation:
    if operation is None:
        raise NotFound
    return operation
