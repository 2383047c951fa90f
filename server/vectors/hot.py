"""The embedded store with its rows in memory: searched in about 1 ms where Milvus Lite needs 15 for every 1,000 rows.

Milvus Lite keeps the rows and remains the truth. Its child counts every write; a count that we did not cause means that
somebody else wrote, and the memory is read anew. Whatever the memory cannot serve, the store does.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
import structlog

from server import caller, refusal
from server.vectors import filters
from server.vectors.lite_rows import LiteRows, RowBlock
from server.vectors.milvus import MilvusStore
from server.vectors.port import Hit, Vector, VectorFilter, VectorRow
from server.vectors.table import Table
from server.vectors.watching import Observe, unobserved

_log = structlog.get_logger(__name__)

MAX_BYTES: Final = 512 * 1024 * 1024
"""Vectors of one index held in memory: 128,000 rows of 1,024 dimensions. Larger ones are searched by the store."""
_IN_THREAD_VALUES: Final = 8_000_000
"""Searches that read more values (rows times dimensions in use) run beside the event loop; fewer take about 1 ms."""
_PAUSE_SECONDS: Final = 5.0
"""Between two readings of an index that others write to."""


@dataclass(slots=True)
class _Memory:
    """A table and the count of writes it shows; `writing` while writes of our own are under way."""

    table: Table
    dimensions: int
    writes: int
    writing: bool = False


class HotVectors:
    """Implements `server.vectors.port.VectorStore` over `store`, reading whole indexes through `rows`."""

    def __init__(
        self, store: MilvusStore, rows: LiteRows, *, max_bytes: int = MAX_BYTES, observe: Observe = unobserved
    ) -> None:
        self._store = store
        self._rows = rows
        self._max_bytes = max_bytes
        self._observe = observe
        self._memories: dict[str, _Memory] = {}
        self._too_large: set[str] = set()
        self._readings: dict[str, asyncio.Task[None]] = {}
        self._changing = asyncio.Lock()

    async def open(self) -> dict[str, int]:
        """Load all indexes, begin to read the live one, and return all row counts."""
        counts = await self._store.open()
        live = await self._store.live()
        if live is not None:
            self._begin_reading(live)
        return counts

    async def search(self, index: str, vector: Vector, limit: int, where: VectorFilter) -> list[Hit]:
        """Return the nearest visible chunks, best first, each id once."""
        memory = self._current(index)
        if memory is None:
            return await self._store.search(index, vector, limit, where)
        filters.check_query(vector, memory.dimensions)
        self._store.remaining_seconds()
        started_at = time.perf_counter()
        if len(memory.table) * np.count_nonzero(vector) > _IN_THREAD_VALUES:
            hits = await asyncio.to_thread(memory.table.search, vector, limit, where)
        else:
            hits = memory.table.search(vector, limit, where)
        self._observe("search", where.namespace, time.perf_counter() - started_at, len(hits))
        return hits

    async def create_index(self, index: str, dimensions: int) -> None:
        """Make the index if it is missing; refuse (Conflict) when it exists with other dimensions."""
        await self._store.create_index(index, dimensions)

    async def upsert(self, index: str, rows: Sequence[VectorRow]) -> int:
        """Write rows by chunk_id, last one wins; the next search finds acknowledged rows. Returns rows written."""
        async with self._write(index) as memory:
            written = await self._store.upsert(index, rows)
            if memory is not None and rows:
                memory.table.put(_block(rows))
        return written

    async def delete(self, index: str, chunk_ids: Sequence[str]) -> None:
        """Delete by id; unknown ids are no error."""
        async with self._write(index) as memory:
            await self._store.delete(index, chunk_ids)
            if memory is not None:
                memory.table.remove(chunk_ids)

    async def delete_document(self, index: str, document_id: UUID) -> None:
        """Delete all vectors of a document."""
        async with self._write(index) as memory:
            await self._store.delete_document(index, document_id)
            if memory is not None:
                memory.table.remove_document(str(document_id))

    async def count(self, index: str, namespace: str = "") -> int:
        """Count the rows of an index, or of one namespace in it, as the store has them."""
        return await self._store.count(index, namespace)

    async def ids(self, index: str) -> set[str]:
        """Return all chunk ids of an index, as the store has them."""
        return await self._store.ids(index)

    async def flush(self, index: str) -> None:
        """Make recent rows cheap to search for those without our memory; call once at the end of a batch of work."""
        await self._store.flush(index)

    async def live(self) -> str | None:
        """Return the index the live alias points to, or None."""
        return await self._store.live()

    async def activate(self, index: str) -> None:
        """Point the live alias at `index`, atomically."""
        await self._store.activate(index)
        self._current(index)

    async def indexes(self) -> list[str]:
        """List the indexes."""
        return await self._store.indexes()

    async def drop_index(self, index: str) -> None:
        """Drop an index; the live one is refused (IllegalState), a missing one is no error."""
        async with self._changing:
            await self._store.drop_index(index)
            self._memories.pop(index, None)
            self._too_large.discard(index)

    async def healthy(self) -> bool:
        """Say whether the store answers now."""
        return await self._store.healthy()

    async def settled(self) -> None:
        """Wait until all readings that have begun are done."""
        await asyncio.gather(*self._readings.values())

    async def close(self) -> None:
        """Release connections and memory."""
        readings = list(self._readings.values())
        for reading in readings:
            reading.cancel()
        await asyncio.gather(*readings, return_exceptions=True)
        self._memories.clear()
        await self._store.close()

    def _current(self, index: str) -> _Memory | None:
        """Return the memory of an index if it shows all that was written; else begin to read it."""
        memory = self._memories.get(index)
        if memory is not None and not memory.writing and memory.writes != self._rows.writes(index):
            del self._memories[index]
            memory = None
        if memory is None:
            self._begin_reading(index)
        return memory

    @asynccontextmanager
    async def _write(self, index: str) -> AsyncIterator[_Memory | None]:
        """Hold the memory of an index while we write, and keep it if all writes that were counted are ours."""
        async with self._changing:
            memory = self._current(index)
            if memory is not None:
                memory.writing = True
            before = self._store.writes
            try:
                yield memory
            except BaseException:
                self._memories.pop(index, None)  # how much was written is not known
                raise
            if memory is not None:
                memory.writes += self._store.writes - before
                memory.writing = False
                self._current(index)

    def _begin_reading(self, index: str) -> None:
        if index not in self._readings and index not in self._too_large:
            with caller.acting_as(caller.system()):  # not under the deadline of the search that asked for it
                self._readings[index] = asyncio.create_task(self._read(index), name=f"read-{index}")

    async def _read(self, index: str) -> None:
        try:
            async with self._changing:
                complete = await self._remember(index)
            if not complete:
                await asyncio.sleep(_PAUSE_SECONDS)
        except refusal.Refusal as problem:
            _log.warning("index_not_read", index=index, problem=problem.reason)
            await asyncio.sleep(_PAUSE_SECONDS)
        finally:
            del self._readings[index]

    async def _remember(self, index: str) -> bool:
        """Read an index into memory; False when somebody wrote meanwhile."""
        dimensions = await self._store.dimensions(index)
        table, writes = Table(dimensions), self._rows.writes(index)
        async for block in self._rows.read(index):
            await asyncio.to_thread(table.put, block)
            if table.size_bytes > self._max_bytes:
                self._too_large.add(index)
                _log.info("index_too_large_for_memory", index=index, bytes=table.size_bytes)
                return True
        if self._rows.writes(index) != writes:
            return False
        self._memories[index] = _Memory(table, dimensions, writes)
        _log.info("index_in_memory", index=index, rows=len(table), bytes=table.size_bytes)
        return True


def _block(rows: Sequence[VectorRow]) -> RowBlock:
    """Return rows side by side, the last one of each id."""
    last = list({row.chunk_id: row for row in rows}.values())
    fields = {
        "namespace": [row.namespace for row in last],
        "subject": [row.subject for row in last],
        "grade": [row.grade for row in last],
        "language": [row.language for row in last],
        "document_id": [str(row.document_id) for row in last],
        "owner_id": [str(row.owner_id or "") for row in last],
    }
    return RowBlock([row.chunk_id for row in last], np.stack([row.vector for row in last]), fields)
