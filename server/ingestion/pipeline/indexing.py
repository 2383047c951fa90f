"""The second half of a run: vectors for the chunks that lack them, and the end of those that are gone."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from server.corpus.passage import Chunk
from server.corpus.spaces import Space
from server.corpus.vectors import VectorRefs
from server.database.pool import Connection, Database
from server.ingestion.pipeline.outcome import CountsDiffer
from server.ingestion.pipeline.run import Run
from server.ingestion.pipeline.stores import Stores
from server.ingestion.pipeline.together import in_step
from server.models.port import Embedder, ProviderFailure, Purpose
from server.refusal import Refusal
from server.vectors.port import Vector, VectorRow

EMBED_BATCH = 128
READ_CHUNKS = 8 * EMBED_BATCH
MOST_HELD_VECTORS = 4_096
"""About 16 MB at 1,024 dimensions; longer documents read their vectors back from the database."""

Kept = dict[str, Vector]
"""Vectors by the content hash of the text they were made from."""


@dataclass(frozen=True, slots=True)
class Made:
    """The vectors of some chunks, and which of them are not kept yet."""

    vectors: Kept
    fresh: Kept


Targets = Callable[[], Awaitable[Sequence[Space]]]
"""Returns the indexes that chunks go into: those on their way to be searched first, the searched one last."""

log = structlog.get_logger(__name__)


class Indexing:
    """Embeds and indexes what a document lacks. Each batch is acknowledged by both stores before the next."""

    def __init__(self, stores: Stores, targets: Targets) -> None:
        self._stores = stores
        self._targets = targets
        self._flushing = asyncio.Lock()
        self._unflushed = False

    async def live(self) -> Space:
        """Return the index that searches use now; raises StoreUnavailable while there is none."""
        return (await self._targets())[-1]

    async def embed(self, run: Run, space: Space) -> Kept:
        """Make the vectors that are missing, batch by batch; the same text is never embedded twice.

        Returns the last of them by content hash, as many as a run may hold, to spare reading them again.
        """
        held: Kept = {}
        refs, database, embedder = self._stores.refs, self._stores.database, space.embedder

        latest: Kept = {}

        async def make(chunks: Sequence[Chunk]) -> Made:
            nonlocal latest
            # The batch before may not be kept yet, and its texts may come again.
            made = await made_of(refs, embedder, chunks, held | latest)
            latest = made.vectors
            if len(held) < MOST_HELD_VECTORS:
                held.update(latest)
            return made

        async def store(made: Made) -> None:
            await keep(refs, database, embedder, made, run.report)

        await in_step(self._missing(run, space.index), make, store)
        return held

    async def _vectors_of(self, run: Run, embedder: Embedder, chunks: Sequence[Chunk], held: Kept) -> Kept:
        if {chunk.content_hash for chunk in chunks} <= held.keys():
            return held
        return await vectors_of(self._stores.refs, self._stores.database, embedder, chunks, run.report)

    async def index(self, run: Run, embedded: Space, held: Kept) -> Space:
        """Write the vectors that the indexes lack, and note each batch once the store has acknowledged it.

        Indexes on their way to be searched get them first, so that they never hold less than the searched one, which is
        returned. `held` are vectors of the space `embedded`: a switch may have come since they were made.
        """
        *others, live = await self._targets()
        for other in others:
            await self._follow(run, other)
        done = await self._stores.refs.count(live.index, document_id=run.job.document_id)
        await self._write(run, live, held if live.index == embedded.index else {}, done)
        return live

    async def _follow(self, run: Run, space: Space) -> None:
        """Write into an index on its way. Its trouble is not this document's: whoever fills it takes the rest."""
        try:
            await self._write(run, space, {})
        except (ProviderFailure, Refusal) as problem:
            log.warning("index_not_followed", index=space.index, job_id=str(run.job.id), problem=str(problem))

    async def _write(self, run: Run, space: Space, held: Kept, done: int | None = None) -> None:
        """Write what an index lacks of a document; `done` counts on, for the job's progress, from what it holds."""
        embedder = space.embedder

        async def write(chunks: Sequence[Chunk]) -> Sequence[Chunk]:
            vectors = await self._vectors_of(run, embedder, chunks, held)
            rows = [vector_row(chunk, vectors[chunk.content_hash]) for chunk in chunks]
            await self._stores.vectors.upsert(space.index, rows)
            return chunks

        async def note(chunks: Sequence[Chunk]) -> None:
            nonlocal done
            progress = {}
            if done is not None:
                done += len(chunks)
                progress = {"chunks_done": min(done, run.progress.chunks_total)}
            async with self._stores.database.transaction() as connection:
                await run.report(connection, **progress)
                await self._stores.refs.refer(connection, space.index, embedder.name, embedder.dimensions, chunks)

        await in_step(self._missing(run, space.index), write, note)

    async def flush(self, index: str) -> None:
        """Make what was written cheap to search. Runs that end together share one flush."""
        self._unflushed = True
        async with self._flushing:
            if self._unflushed:
                self._unflushed = False
                await self._stores.vectors.flush(index)

    async def _missing(self, run: Run, index: str) -> AsyncIterator[list[Chunk]]:
        """Yield batches of the chunks that an index lacks, read several batches at a time."""
        after: str | None = ""
        document_id = run.job.document_id
        while after is not None:
            chunks = await self._stores.refs.missing(index, document_id=document_id, after=after, limit=READ_CHUNKS)
            for start in range(0, len(chunks), EMBED_BATCH):
                yield chunks[start : start + EMBED_BATCH]
            after = chunks[-1].id if len(chunks) == READ_CHUNKS else None

    async def retire(self, run: Run, index: str, generation: int, expected: int) -> None:
        """Delete what earlier generations left, vectors first; raise CountsDiffer unless all counts agree."""
        document_id = run.job.document_id
        async with self._stores.database.transaction() as connection:
            gone = await self._stores.corpus.obsolete_chunks(connection, document_id, generation)
        if gone:
            for name in await self._stores.vectors.indexes():
                await self._stores.vectors.delete(name, gone)
        async with self._stores.database.transaction() as connection:
            await run.report(connection, chunks_done=expected)
            chunks = await self._stores.corpus.retire_chunks(connection, document_id, generation)
        vectors = await self._stores.refs.count(index, document_id=document_id)
        if not chunks == vectors == expected:
            raise CountsDiffer(f"{expected} chunks were made, {chunks} are stored and {vectors} have vectors")


async def vectors_of(
    refs: VectorRefs,
    database: Database,
    embedder: Embedder,
    chunks: Sequence[Chunk],
    guard: Callable[[Connection], Awaitable[None]],
) -> Kept:
    """Return the vectors of chunks by content hash: kept in the database, or made by the model and kept now.

    `guard` may refuse in the transaction that keeps them. Raises ProviderFailure.
    """
    made = await made_of(refs, embedder, chunks, {})
    await keep(refs, database, embedder, made, guard)
    return made.vectors


async def made_of(refs: VectorRefs, embedder: Embedder, chunks: Sequence[Chunk], held: Kept) -> Made:
    """Return the vectors of chunks: held, kept in the database or else made by the model. Raises ProviderFailure."""
    texts = {chunk.content_hash: chunk.text for chunk in chunks}
    vectors = {content: held[content] for content in texts.keys() & held.keys()}
    if len(vectors) < len(texts):
        vectors |= await refs.kept(embedder.name, [content for content in texts if content not in vectors])
    unknown = [content for content in texts if content not in vectors]
    if not unknown:
        return Made(vectors, {})
    made = await embedder.embed([texts[content] for content in unknown], Purpose.PASSAGE)
    fresh = dict(zip(unknown, made, strict=True))
    return Made(vectors | fresh, fresh)


async def keep(
    refs: VectorRefs,
    database: Database,
    embedder: Embedder,
    made: Made,
    guard: Callable[[Connection], Awaitable[None]],
) -> None:
    """Keep the vectors that are new; `guard` may refuse in the transaction that does."""
    if made.fresh:
        async with database.transaction() as connection:
            await guard(connection)
            await refs.keep(connection, embedder.name, made.fresh)


def vector_row(chunk: Chunk, vector: Vector) -> VectorRow:
    """Return what the vector store keeps of a chunk."""
    return VectorRow(
        chunk_id=chunk.id,
        vector=vector,
        document_id=chunk.document_id,
        namespace=chunk.namespace,
        subject=chunk.subject,
        grade=chunk.grade,
        language=chunk.language,
        owner_id=chunk.owner_id if chunk.private else None,
    )
