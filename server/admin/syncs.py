"""Syncs of web sources as operations: asked for or due by the clock, run by a worker, told page by page to watchers."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from server.admin.operation import Operation, OperationState, Progress, Stopped
from server.admin.operations import FAILED_INSIDE, Operations
from server.admin.store.syncs import SYNC_SOURCE, SyncStore
from server.database.once import Once
from server.database.pool import Connection, Database
from server.ingestion.sources.service import SourceService
from server.ingestion.sources.source import SyncedPage, Verdict
from server.ingestion.sources.sync import SourceSync
from server.refusal import Conflict, Refusal

STOPPED = "stopped by a person"
SILENT_SECONDS = 9.0
"""After this long without a page a watcher gets a sign of life with the next look at the operation."""
_ROWS = 200


@dataclass(frozen=True, slots=True)
class SyncEvent:
    """A page's verdict, how the sync ended (`outcome`), or neither: a sign of life. Sequences have no gaps."""

    sequence: int
    pages_fetched: int
    pages_ingested: int
    page: SyncedPage | None = None
    outcome: str | None = None
    failed: bool = False


class SyncRunner:
    """Runs a sync; run again after a crash it goes over the site once more, which costs what an unchanged site does."""

    def __init__(self, database: Database, sources: SourceService, sync: SourceSync) -> None:
        self._database = database
        self._sources = sources
        self._sync = sync
        self._store = SyncStore()

    async def __call__(self, operation: Operation, progress: Progress) -> Mapping[str, Any]:
        """Sync the source of `operation.task`, keep each verdict and note the outcome on the source."""
        source_id = UUID(operation.task["source_id"])
        try:
            complete = await self._visit(operation.id, source_id, progress)
        except Stopped:
            await self._end(operation.id, source_id, STOPPED)
            raise
        except Exception as error:
            await self._end(operation.id, source_id, str(error) if isinstance(error, Refusal) else FAILED_INSIDE)
            raise
        return await self._end(operation.id, source_id, "" if complete else "stopped: the source was paused or deleted")

    async def _visit(self, operation_id: UUID, source_id: UUID, progress: Progress) -> bool:
        """Visit the pages; False when the source was paused or deleted meanwhile."""
        async with self._database.transaction() as connection:
            source = await self._sources.ready(connection, source_id)
        visited = 0
        await progress.report("fetching", visited, source.plan.max_pages)
        async with aclosing(self._sync.sync(source)) as pages:
            async for page in pages:
                visited += 1
                async with self._database.transaction() as connection:
                    await self._store.add(connection, operation_id, page)
                await progress.report("fetching", visited, source.plan.max_pages)
                if not await self._sources.active(source_id):
                    return False
        return True

    async def _end(self, operation_id: UUID, source_id: UUID, trouble: str) -> Mapping[str, Any]:
        async with self._database.transaction() as connection:
            counts = await self._store.count(connection, operation_id)
            outcome = "; ".join(part for part in (_in_words(counts), trouble) if part)
            await self._sources.ended(connection, source_id, outcome, sum(counts.values()))
        return {"outcome": outcome, **{verdict.value: count for verdict, count in sorted(counts.items())}}


class Syncs:
    """Starts syncs and tells what they find."""

    def __init__(self, database: Database, once: Once, sources: SourceService, operations: Operations) -> None:
        self._database = database
        self._once = once
        self._sources = sources
        self._operations = operations
        self._store = SyncStore()

    async def start(self, source_id: UUID, request_id: UUID) -> UUID:
        """Ask for a sync and return its operation; the same request again returns the first one.

        Raises NotFound, IllegalState for a paused source, SourceRefused for a host that is not allowed, and Conflict
        while another sync of the source has not ended.
        """

        async def effect(connection: Connection) -> UUID:
            return await self._add(connection, source_id)

        return await self._once.run("SyncSource", request_id, source_id, UUID, effect)

    async def start_due(self) -> int:
        """Start the scheduled sync that waits longest; returns how many (0 or 1). For the schedule.

        One after another: syncs mostly wait for their sites, and must not take all places of the workers.
        """
        async with self._database.transaction() as connection:
            await self._store.sweep(connection)
            due = [] if await self._store.busy(connection) else await self._sources.due(connection)
        for source_id in due:
            try:
                async with self._database.transaction() as connection:
                    await self._add(connection, source_id)
            except Conflict:
                return 0  # somebody started it this moment
            except Refusal as refusal:
                async with self._database.transaction() as connection:
                    await self._sources.ended(connection, source_id, str(refusal), 0)
                continue
            return 1
        return 0

    async def watch(self, operation_id: UUID, silent_seconds: float = SILENT_SECONDS) -> AsyncIterator[SyncEvent]:
        """Yield what a sync found from its beginning, and how it ended; works whichever process runs it."""
        clock = asyncio.get_running_loop().time
        sequence = fetched = ingested = 0
        told_at = clock()
        async for operation in self._operations.watch(operation_id):
            while pages := await self._after(operation_id, fetched):
                for page in pages:
                    sequence, fetched, told_at = sequence + 1, fetched + 1, clock()
                    ingested += page.verdict is Verdict.INGESTED
                    yield SyncEvent(sequence, fetched, ingested, page)
            if operation.state.ended:
                failed = operation.state is OperationState.FAILED
                yield SyncEvent(sequence + 1, fetched, ingested, outcome=_outcome(operation), failed=failed)
            elif clock() - told_at >= silent_seconds:
                sequence, told_at = sequence + 1, clock()
                yield SyncEvent(sequence, fetched, ingested)

    async def _add(self, connection: Connection, source_id: UUID) -> UUID:
        source = await self._sources.ready(connection, source_id)
        task = {"source_id": str(source.id), "start_url": source.plan.start_url}
        return await self._operations.add(connection, SYNC_SOURCE, task, object=f"source/{source.id}")

    async def _after(self, operation_id: UUID, sequence: int) -> list[SyncedPage]:
        async with self._database.transaction() as connection:
            return [kept.page for kept in await self._store.after(connection, operation_id, sequence, _ROWS)]


def _outcome(operation: Operation) -> str:
    if operation.state is OperationState.SUCCEEDED:
        return str(operation.result.get("outcome", ""))
    return operation.error or STOPPED


def _in_words(counts: Mapping[Verdict, int]) -> str:
    told = ", ".join(f"{counts[verdict]} {verdict}" for verdict in Verdict if counts.get(verdict))
    total = sum(counts.values())
    return f"{total} {'page' if total == 1 else 'pages'}" + (f": {told}" if told else "")
