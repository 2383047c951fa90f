"""Ingestion as callers see it: jobs are asked for, watched, stopped and started again; documents deleted."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

import structlog

from server.corpus.passage import Document
from server.corpus.service import CorpusService
from server.database import pages
from server.database.once import Once
from server.database.pages import Page
from server.database.pool import Connection, Database
from server.ingestion.job import AuditEvent, Job, JobEvent, Placement
from server.ingestion.jobstate import WORKERS_LOST, JobState, next_try_after, require_move
from server.ingestion.judging import DocumentPage, PageSelection
from server.ingestion.removal import Removal
from server.ingestion.rights import require_owner
from server.ingestion.store.jobs import JobStore
from server.ingestion.store.pages import PageStore
from server.refusal import Conflict, NotFound

POLL_SECONDS = 0.5
HEARTBEAT_SECONDS = 10.0
STALLED_AFTER_SECONDS = 25.0
"""A run without a sign of life for this long is lost; runs give one every few seconds."""
_STALLED_BATCH = 100

log = structlog.get_logger(__name__)


class Enqueue(Protocol):
    """Puts a job's run into the queue, in the caller's open transaction."""

    async def __call__(self, connection: Connection, job_id: UUID, *, scheduled_at: datetime | None = None) -> object:
        """Add a run of this job, due now or at a time."""


class IngestionService:
    """Use cases around ingestion jobs and documents; `Pipeline` does the work."""

    def __init__(
        self, database: Database, once: Once, corpus: CorpusService, removal: Removal, enqueue: Enqueue
    ) -> None:
        self._database = database
        self._once = once
        self._corpus = corpus
        self._removal = removal
        self._enqueue = enqueue
        self._jobs = JobStore()
        self._pages = PageStore()

    async def create_job(self, document_id: UUID, where: Placement, request_id: UUID) -> Job:
        """Ask for a document to become searchable. The job and its place in the queue are one transaction.

        Raises NotFound, Forbidden for another person's document, and Conflict while a job of the document is open.
        """

        async def effect(connection: Connection) -> Job:
            document = await self._corpus.read_document(connection, document_id)
            require_owner(document)
            return await self.add_job(connection, document, where)

        return await self._once.run("CreateIngestionJob", request_id, (document_id, where), Job, effect)

    async def add_job(self, connection: Connection, document: Document, where: Placement) -> Job:
        """Add a job in an open transaction. Raises Conflict while another job of the document is open."""
        unfinished = await self._jobs.lock_unfinished(connection, document.id)
        if unfinished is not None:
            raise Conflict("The document is being ingested already.", job_id=unfinished.id)
        job = await self._jobs.add(connection, document.id, document.owner_id, where)
        await self._enqueue(connection, job.id)
        return job

    async def job(self, job_id: UUID) -> Job:
        """Return a job. Raises NotFound. Of a document that is READY the caller's next search knows."""
        async with self._database.transaction() as connection:
            job = _found(await self._jobs.get(connection, job_id))
        if job.state is JobState.READY:
            self._corpus.changed()
        return job

    async def list_jobs(
        self, state: JobState | None, document_id: UUID | None, page_size: int, page_token: str
    ) -> Page[Job]:
        """Return a page of the jobs the caller may see, newest first."""
        filters = ("jobs", state, document_id)
        size = pages.page_size(page_size)
        position = pages.position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._jobs.list(connection, state, document_id, position, size + 1)
        return pages.cut(rows, size, filters, key=lambda job: (job.created_at, job.id))

    async def list_audit(self, job_id: UUID, page_size: int, page_token: str) -> Page[AuditEvent]:
        """Return a page of a job's moves, oldest first. Raises NotFound."""
        filters = ("audit", job_id)
        size = pages.page_size(page_size)
        position = pages.position(page_token, filters, int)
        after = int(str(position[0])) if position else 0
        async with self._database.transaction() as connection:
            _found(await self._jobs.get(connection, job_id))
            rows = await self._jobs.audit(connection, job_id, after, size + 1)
        return pages.cut(rows, size, filters, key=lambda event: (event.sequence,))

    async def cancel(self, job_id: UUID, request_id: UUID) -> Job:
        """Stop a job; what it wrote is removed. Raises NotFound, and IllegalState for a job that has ended."""

        async def effect(connection: Connection) -> Job:
            job = _found(await self._jobs.lock(connection, job_id))
            require_move(job.state, JobState.CANCELLED)
            return await self._jobs.move(connection, job, JobState.CANCELLED, "stopped by a person")

        async with self._database.transaction() as connection:
            before = await self._jobs.get(connection, job_id)
        cancelled = await self._once.run("CancelIngestionJob", request_id, job_id, Job, effect)
        if before is not None and before.state in (JobState.EMBEDDING, JobState.INDEXING):
            await self._removal.empty(before.document_id)
        return cancelled

    async def retry(self, job_id: UUID, request_id: UUID) -> Job:
        """Start a failed or cancelled job again, with all its automatic tries.

        Raises NotFound, IllegalState, and Conflict while another job of its document is open.
        """

        async def effect(connection: Connection) -> Job:
            job = _found(await self._jobs.lock(connection, job_id))
            require_move(job.state, JobState.PENDING)
            await self._corpus.read_document(connection, job.document_id)
            if await self._jobs.lock_unfinished(connection, job.document_id):
                raise Conflict("The document is being ingested already.")
            moved = await self._jobs.move(connection, job, JobState.PENDING, "started again by a person", attempts=0)
            await self._enqueue(connection, job_id)
            return moved

        return await self._once.run("RetryIngestionJob", request_id, job_id, Job, effect)

    async def watch(self, job_id: UUID, heartbeat_seconds: float = HEARTBEAT_SECONDS) -> AsyncIterator[JobEvent]:
        """Yield the job now, at every change and when nothing changed for a while, until it has ended. Raises NotFound.

        It reads the row, so it works whichever process runs the job.
        """
        loop = asyncio.get_running_loop()
        sequence, last, told_at = 0, None, 0.0
        while True:
            job = await self.job(job_id)
            if job != last or loop.time() - told_at >= heartbeat_seconds:
                sequence, last, told_at = sequence + 1, job, loop.time()
                yield JobEvent(sequence, job)
                if job.state.final:
                    return
            await asyncio.sleep(POLL_SECONDS)

    async def recover_stalled(self, after_seconds: float = STALLED_AFTER_SECONDS) -> Sequence[Job]:
        """Put jobs whose worker or queue entry is lost back into the queue; return them. For the schedule."""
        recovered: list[Job] = []
        async with self._database.transaction() as connection:
            for job in await self._jobs.lock_stalled(connection, after_seconds, _STALLED_BATCH):
                if next_try_after(job.attempts, transient=True) is None:
                    await self._jobs.move(connection, job, JobState.FAILED, WORKERS_LOST)
                    continue
                reason = "its worker was lost" if job.state.running else "it was missing in the queue"
                job = await self._jobs.move(connection, job, JobState.PENDING, reason)
                await self._enqueue(connection, job.id)
                recovered.append(job)
        for job in recovered:
            log.warning("ingestion_job_recovered", job_id=str(job.id), attempts=job.attempts)
        return recovered

    async def list_pages(
        self, document_id: UUID, selection: PageSelection, page_size: int, page_token: str
    ) -> Page[DocumentPage]:
        """Return a page of what became of a document's pages, in order.

        Raises NotFound, and Forbidden for another person's document.
        """
        filters = ("pages", document_id, selection)
        size = pages.page_size(page_size)
        position = pages.position(page_token, filters, int)
        after = int(str(position[0])) if position else 0
        async with self._database.transaction() as connection:
            require_owner(await self._corpus.read_document(connection, document_id))
            rows = await self._pages.verdicts(connection, document_id, selection, after, size + 1)
        return pages.cut(rows, size, filters, key=lambda page: (page.number,))

    async def delete_document(self, document_id: UUID, request_id: UUID) -> None:
        """Delete a document with its chunks, vectors and file; an open job of it is cancelled.

        Raises NotFound, and Forbidden for another person's.
        """

        async def effect(connection: Connection) -> bool:
            document = await self._corpus.read_document(connection, document_id)
            require_owner(document)
            job = await self._jobs.lock_unfinished(connection, document_id)
            if job is not None:
                await self._jobs.move(connection, job, JobState.CANCELLED, "its document was deleted")
            await self._removal.begin(connection, document)
            return True

        await self._once.run("DeleteDocument", request_id, document_id, bool, effect)
        await self._removal.finish(document_id)


def _found(job: Job | None) -> Job:
    if job is None:
        raise NotFound
    return job
