"""The embedded store with its rows in memory: exact answers in milliseconds where Milvus Lite needs 15 ms per 1,000 rows.

Milvus Lite keeps the rows and remains the truth. Its child counts every write; a count that we did not cause means that
somebody else wrote, and the memory is read anew. Whatever the memory cannot serve, the store does.
"""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
import structlog

from server import refusal
from server.vectors import filters
from server.vectors.lite_rows import LiteRows, RowBlock
from server.vectors.milvus import MilvusStore, Observe, unobserved
from server.vectors.port import Hit, Vector, VectorFilter, VectorRow
from server.vectors.table import Table

_log = structlog.get_logger(__name__)

MAX_BYTES: Final = 512 * 1024 * 1024
"""Vectors of one index held in memory: 128,000 rows of 1,024 dimensions. Larger ones are searched by the store."""
_IN_THREAD_ROWS: Final = 2_000
"""Searches over more rows run beside the event loop."""
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
        started_at = time.perf_counter()
        if len(memory.table) > _IN_THREAD_ROWS:
            hits = await asyncio.to_thread(memory.table.search, vector, limit, where)
        else:
            hits = memory.table.search(vector, limit, where)
        self._observe("search", where.namespace, time.perf_counter() - started_at, len(hits))
        return hits
