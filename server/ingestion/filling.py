"""Filling an index from PostgreSQL while the library goes on changing: batch by batch, killed and run again at will.

What is left to do is asked of the database each time, so nothing needs to be remembered but the batch that was being
written: a newer vector of one of its chunks may have been overwritten just when the process died.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from server.corpus.catalogue import IndexCatalogue
from server.corpus.index import VectorIndex
from server.corpus.passage import Chunk
from server.corpus.vectors import VectorRefs
from server.database.pool import Connection, Database
from server.ingestion.pipeline.indexing import Kept, vector_row, vectors_of
from server.models.port import Embedder, ProviderFailure
from server.refusal import Conflict, ModelUnavailable
from server.vectors.port import VectorStore

BATCH: Final = 100
MOST_PASSES: Final = 20
"""Rounds over the library before giving up: each takes what changed during the one before."""
EMBED_TRIES: Final = 8
FIRST_WAIT_SECONDS: Final = 1.0
LONGEST_WAIT_SECONDS: Final = 60.0

Report = Callable[[int], Awaitable[None]]
"""Hears how many chunks were written since; raises to stop."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Findings:
    """What a comparison of an index with PostgreSQL found; `lost` are written again, `left_behind` are deleted."""

    lost: int
    left_behind: int


class Filling:
    """Writes what an index lacks, as the system."""

    def __init__(
        self,
        database: Database,
        refs: VectorRefs,
        vectors: VectorStore,
        catalogue: IndexCatalogue,
        *,
        batch: int = BATCH,
        first_wait_seconds: float = FIRST_WAIT_SECONDS,
    ) -> None:
        self._database = database
        self._refs = refs
        self._vectors = vectors
        self._catalogue = catalogue
        self._batch = batch
        self._first_wait_seconds = first_wait_seconds

    async def complete(self, index: VectorIndex, embedder: Embedder, report: Report, namespace: str = "") -> None:
        """Fill an index, of one namespace if given, until it holds exactly what PostgreSQL has.

        Raises ModelUnavailable, StoreUnavailable, and Conflict when the library changes faster than it can be filled
        or somebody else fills the index.
        """
        await self._repeat_batch(index)
        for _ in range(MOST_PASSES):
            written = await self._fill(index, embedder, report, namespace)
            await self._vectors.flush(index.name)
            found = await self.compare(index.name)
            log.info("index_filled", index=index.name, written=written, lost=found.lost, left=found.left_behind)
            if not found.lost:
                return
        raise Conflict("The library changes faster than this index can be filled.", index=index.name)

    async def compare(self, index: str) -> Findings:
        """Compare the ids of an index with PostgreSQL: have lost ones written again, delete what was left behind."""
        expected = await self._refs.ids(index)
        held = await self._vectors.ids(index)
        async with self._database.transaction() as connection:
            gone = held - expected
            left_behind = gone - await self._refs.existing(connection, list(gone)) if gone else set()
            lost = await self._refs.existing(connection, list(expected - held)) if expected - held else set()
            await self._refs.forget(connection, index, list(lost))
        if left_behind:
            await self._vectors.delete(index, list(left_behind))
            async with self._database.transaction() as connection:
                # Should one of them have come back meanwhile, it is written again.
                await self._refs.forget(connection, index, list(left_behind))
        return Findings(len(lost), len(left_behind))

    async def _repeat_batch(self, index: VectorIndex) -> None:
        if index.batch_until:
            async with self._database.transaction() as connection:
                await self._refs.forget_range(connection, index.name, index.batch_after, index.batch_until)

    async def _fill(self, index: VectorIndex, embedder: Embedder, report: Report, namespace: str) -> int:
        """Go once through the chunks that the index lacks; return how many were written."""
        written, after = 0, ""
        while chunks := await self._refs.missing(index.name, namespace=namespace, after=after, limit=self._batch):
            vectors = await self._embedded(index, embedder, chunks, after, report)
            await self._write(index, embedder, chunks, vectors)
            after = chunks[-1].id
            written += len(chunks)
            await report(len(chunks))
        return written

    async def _embedded(
        self, index: VectorIndex, embedder: Embedder, chunks: Sequence[Chunk], after: str, report: Report
    ) -> Kept:
        """Return the vectors of a batch, waiting for a model that asks to be left alone for a while."""

        async def guard(connection: Connection) -> None:
            await self._catalogue.note_batch(connection, index, after, chunks[-1].id)

        async with self._database.transaction() as connection:
            await guard(connection)
        wait = self._first_wait_seconds
        for tries_left in reversed(range(EMBED_TRIES)):
            try:
                return await vectors_of(self._refs, self._database, embedder, chunks, guard)
            except ProviderFailure as failure:
                if not failure.transient or not tries_left:
                    raise ModelUnavailable(
                        f"The embedding model {embedder.name} does not answer.", model=embedder.name
                    ) from failure
                pause = min(failure.retry_after_seconds or wait, LONGEST_WAIT_SECONDS)
            log.warning("reindex_waits", index=index.name, model=embedder.name, seconds=pause)
            await report(0)
            await asyncio.sleep(pause)
            wait *= 2
        raise AssertionError

    async def _write(self, index: VectorIndex, embedder: Embedder, chunks: Sequence[Chunk], vectors: Kept) -> None:
        """Write a batch; of chunks that changed meanwhile nothing is left but that they lack a vector."""
        await self._vectors.upsert(index.name, [vector_row(chunk, vectors[chunk.content_hash]) for chunk in chunks])
        async with self._database.transaction() as connection:
            noted = await self._refs.refer(connection, index.name, embedder.name, embedder.dimensions, chunks)
            changed = [chunk.id for chunk in chunks if chunk.id not in noted]
            gone = set(changed) - await self._refs.existing(connection, changed) if changed else set()
            # Whoever changed them may have written a newer vector before ours replaced it.
            await self._refs.forget(connection, index.name, changed)
        if gone:
            await self._vectors.delete(index.name, list(gone))
