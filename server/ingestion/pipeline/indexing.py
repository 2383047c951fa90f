"""The second half of a run: vectors for the chunks that lack them, and the end of those that are gone."""

import asyncio
from collections.abc import Sequence

from server.corpus.passage import Chunk
from server.ingestion.pipeline.outcome import CountsDiffer
from server.ingestion.pipeline.run import Run
from server.ingestion.pipeline.stores import Stores
from server.models.port import Embedder, Purpose
from server.refusal import StoreUnavailable
from server.vectors.port import Vector, VectorRow

EMBED_BATCH = 64
MOST_HELD_VECTORS = 4_096
"""About 16 MB at 1,024 dimensions; longer documents read their vectors back from the database."""

Kept = dict[str, Vector]
"""Vectors by the content hash of the text they were made from."""


class Indexing:
    """Embeds and indexes what a document lacks. Each batch is acknowledged by both stores before the next."""

    def __init__(self, stores: Stores, embedder: Embedder) -> None:
        self._stores = stores
        self._embedder = embedder
        self._flushing = asyncio.Lock()
        self._unflushed = False

    async def live(self) -> str:
        """Return the index that searches use now; raises StoreUnavailable while there is none."""
        index = await self._stores.vectors.live()
        if index is None:
            raise StoreUnavailable("There is no search index yet.", store="vectors")
        return index

    async def embed(self, run: Run, index: str) -> Kept:
        """Make the vectors that are missing, batch by batch; the same text is never embedded twice.

        Returns the last of them by content hash, as many as a run may hold, to spare reading them again.
        """
        kept: Kept = {}
        after = ""
        while chunks := await self._missing(run, index, after):
            after = chunks[-1].id
            vectors = await self._vectors_of(run, chunks, {})
            if len(kept) < MOST_HELD_VECTORS:
                kept |= vectors
        return kept

    async def _vectors_of(self, run: Run, chunks: Sequence[Chunk], held: Kept) -> Kept:
        """Return the vectors of chunks by content hash: held, kept in the database, or made by the model."""
        model = self._embedder.name
        texts = {chunk.content_hash: chunk.text for chunk in chunks}
        if texts.keys() <= held.keys():
            return held
        vectors: Kept = await self._stores.refs.kept(model, list(texts))
        unknown = [content for content in texts if content not in vectors]
        if unknown:
            made = await self._embedder.embed([texts[content] for content in unknown], Purpose.PASSAGE)
            fresh = dict(zip(unknown, made, strict=True))
            async with self._stores.database.transaction() as connection:
                await run.report(connection)
                await self._stores.refs.keep(connection, model, fresh)
            vectors |= fresh
        return vectors

    async def index(self, run: Run, index: str, held: Kept) -> None:
        """Write the vectors that the index lacks, and note each batch once the store has acknowledged it."""
        done = await self._stores.refs.count(index, document_id=run.job.document_id)
        after = ""
        while chunks := await self._missing(run, index, after):
            after = chunks[-1].id
            vectors = await self._vectors_of(run, chunks, held)
            rows = [vector_row(chunk, vectors[chunk.content_hash]) for chunk in chunks]
            await self._stores.vectors.upsert(index, rows)
            done += len(chunks)
            async with self._stores.database.transaction() as connection:
                await run.report(connection, chunks_done=min(done, run.progress.chunks_total))
                await self._stores.refs.refer(connection, index, self._embedder.name, self._embedder.dimensions, chunks)

    async def flush(self, index: str) -> None:
        """Make what was written cheap to search. Runs that end together share one flush."""
        self._unflushed = True
        async with self._flushing:
            if self._unflushed:
                self._unflushed = False
                await self._stores.vectors.flush(index)

    async def _missing(self, run: Run, index: str, after: str) -> list[Chunk]:
        return await self._stores.refs.missing(index, document_id=run.job.document_id, after=after, limit=EMBED_BATCH)

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
