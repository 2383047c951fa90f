"""The vector store over Milvus: one adapter for the embedded Lite child, a server and a cluster.

An index is a collection, a namespace is a field and (hashed) a partition, the live index is an alias. Only what works
alike on Milvus Lite 3.2, Milvus 2.3 and later is used.
"""

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import grpc
from pymilvus import AsyncMilvusClient, DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from server import caller, refusal
from server.vectors import filters
from server.vectors.milvus_failures import refusing
from server.vectors.port import Hit, Vector, VectorFilter, VectorRow
from server.vectors.watching import Guard, Observe, unguarded, unobserved

T = TypeVar("T")

LIVE_ALIAS = "chunks_live"
_PAGE_ROWS = 16_384
"""The most rows a Milvus server returns at once."""
_UPSERT_ROWS = 256
"""Rows per call: 1.5 MB at 1,536 dimensions, so that a search on Lite never waits long behind a write."""
_DELETE_IDS = 1_000
_OVER_FETCH = 8
"""Hits fetched beyond the limit: a store that just recovered may hold a row twice."""
_DATA_SECONDS = 15.0
_DEFINITION_SECONDS = 300.0
_HEALTH_SECONDS = 3.0
_LOAD_TRIES = 4
_LOAD_PAUSE_SECONDS = 0.2
_IDS_TRIES = 10
_IDS_PAUSE_SECONDS = 0.2
_LITE_VERSION = "milvus_lite"
_NOT_LOADED = 101
_HNSW_BUILD = {"M": 16, "efConstruction": 200}
_HNSW_MIN_EF = 96


@dataclass(slots=True)
class _Layout:
    """What is known of a collection that exists and is loaded."""

    dimensions: int
    partitions: set[str] = field(default_factory=set)


class MilvusStore:
    """Implements `server.vectors.port.VectorStore`. Belongs to the event loop it is first used on.

    `index_type` empty means exact search (FLAT) on Lite and HNSW elsewhere; managed services may want AUTOINDEX.
    `guard` (a breaker's call) is asked for `milvus_query` and `milvus_upsert`.
    """

    def __init__(
        self,
        uri: str,
        token: str = "",
        *,
        index_type: str = "",
        timeout_seconds: float = _DATA_SECONDS,
        observe: Observe = unobserved,
        guard: Guard = unguarded,
    ) -> None:
        # The client logs a traceback for every error that is mapped to a refusal here.
        logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
        self._uri = uri
        self._token = token
        self._index_type = index_type
        self._timeout_seconds = timeout_seconds
        self._observe = observe
        self._guard = guard
        self._client = AsyncMilvusClient(uri, token=token, timeout=timeout_seconds)
        self._definitions: MilvusClient | None = None
        self._writing = asyncio.Lock()
        self._layouts: dict[str, _Layout] = {}
        self._lite: bool | None = None
        self.writes = 0
        """Writes of rows that the store acknowledged to us."""

    async def open(self) -> dict[str, int]:
        """Load all indexes and return their row counts, for comparing with PostgreSQL."""
        return {index: await self.count(index) for index in await self.indexes()}

    async def create_index(self, index: str, dimensions: int) -> None:
        """Make the index if it is missing; refuse (Conflict) when it exists with other dimensions."""
        filters.check_index_name(index)
        async with self._writing:
            await self._ensured(
                lambda: self._in_thread(lambda client, **kw: client.has_collection(index, **kw)),
                lambda: self._create(index, dimensions),
            )
            layout = await self._layout(index)
        if layout.dimensions != dimensions:
            raise refusal.Conflict(f"The index has {layout.dimensions} dimensions.", index=index)

    async def dimensions(self, index: str) -> int:
        """Return the length of an index's vectors. Raises NotFound."""
        return (await self._layout(index)).dimensions

    async def upsert(self, index: str, rows: Sequence[VectorRow]) -> int:
        """Write rows by chunk_id, last one wins; acknowledged rows are found by the next search. Returns rows written.

        Refuses (Invalid) vectors that are not finite or of another length. A failure may leave a part of the rows
        written; the same call again completes it.
        """
        layout = await self._layout(index)
        by_partition: defaultdict[str, list[VectorRow]] = defaultdict(list)
        for row in filters.checked(rows, layout.dimensions):
            by_partition[filters.partition_of(row.namespace)].append(row)
        async with self._writing:  # one writer: concurrent writes lose acknowledged rows on Lite
            for partition, part in by_partition.items():
                await self._need_partition(index, layout, partition)
                for batch in _batches(part, _UPSERT_ROWS):
                    await self._delete_moved(index, partition, batch)
                    await self._upsert_batch(index, partition, batch)
        return sum(map(len, by_partition.values()))

    async def search(self, index: str, vector: Vector, limit: int, where: VectorFilter) -> list[Hit]:
        """Return the nearest visible chunks, best first, each id once."""
        layout = await self._layout(index)
        filters.check_query(vector, layout.dimensions)
        partitions = await self._partitions(index, layout, where.namespace)
        if partitions == []:
            return []
        started_at = time.perf_counter()
        searching = partial(
            self._client.search,
            index,
            data=[vector],
            anns_field="vector",
            filter=filters.expression(where),
            limit=min(limit + _OVER_FETCH, _PAGE_ROWS),
            output_fields=["id"],
            search_params={"params": {"ef": max(_HNSW_MIN_EF, 2 * limit)}},
            partition_names=partitions,
            consistency_level="Session",
        )
        found = await self._guard("milvus_query", lambda: self._data(index, searching))
        self._observe("search", where.namespace, time.perf_counter() - started_at, len(found[0]))
        best = {hit["id"]: float(hit["distance"]) for hit in reversed(found[0])}
        return [Hit(*pair) for pair in sorted(best.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]]

    async def delete(self, index: str, chunk_ids: Sequence[str]) -> None:
        """Delete by id; unknown ids are no error."""
        await self._layout(index)
        async with self._writing:
            await self._delete(index, list(dict.fromkeys(chunk_ids)))

    async def delete_document(self, index: str, document_id: UUID) -> None:
        """Delete all vectors of a document."""
        await self._layout(index)
        expression = filters.any_of("document_id", [document_id])
        async with self._writing:
            # Not by the expression itself: 2.3 then forgets the time of the write and shows the rows for a while.
            while found := await self._query(index, expression, limit=_PAGE_ROWS):
                await self._delete(index, [row["id"] for row in found])

    async def count(self, index: str, namespace: str = "") -> int:
        """Count the rows of an index, or of one namespace in it."""
        partitions = await self._partitions(index, await self._layout(index), namespace)
        if partitions == []:
            return 0
        expression = filters.expression(VectorFilter(namespace=namespace, everything=True))
        rows = await self._query(index, expression, fields=["count(*)"], partition_names=partitions)
        return int(rows[0]["count(*)"])

    async def ids(self, index: str) -> set[str]:
        """Return all chunk ids of an index, for comparing with PostgreSQL."""
        await self._layout(index)
        for _ in range(_IDS_TRIES):
            count = await self.count(index)
            found = await self._in_thread(lambda client, **kw: _all_ids(client, index, **kw))
            if len(found) >= count:
                break
            # The iterator asks 2.3 for the rows as they were a moment ago; a count always sees what was written before.
            await asyncio.sleep(_IDS_PAUSE_SECONDS)
        return found

    async def flush(self, index: str) -> None:
        """Make recent rows cheap to search; call once at the end of a batch of work. Servers do this by themselves."""
        if await self._is_lite():
            async with self._writing:
                await self._in_thread(lambda client, **kw: client.flush(index, **kw))

    async def live(self) -> str | None:
        """Return the index the live alias points to, or None."""
        for index in await self.indexes():
            if LIVE_ALIAS in await self._data(index, lambda index=index, **kw: self._client.list_aliases(index, **kw)):
                return index
        return None

    async def activate(self, index: str) -> None:
        """Point the live alias at `index`, atomically."""
        await self._layout(index)
        async with self._writing:
            if await self.live() is None:
                await self._in_thread(lambda client, **kw: client.create_alias(index, LIVE_ALIAS, **kw))
            else:
                await self._in_thread(lambda client, **kw: client.alter_alias(index, LIVE_ALIAS, **kw))

    async def indexes(self) -> list[str]:
        """List the indexes."""
        with refusing():
            names = await self._client.list_collections(timeout=self.remaining_seconds())
        return sorted(name for name in names if name.startswith(filters.INDEX_PREFIX))

    async def drop_index(self, index: str) -> None:
        """Drop an index; the live one is refused (IllegalState), a missing one is no error."""
        filters.check_index_name(index)
        async with self._writing:
            if await self.live() == index:  # Milvus itself would drop it, and the alias with it
                raise refusal.IllegalState("The live index cannot be dropped.", state="live", index=index)
            await self._in_thread(lambda client, **kw: client.drop_collection(index, **kw))
            self._layouts.pop(index, None)

    async def healthy(self) -> bool:
        """Say whether the store answers now."""
        try:
            await self._client.get_server_version(timeout=_HEALTH_SECONDS)
        except (MilvusException, grpc.RpcError):
            return False
        return True

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()
        if self._definitions is not None:
            await asyncio.to_thread(self._definitions.close)
            self._definitions = None

    async def _create(self, index: str, dimensions: int) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=filters.CHUNK_ID_BYTES)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dimensions)
        for name, limit in {"document_id": 36, "owner_id": 36, **filters.FIELD_BYTES}.items():
            schema.add_field(name, DataType.VARCHAR, max_length=limit)
        kind = self._index_type or ("FLAT" if await self._is_lite() else "HNSW")
        vector_index = MilvusClient.prepare_index_params()
        build = _HNSW_BUILD if kind == "HNSW" else {}
        vector_index.add_index("vector", index_type=kind, metric_type="COSINE", params=build)
        # Defined in one call and by the synchronous client: the other one fails half-way on Lite.
        await self._in_thread(
            lambda client, **kw: client.create_collection(index, schema=schema, index_params=vector_index, **kw)
        )

    async def _layout(self, index: str) -> _Layout:
        """Return what is known of an index, loading it on first use. Raises NotFound."""
        layout = self._layouts.get(index)
        if layout is None:
            with refusing():
                description = await self._client.describe_collection(index, timeout=self.remaining_seconds())
            vector = next(item for item in description["fields"] if item["name"] == "vector")
            await self._load(index)
            layout = self._layouts[index] = _Layout(int(vector["params"]["dim"]))
        return layout

    async def _load(self, index: str) -> None:
        """Load a collection into the store's memory; waits out a write of its index files that is still going on."""
        for tries_left in reversed(range(_LOAD_TRIES)):
            try:
                await self._in_thread(lambda client, **kw: client.load_collection(index, **kw))
            except refusal.StoreUnavailable:
                if not tries_left:
                    raise
                await asyncio.sleep(_LOAD_PAUSE_SECONDS)
            else:
                return

    async def _partitions(self, index: str, layout: _Layout, namespace: str) -> list[str] | None:
        """Return the partitions to read: None for all of them, an empty list when the namespace has no rows."""
        if not namespace:
            return None
        partition = filters.partition_of(namespace)
        if partition not in layout.partitions:
            with refusing():
                names = await self._client.list_partitions(index, timeout=self.remaining_seconds())
            layout.partitions.update(names)
        return [partition] if partition in layout.partitions else []

    async def _need_partition(self, index: str, layout: _Layout, partition: str) -> None:
        if partition in layout.partitions:
            return
        await self._ensured(
            lambda: self._in_thread(lambda client, **kw: client.has_partition(index, partition, **kw)),
            lambda: self._in_thread(lambda client, **kw: client.create_partition(index, partition, **kw)),
        )
        layout.partitions.add(partition)

    async def _ensured(self, exists: Callable[[], Awaitable[bool]], make: Callable[[], Awaitable[None]]) -> None:
        """Make what does not exist; that another process made it meanwhile is no error."""
        if await exists():
            return
        try:
            await make()
        except refusal.StoreUnavailable:
            if not await exists():
                raise

    async def _delete_moved(self, index: str, partition: str, batch: list[VectorRow]) -> None:
        """Delete rows that are about to be written into another partition: they would be found in both."""
        expression = filters.any_of("id", [row.chunk_id for row in batch])
        found = await self._query(index, expression, fields=["id", "namespace"])
        moved = [row["id"] for row in found if filters.partition_of(row["namespace"]) != partition]
        await self._delete(index, moved)
        if moved and await self._is_lite():
            # Lite forgets a deletion when the same id is written before the next flush.
            await self._in_thread(lambda client, **kw: client.flush(index, **kw))

    async def _query(
        self, index: str, expression: str, *, fields: Sequence[str] = ("id",), **options: Any
    ) -> list[dict[str, Any]]:
        """Read fields of the rows that an expression holds for, including all that anybody wrote before."""
        options |= {"output_fields": list(fields), "consistency_level": "Strong"}
        return list(await self._data(index, lambda **kw: self._client.query(index, filter=expression, **options, **kw)))

    async def _delete(self, index: str, chunk_ids: list[str]) -> None:
        # By the synchronous client: the other one takes a refused deletion for a done one.
        for batch in _batches(chunk_ids, _DELETE_IDS):
            await self._in_thread(lambda client, batch=batch, **kw: client.delete(index, ids=batch, **kw))
            self.writes += 1

    async def _upsert_batch(self, index: str, partition: str, batch: list[VectorRow]) -> None:
        started_at = time.perf_counter()
        data = [filters.stored(row) for row in batch]
        writing = partial(self._client.upsert, index, data, partition_name=partition)
        await self._guard("milvus_upsert", lambda: self._data(index, writing))
        self.writes += 1
        self._observe("upsert", batch[0].namespace, time.perf_counter() - started_at, len(batch))

    async def _is_lite(self) -> bool:
        if self._lite is None:
            with refusing():
                version = await self._client.get_server_version(timeout=self.remaining_seconds())
            self._lite = version.startswith(_LITE_VERSION)
        return self._lite

    async def _data(self, index: str, call: Callable[..., Awaitable[T]]) -> T:
        """Run a call on rows; a store that restarted meanwhile gets the collection loaded again, once."""
        with refusing():
            try:
                return await call(timeout=self.remaining_seconds())
            except MilvusException as error:
                if error.code != _NOT_LOADED:
                    raise
            await self._load(index)
            return await call(timeout=self.remaining_seconds())

    async def _in_thread(self, call: Callable[..., T]) -> T:
        """Run a call of the synchronous client in a thread: definitions, and what the other client lacks."""

        def run() -> T:
            if self._definitions is None:
                self._definitions = MilvusClient(self._uri, token=self._token, timeout=self._timeout_seconds)
            return call(self._definitions, timeout=_DEFINITION_SECONDS)

        with refusing():
            return await asyncio.to_thread(run)

    def remaining_seconds(self) -> float:
        """Return how long a call may take: without a timeout the client would retry for minutes.

        Raises DeadlineExceeded when the running call's time is over.
        """
        deadline_at = caller.current().deadline_at
        if deadline_at is None:
            return self._timeout_seconds
        remaining = deadline_at - asyncio.get_running_loop().time()
        if remaining <= 0:
            raise refusal.DeadlineExceeded
        return min(self._timeout_seconds, remaining)


def _all_ids(client: MilvusClient, index: str, timeout: float) -> set[str]:
    pages = client.query_iterator(
        index, batch_size=_PAGE_ROWS, output_fields=["id"], consistency_level="Strong", timeout=timeout
    )
    found: set[str] = set()
    try:
        while page := pages.next():
            found.update(row["id"] for row in page)
    finally:
        pages.close()
    return found


def _batches(items: list[T], size: int) -> Iterator[list[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
