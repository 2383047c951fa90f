"""Which vectors exist: kept by the text they were made from, and referred to by every index that holds them."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from server.corpus.passage import Chunk
from server.corpus.store import VectorRefStore
from server.corpus.store.vectors import Vector
from server.database.pool import Connection, Database

KEEP_UNUSED_DAYS = 30


class VectorRefs:
    """For ingestion, reindexing and recovery; all of it as the system or an administrator, others see nothing."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = VectorRefStore()

    async def kept(self, model: str, content_hashes: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that `model` made before, by content hash: the same text is not embedded twice."""
        async with self._database.transaction() as connection:
            return await self._store.kept(connection, model, content_hashes)

    async def keep(self, connection: Connection, model: str, made: Mapping[str, Vector]) -> None:
        """Keep vectors by content hash, for `kept` and for rebuilding an index."""
        await self._store.keep(connection, model, made)

    async def refer(
        self, connection: Connection, index: str, model: str, dimensions: int, chunks: Sequence[Chunk]
    ) -> set[str]:
        """Note that `index` now holds the vectors of these chunks; returns the ids of those that it was noted for.

        Chunks that were deleted, or changed in text or filing since they were read, are left out.
        """
        return await self._store.refer(connection, index, model, dimensions, chunks)

    async def forget(self, connection: Connection, index: str, ids: Sequence[str]) -> None:
        """Have the vectors of these chunks written into `index` again."""
        await self._store.forget(connection, index, ids)

    async def forget_range(self, connection: Connection, index: str, after: str, until: str) -> None:
        """Have the vectors of the chunks after one id, up to another, written into `index` again."""
        await self._store.forget_range(connection, index, after, until)

    async def forget_namespace(self, connection: Connection, index: str, namespace: str) -> None:
        """Have the vectors of a namespace written into `index` again."""
        await self._store.forget_namespace(connection, index, namespace)

    async def existing(self, connection: Connection, ids: Sequence[str]) -> set[str]:
        """Return which of these chunks exist."""
        return await self._store.existing(connection, ids)

    async def lacking(self, connection: Connection, index: str, other: str, namespace: str = "") -> int:
        """Count the chunks whose present text `other` holds and `index` does not."""
        return await self._store.lacking(connection, index, other, namespace)

    async def missing(
        self, index: str, *, document_id: UUID | None = None, namespace: str = "", after: str = "", limit: int = 100
    ) -> list[Chunk]:
        """Return chunks, in order of their ids, whose present text has no vector in `index`: what is left to do."""
        async with self._database.transaction() as connection:
            return await self._store.missing(connection, index, document_id, namespace, after, limit)

    async def count(self, index: str, *, document_id: UUID | None = None, namespace: str = "") -> int:
        """Count the vectors that `index` should hold."""
        async with self._database.transaction() as connection:
            return await self._store.count(connection, index, document_id, namespace)

    async def ids(self, index: str) -> set[str]:
        """Return the chunk ids that `index` should hold."""
        async with self._database.transaction() as connection:
            return await self._store.referred_ids(connection, index)

    async def stored(self, index: str, after: str, limit: int) -> list[tuple[Chunk, Vector]]:
        """Return what `index` should hold, in order of chunk ids: for building it again without a model."""
        async with self._database.transaction() as connection:
            return await self._store.referred(connection, index, after, limit)

    async def drop(self, connection: Connection, index: str, document_id: UUID | None = None) -> None:
        """Forget what `index` holds (it was dropped), or what it holds of one document (to be made again)."""
        await self._store.drop(connection, index, document_id)

    async def sweep(self) -> int:
        """Delete vectors that were made 30 days ago or longer and that no index refers to; returns how many."""
        async with self._database.transaction() as connection:
            return await self._store.sweep(connection, KEEP_UNUSED_DAYS)
