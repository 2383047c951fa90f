"""One run of one job: its place in the database, guarded so that only the newest run may write."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import structlog

from server.database.cancellation import is_cancelled
from server.database.pool import Connection, Database
from server.ingestion.job import Job, Progress
from server.ingestion.jobstate import WORKERS_LOST, JobState, next_try_after, require_move
from server.ingestion.service import STALLED_AFTER_SECONDS, Enqueue
from server.ingestion.store.jobs import JobStore
from server.refusal import StoreUnavailable
from server.text.language import Language

HEARTBEAT_SECONDS = 5.0

log = structlog.get_logger(__name__)


class Superseded(Exception):
    """The job was cancelled, deleted or taken over: this run must stop and write nothing more."""


class Run:
    """A run that holds a job. Every write asks first whether it still does."""

    def __init__(self, database: Database, enqueue: Enqueue, job: Job, run_id: UUID) -> None:
        self._database = database
        self._enqueue = enqueue
        self._jobs = JobStore()
        self._run_id = run_id
        self.job = job
        self.progress = Progress()

    @staticmethod
    async def begin(database: Database, enqueue: Enqueue, job_id: UUID) -> "Run | None":
        """Take a waiting job, or one whose worker is lost. None when there is nothing to do."""
        jobs = JobStore()
        async with database.transaction() as connection:
            job = await jobs.lock(connection, job_id)
            if job is None or job.state.final:
                return None
            if job.state.running:
                if not await jobs.is_stalled(connection, job_id, STALLED_AFTER_SECONDS):
                    return None
                if next_try_after(job.attempts, transient=True) is None:
                    await jobs.move(connection, job, JobState.FAILED, WORKERS_LOST)
                    return None
                job = await jobs.move(connection, job, JobState.PENDING, "its worker was lost")
            run_id = uuid4()
            require_move(job.state, JobState.EXTRACTING)
            job = await jobs.move(connection, job, JobState.EXTRACTING, attempts=job.attempts + 1, run_id=run_id)
        return Run(database, enqueue, job, run_id)

    @contextlib.asynccontextmanager
    async def held(self) -> AsyncIterator[None]:
        """Give signs of life while the block runs. Raises Superseded in the block when the job is somebody else's."""
        owner = asyncio.current_task()
        lost = False

        async def beat() -> None:
            nonlocal lost
            while not is_cancelled():
                await asyncio.sleep(HEARTBEAT_SECONDS)
                try:
                    async with self._database.transaction() as connection:
                        alive = await self._jobs.heartbeat(connection, self.job.id, self._run_id)
                except StoreUnavailable:
                    continue
                if not alive:
                    lost = True
                    if owner is not None:
                        owner.cancel()
                    return

        beating = asyncio.create_task(beat())
        try:
            yield
        except asyncio.CancelledError:
            if lost and owner is not None and not owner.uncancel():
                raise Superseded from None
            raise
        finally:
            beating.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await beating

    async def advance(self, state: JobState, connection: Connection | None = None) -> None:
        """Move to the next state, in the caller's transaction or in one of its own."""
        if connection is None:
            async with self._database.transaction() as own:
                await self.advance(state, own)
            return
        job = await self._mine(connection)
        require_move(job.state, state)
        self.job = await self._jobs.move(connection, job, state, run_id=None if state.final else self._run_id)

    async def report(self, connection: Connection, **done: int) -> None:
        """Write progress in the transaction that makes it."""
        self.progress = replace(self.progress, **done)
        if not await self._jobs.progress(connection, self.job.id, self._run_id, self.progress):
            raise Superseded

    async def set_language(self, connection: Connection, language: Language) -> None:
        """Keep the language that was detected."""
        await self._jobs.set_language(connection, self.job.id, language)

    async def fail(self, reason: str, *, transient: bool) -> Job:
        """End the run with a failure: try again later, or for good when that cannot help."""
        async with self._database.transaction() as connection:
            job = await self._mine(connection)
            wait = next_try_after(job.attempts, transient=transient)
            if wait is None:
                self.job = await self._jobs.move(connection, job, JobState.FAILED, reason)
                return self.job
            self.job = await self._jobs.move(connection, job, JobState.PENDING, reason, wait_seconds=wait)
            await self._enqueue(connection, job.id, scheduled_at=datetime.now(UTC) + timedelta(seconds=wait))
            return self.job

    async def give_back(self) -> None:
        """Put the job back into the queue because this worker stops; the try does not count."""
        async with self._database.transaction() as connection:
            job = await self._mine(connection)
            await self._jobs.move(
                connection, job, JobState.PENDING, "its worker stopped", attempts=max(0, job.attempts - 1)
            )
            await self._enqueue(connection, job.id)

    async def was_cancelled(self) -> bool:
        """Say whether the job was stopped by a person (or its document deleted)."""
        async with self._database.transaction() as connection:
            job = await self._jobs.get(connection, self.job.id)
        return job is None or job.state is JobState.CANCELLED

    async def _mine(self, connection: Connection) -> Job:
        job = await self._jobs.lock(connection, self.job.id)
        if job is None or job.run_id != self._run_id:
            raise Superseded
        return job
