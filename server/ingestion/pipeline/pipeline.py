"""From a file to searchable chunks: extract, judge, chunk, write, embed, index, verify.

Nothing is held in a transaction that waits for a reader, a model or the vector store. Ids and content hashes are
deterministic and every step asks the stores what is left to do, so a run that dies anywhere is continued by the next.
"""

import asyncio
import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from server import caller
from server.blobs.port import BlobStore
from server.corpus.passage import Chunk, Document
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.pool import Connection, Database
from server.ingestion.chunking import ChunkSize, PageText, TextChunk, chunk_pages
from server.ingestion.extraction.page import ExtractionFailed, Failure, Page
from server.ingestion.extraction.worker import Extraction, Opened
from server.ingestion.job import Job
from server.ingestion.jobstate import JobState
from server.ingestion.judging import JudgedPage, PageVerdict, judge
from server.ingestion.pipeline.run import Run, Superseded
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import Enqueue
from server.ingestion.store.pages import PageStore
from server.models.port import Embedder, ProviderFailure, Purpose
from server.refusal import Kind, NotFound, Refusal, StoreUnavailable
from server.telemetry import metrics
from server.text import nearduplicate
from server.text.language import Language
from server.vectors.port import Vector, VectorRow, VectorStore

PAGE_BATCH = 20
WRITE_BATCH = 64
EMBED_BATCH = 64
_TRANSIENT_KINDS = frozenset({Kind.UNAVAILABLE, Kind.DEADLINE, Kind.ABORTED, Kind.EXHAUSTED})

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What operators choose: chunk sizes per language and where files are read from."""

    chunk_sizes: Mapping[Language, ChunkSize]
    scratch: Scratch


@dataclass(frozen=True, slots=True)
class Stores:
    """The stores a run writes to."""

    database: Database
    corpus: CorpusService
    refs: VectorRefs
    blobs: BlobStore
    vectors: VectorStore


class Pipeline:
    """Runs ingestion jobs, as the system. One instance serves a process; runs share nothing."""

    def __init__(
        self,
        stores: Stores,
        extraction: Extraction,
        embedder: Embedder,
        removal: Removal,
        enqueue: Enqueue,
        settings: Settings,
    ) -> None:
        self._stores = stores
        self._extraction = extraction
        self._embedder = embedder
        self._removal = removal
        self._enqueue = enqueue
        self._settings = settings
        self._pages = PageStore()

    async def run(self, job_id: UUID) -> None:
        """Do a job, or as much of it as is left. Never raises for what goes wrong with the job itself.

        A cancel of this task (the worker stops) gives the job back to the queue.
        """
        with caller.acting_as(caller.system(caller.current().request_id)):
            run = await Run.begin(self._stores.database, self._enqueue, job_id)
            if run is None:
                return
            began = time.monotonic()
            log.info("ingestion_began", job_id=str(job_id), attempt=run.job.attempts)
            try:
                async with run.held():
                    await self._ingest(run)
            except Superseded:
                await self._step_aside(run)
                return
            except asyncio.CancelledError:
                await asyncio.shield(_give_back(run))
                raise
            except Exception as error:  # noqa: BLE001 - whatever goes wrong with a job must end in a state with a reason
                await self._fail(run, error)
            _record_end(run.job, time.monotonic() - began)

    async def _ingest(self, run: Run) -> None:
        document = await self._stores.corpus.document(run.job.document_id)
        pages = await self._extract(run, document)
        await run.advance(JobState.CHUNKING)
        judged = await asyncio.to_thread(judge, pages, run.job.placement.language)
        chunks = await asyncio.to_thread(self._chunk, document.id, judged)
        generation = await self._write(run, document, judged, chunks)
        await run.advance(JobState.EMBEDDING)
        index = await self._live_index()
        await self._embed(run, index)
        await run.advance(JobState.INDEXING)
        await self._index(run, index)
        await self._retire(run, index, generation, len(chunks))

    async def _extract(self, run: Run, document: Document) -> list[Page]:
        """Read the pages that no earlier run of the same file has read."""
        async with self._stores.database.transaction() as connection:
            await self._pages.discard_others(connection, document.id, document.sha256)
            pages = await self._pages.read(connection, document.id, document.sha256)
        with self._settings.scratch.file() as path:
            await self._download(document, path)
            language = run.job.placement.language or ""
            batch: list[Page] = []
            async for message in self._extraction.read(
                path, document.content_type, first_page=len(pages) + 1, language=language
            ):
                if isinstance(message, Opened):
                    async with self._stores.database.transaction() as connection:
                        await run.report(connection, pages_total=message.pages_total, pages_done=len(pages))
                    continue
                batch.append(message)
                if len(batch) >= PAGE_BATCH:
                    await self._keep(run, document, pages, batch)
            await self._keep(run, document, pages, batch)
        return pages

    async def _keep(self, run: Run, document: Document, pages: list[Page], batch: list[Page]) -> None:
        if not batch:
            return
        pages.extend(batch)
        async with self._stores.database.transaction() as connection:
            await run.report(connection, pages_done=len(pages))
            await self._pages.add(connection, document.id, document.sha256, batch)
        batch.clear()

    async def _download(self, document: Document, path: Path) -> None:
        """Copy the file out of the store. Its hash is checked again: an upload ticket may outlive the first check."""
        digest = hashlib.sha256()
        with path.open("wb") as file:
            async for piece in self._stores.blobs.get(document.blob_key):
                digest.update(piece)
                await asyncio.to_thread(file.write, piece)
        if digest.hexdigest() != document.sha256:
            raise ExtractionFailed(Failure.BROKEN_FILE, "the stored file is not the one that was checked")

    def _chunk(self, document_id: UUID, pages: Sequence[JudgedPage]) -> list[TextChunk]:
        texts = (
            PageText(page.number, page.text, page.language) for page in pages if page.verdict is PageVerdict.INDEXED
        )
        chunks = list(chunk_pages(document_id, texts, self._settings.chunk_sizes))
        if not chunks:
            raise ExtractionFailed(Failure.NO_TEXT, _why_nothing(pages))
        return chunks

    async def _write(
        self, run: Run, document: Document, pages: Sequence[JudgedPage], chunks: Sequence[TextChunk]
    ) -> int:
        """Write verdicts and texts; the chunks of earlier generations stay until the new ones have vectors."""
        corpus, where = self._stores.corpus, run.job.placement
        async with self._stores.database.transaction() as connection:
            left_out = sum(page.verdict is not PageVerdict.INDEXED for page in pages)
            await run.report(connection, chunks_total=len(chunks), pages_rejected=left_out)
            await self._pages.judge(connection, document.id, pages)
            language = _main_language(pages)
            await run.set_language(connection, language)
            await corpus.describe_document(
                connection,
                document.id,
                page_count=len(pages),
                flagged_page_count=sum(page.flagged for page in pages),
                language=language,
            )
            if (document.namespace, document.subject, document.grade) != (where.namespace, where.subject, where.grade):
                await corpus.file_document(connection, document.id, where.namespace, where.subject, where.grade)
                await self._forget_vectors(connection, document.id)
            generation = await corpus.begin_generation(connection, document.id)
        await self._link_duplicates(document, where.namespace, pages)
        for start in range(0, len(chunks), WRITE_BATCH):
            async with self._stores.database.transaction() as connection:
                await run.report(connection)
                await corpus.write_chunks(connection, document.id, generation, chunks[start : start + WRITE_BATCH])
        return generation

    async def _forget_vectors(self, connection: Connection, document_id: UUID) -> None:
        """Have all vectors of a document written again: what they are filed under has changed."""
        for index in await self._stores.vectors.indexes():
            await self._stores.refs.drop(connection, index, document_id)

    async def _link_duplicates(self, document: Document, namespace: str, pages: Sequence[JudgedPage]) -> None:
        """Link pages that nearly repeat a page of another document. Both stay searchable: a link loses nothing."""
        for page in pages:
            if page.verdict is not PageVerdict.INDEXED or page.fingerprint is None:
                continue
            async with self._stores.database.transaction() as connection:
                candidates = await self._pages.near(
                    connection, document.id, document.owner_id, namespace, page.fingerprint, page.words
                )
            for other in candidates:
                if await asyncio.to_thread(nearduplicate.is_duplicate, page.text, other.text):
                    async with self._stores.database.transaction() as connection:
                        await self._pages.link(connection, document.id, page.number, other)
                    break

    async def _live_index(self) -> str:
        index = await self._stores.vectors.live()
        if index is None:
            raise StoreUnavailable("There is no search index yet.", store="vectors")
        return index

    async def _embed(self, run: Run, index: str) -> None:
        """Make the vectors that are missing, batch by batch; the same text is never embedded twice."""
        after = ""
        while chunks := await self._missing(run, index, after):
            after = chunks[-1].id
            await self._vectors_of(run, chunks)

    async def _vectors_of(self, run: Run, chunks: Sequence[Chunk]) -> dict[str, Vector]:
        """Return the vectors of chunks by content hash, from what is kept or from the model."""
        model = self._embedder.name
        texts = {chunk.content_hash: chunk.text for chunk in chunks}
        vectors = await self._stores.refs.kept(model, list(texts))
        unknown = [content for content in texts if content not in vectors]
        if unknown:
            made = await self._embedder.embed([texts[content] for content in unknown], Purpose.PASSAGE)
            fresh = dict(zip(unknown, made, strict=True))
            async with self._stores.database.transaction() as connection:
                await run.report(connection)
                await self._stores.refs.keep(connection, model, fresh)
            vectors |= fresh
        return vectors

    async def _index(self, run: Run, index: str) -> None:
        """Write the vectors that the index lacks, and note each batch once the store has acknowledged it."""
        done = await self._stores.refs.count(index, document_id=run.job.document_id)
        after = ""
        while chunks := await self._missing(run, index, after):
            after = chunks[-1].id
            vectors = await self._vectors_of(run, chunks)
            rows = [_row(chunk, vectors[chunk.content_hash]) for chunk in chunks]
            began = time.monotonic()
            await self._stores.vectors.upsert(index, rows)
            metrics.record_milvus_upsert(run.job.placement.namespace, time.monotonic() - began, len(rows))
            done += len(chunks)
            async with self._stores.database.transaction() as connection:
                await run.report(connection, chunks_done=min(done, run.progress.chunks_total))
                await self._stores.refs.refer(connection, index, self._embedder.name, self._embedder.dimensions, chunks)
        await self._stores.vectors.flush(index)

    async def _missing(self, run: Run, index: str, after: str) -> list[Chunk]:
        return await self._stores.refs.missing(index, document_id=run.job.document_id, after=after, limit=EMBED_BATCH)

    async def _retire(self, run: Run, index: str, generation: int, expected: int) -> None:
        """Delete what earlier generations left, vectors first; compare the counts and declare the document ready."""
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
        await run.advance(JobState.READY)

    async def _step_aside(self, run: Run) -> None:
        """Stop without a trace: of a cancelled job, also what this run may have written since."""
        log.info("ingestion_superseded", job_id=str(run.job.id))
        if run.job.state in (JobState.EMBEDDING, JobState.INDEXING) and await run.was_cancelled():
            await self._removal.empty(run.job.document_id)

    async def _fail(self, run: Run, error: Exception) -> None:
        reason, transient = explain(error)
        try:
            job = await run.fail(reason, transient=transient)
        except Superseded:
            await self._step_aside(run)
            return
        expected = isinstance(error, ExtractionFailed | Refusal | ProviderFailure)
        log.warning(
            "ingestion_failed",
            job_id=str(job.id),
            state=job.state,
            reason=reason,
            attempt=job.attempts,
            exc_info=None if expected else error,
        )


class CountsDiffer(Exception):
    """The stores do not agree after a run; another run finds what is missing."""


def explain(error: Exception) -> tuple[str, bool]:
    """Return why a run failed, in words for an operator, and whether another try may help."""
    if isinstance(error, ExtractionFailed):
        return str(error), error.transient
    if isinstance(error, NotFound):
        return "NOT_FOUND: the document or its file is gone", False
    if isinstance(error, Refusal):
        return f"{error.reason}: {error}", error.kind in _TRANSIENT_KINDS
    if isinstance(error, ProviderFailure):
        return "MODEL_UNAVAILABLE: the embedding model failed", error.transient
    if isinstance(error, CountsDiffer):
        return f"COUNTS_DIFFER: {error}", True
    return f"INTERNAL: {type(error).__name__}", True


async def _give_back(run: Run) -> None:
    try:
        await run.give_back()
    except Superseded:
        log.info("ingestion_superseded", job_id=str(run.job.id))


def _record_end(job: Job, seconds: float) -> None:
    if job.state.final:
        metrics.record_ingestion_job(job.state.lower(), job.placement.language or "unknown", seconds)
        log.info("ingestion_ended", job_id=str(job.id), state=job.state, seconds=round(seconds, 3))


def _main_language(pages: Sequence[JudgedPage]) -> Language:
    """Return the language of most of the indexed text."""
    weights: Counter[Language] = Counter()
    for page in pages:
        if page.verdict is PageVerdict.INDEXED:
            weights[page.language] += len(page.text)
    return weights.most_common(1)[0][0] if weights else Language.OTHER


def _why_nothing(pages: Sequence[JudgedPage]) -> str:
    """Return the commonest reasons why no page can be searched, as a sentence."""
    reasons = Counter(page.reason for page in pages).most_common(3)
    return "no page can be searched: " + " ".join(f"({count}x) {reason}" for reason, count in reasons)


def _row(chunk: Chunk, vector: Vector) -> VectorRow:
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
