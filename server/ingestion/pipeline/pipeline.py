"""From a file to searchable chunks: extract, judge, chunk, write, embed, index, verify.

Nothing is held in a transaction that waits for a reader, a model or the vector store. Ids and content hashes are
deterministic and every step asks the stores what is left to do, so a run that dies anywhere is continued by the next.
"""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import structlog

from server import caller
from server.corpus.lexemes import Indexed
from server.corpus.passage import Document
from server.database.pool import Connection
from server.ingestion.chunking import ChunkSize, PageText, TextChunk, chunk_pages
from server.ingestion.duplicates import originals
from server.ingestion.extraction.page import ExtractionFailed, Failure, Page
from server.ingestion.extraction.worker import Extraction, Opened
from server.ingestion.job import Job
from server.ingestion.jobstate import JobState
from server.ingestion.judging import JudgedPage, PageVerdict, judge
from server.ingestion.pipeline.indexing import Indexing, Targets
from server.ingestion.pipeline.outcome import explain, main_language, why_nothing
from server.ingestion.pipeline.run import Run, Superseded
from server.ingestion.pipeline.stores import Stores
from server.ingestion.pipeline.together import in_step, together
from server.ingestion.removal import Removal
from server.ingestion.scratch import Scratch
from server.ingestion.service import Enqueue
from server.ingestion.store.pages import PageStore
from server.models.port import ProviderFailure
from server.refusal import Refusal
from server.telemetry import metrics
from server.text.language import Language

PAGE_BATCH = 20
PAGE_BATCH_SECONDS = 0.25
"""Pages are kept this often at most, however fast they come: a killed run loses no more than that of reading."""
MOST_PAGES_HELD = 500
WRITE_BATCH = 128

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Settings:
    """What operators choose: chunk sizes per language and where files are read from."""

    chunk_sizes: Mapping[Language, ChunkSize]
    scratch: Scratch


class Pipeline:
    """Runs ingestion jobs, as the system. One instance serves a process; runs share nothing."""

    def __init__(
        self,
        stores: Stores,
        extraction: Extraction,
        targets: Targets,
        removal: Removal,
        enqueue: Enqueue,
        settings: Settings,
    ) -> None:
        self._stores = stores
        self._extraction = extraction
        self._indexing = Indexing(stores, targets)
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
        judged = await asyncio.to_thread(judge, pages, run.job.placement.language)
        chunks, _ = await together(
            asyncio.to_thread(self._chunk, document.id, judged), self._note(run, document, judged)
        )
        if not chunks:
            raise ExtractionFailed(Failure.NO_TEXT, why_nothing(judged))
        generation = await self._begin(run, document, len(chunks))
        await together(
            self._write(run, document, generation, chunks),
            self._link_duplicates(document, run.job.placement.namespace, judged),
        )
        await run.advance(JobState.EMBEDDING)
        embedded = await self._indexing.live()
        vectors = await self._indexing.embed(run, embedded)
        await run.advance(JobState.INDEXING)
        space = await self._indexing.index(run, embedded, vectors)
        await self._indexing.retire(run, space.index, generation, len(chunks))
        await run.advance(JobState.READY)
        await self._indexing.flush(space.index)

    async def _extract(self, run: Run, document: Document) -> list[Page]:
        """Read the pages that no earlier run of the same file has read, and move to the next state with the last."""
        async with self._stores.database.transaction() as connection:
            await self._pages.discard_others(connection, document.id, document.sha256)
            pages = await self._pages.read(connection, document.id, document.sha256)
        with self._settings.scratch.file() as path:
            await self._download(document, path)
            language = run.job.placement.language or ""
            batch: list[Page] = []
            loop = asyncio.get_running_loop()
            keep_at = loop.time() + PAGE_BATCH_SECONDS
            async for message in self._extraction.read(
                path, document.content_type, first_page=len(pages) + 1, language=language
            ):
                if isinstance(message, Opened):
                    async with self._stores.database.transaction() as connection:
                        await run.report(connection, pages_total=message.pages_total, pages_done=len(pages))
                    continue
                batch.append(message)
                if len(batch) >= PAGE_BATCH and (loop.time() >= keep_at or len(batch) >= MOST_PAGES_HELD):
                    async with self._stores.database.transaction() as connection:
                        await self._keep(connection, run, document, pages, batch)
                    keep_at = loop.time() + PAGE_BATCH_SECONDS
        async with self._stores.database.transaction() as connection:
            await self._keep(connection, run, document, pages, batch)
            await run.advance(JobState.CHUNKING, connection)
        return pages

    async def _keep(
        self, connection: Connection, run: Run, document: Document, pages: list[Page], batch: list[Page]
    ) -> None:
        pages.extend(batch)
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
        return list(chunk_pages(document_id, texts, self._settings.chunk_sizes))

    async def _note(self, run: Run, document: Document, pages: Sequence[JudgedPage]) -> None:
        """Write the verdict on every page, also of a document that will fail by them."""
        async with self._stores.database.transaction() as connection:
            left_out = sum(page.verdict is not PageVerdict.INDEXED for page in pages)
            await run.report(connection, pages_rejected=left_out)
            await self._pages.judge(connection, document.id, pages)
            language = main_language(pages)
            await run.set_language(connection, language)
            await self._stores.corpus.describe_document(
                connection,
                document.id,
                page_count=len(pages),
                flagged_page_count=sum(page.flagged for page in pages),
                language=language,
            )

    async def _begin(self, run: Run, document: Document, chunks_total: int) -> int:
        """File the document where it is wanted and return the number of this generation of its chunks."""
        corpus, where = self._stores.corpus, run.job.placement
        async with self._stores.database.transaction() as connection:
            await run.report(connection, chunks_total=chunks_total)
            if (document.namespace, document.subject, document.grade) != (where.namespace, where.subject, where.grade):
                await corpus.file_document(connection, document.id, where.namespace, where.subject, where.grade)
                await self._forget_vectors(connection, document.id)
            return await corpus.begin_generation(connection, document.id)

    async def _write(self, run: Run, document: Document, generation: int, chunks: Sequence[TextChunk]) -> None:
        """Write the texts; the chunks of earlier generations stay until the new ones have vectors."""
        corpus = self._stores.corpus

        async def batches() -> AsyncIterator[Sequence[TextChunk]]:
            for start in range(0, len(chunks), WRITE_BATCH):
                yield chunks[start : start + WRITE_BATCH]

        async def store(batch: Sequence[Indexed]) -> None:
            async with self._stores.database.transaction() as connection:
                await run.report(connection)
                await corpus.write_chunks(connection, document.id, generation, batch)

        await in_step(batches(), corpus.indexed, store)

    async def _forget_vectors(self, connection: Connection, document_id: UUID) -> None:
        """Have all vectors of a document written again: what they are filed under has changed."""
        for index in await self._stores.vectors.indexes():
            await self._stores.refs.drop(connection, index, document_id)

    async def _link_duplicates(self, document: Document, namespace: str, pages: Sequence[JudgedPage]) -> None:
        """Link pages that nearly repeat a page of another document. Both stay searchable: a link loses nothing."""
        indexed = {page.number: page for page in pages if page.verdict is PageVerdict.INDEXED}
        async with self._stores.database.transaction() as connection:
            candidates = await self._pages.near(
                connection, document.id, document.owner_id, namespace, list(indexed.values())
            )
        if not candidates:
            return
        texts = {number: page.text for number, page in indexed.items()}
        found = await asyncio.to_thread(originals, texts, candidates)
        async with self._stores.database.transaction() as connection:
            for number, original in found.items():
                await self._pages.link(connection, document.id, number, original)

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


async def _give_back(run: Run) -> None:
    try:
        await run.give_back()
    except Superseded:
        log.info("ingestion_superseded", job_id=str(run.job.id))


def _record_end(job: Job, seconds: float) -> None:
    if job.state.final:
        metrics.record_ingestion_job(job.state.lower(), job.placement.language or "unknown", seconds)
        log.info("ingestion_ended", job_id=str(job.id), state=job.state, seconds=round(seconds, 3))
