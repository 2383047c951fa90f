"""Jobs and their audit trail."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.caller import current
from server.database.pages import KeyPart
from server.ingestion.job import AuditEvent, Job, Placement, Progress
from server.ingestion.jobstate import JobState
from server.text.language import Language

_COLUMNS = (
    "id, document_id, owner_id, namespace, subject, grade, language, state, failure_reason, attempts, run_id,"
    " pages_done, pages_total, pages_rejected, chunks_done, chunks_total, created_at, updated_at, next_attempt_at"
)

_AUDIT = (
    " INSERT INTO ingestion_audit (job_id, sequence, from_state, to_state, reason, actor_id, request_id)"
    " SELECT id, 1 + (SELECT count(*) FROM ingestion_audit WHERE job_id = moved.id), CAST(:before AS text), state,"
    " :reason, CAST(:actor_id AS uuid), :request_id FROM moved"
)

ADD = text(
    "INSERT INTO ingestion_job (document_id, owner_id, namespace, subject, grade, language, request_id)"
    " VALUES (:document_id, :owner_id, :namespace, :subject, :grade, :language, :request_id)"
    f" RETURNING {_COLUMNS}"
)
GET = text(f"SELECT {_COLUMNS} FROM ingestion_job WHERE id = :id")
LOCK = text(f"SELECT {_COLUMNS} FROM ingestion_job WHERE id = :id FOR UPDATE")
LIST = text(
    f"SELECT {_COLUMNS} FROM ingestion_job"
    " WHERE (CAST(:state AS text) IS NULL OR state = :state)"
    " AND (CAST(:document_id AS uuid) IS NULL OR document_id = :document_id)"
    " AND (CAST(:created_at AS timestamptz) IS NULL OR (created_at, id) < (:created_at, CAST(:id AS uuid)))"
    " ORDER BY created_at DESC, id DESC LIMIT :limit"
)
UNFINISHED = text(
    f"SELECT {_COLUMNS} FROM ingestion_job"
    " WHERE document_id = :document_id AND state NOT IN ('READY', 'FAILED', 'CANCELLED') FOR UPDATE"
)
NOTE = text("WITH moved AS (SELECT id, state FROM ingestion_job WHERE id = :id)" + _AUDIT)
# What a run writes on its way the next one can write again, so these commits do not wait for the disk. The move to the
# end does, and with it all that was committed before.
_NEED_NOT_LAST = "set_config('synchronous_commit', 'off', true)"
MOVE = text(
    "UPDATE ingestion_job SET state = :state, updated_at = clock_timestamp(), heartbeat_at = clock_timestamp(),"
    " failure_reason = CASE WHEN :state IN ('FAILED', 'CANCELLED') OR CAST(:wait_seconds AS float8) IS NOT NULL"
    " THEN :reason ELSE '' END,"
    " attempts = :attempts, run_id = CAST(:run_id AS uuid),"
    " next_attempt_at = CASE WHEN CAST(:wait_seconds AS float8) IS NULL THEN NULL"
    " ELSE clock_timestamp() + make_interval(secs => CAST(:wait_seconds AS float8)) END"
    f" WHERE id = :id RETURNING {_COLUMNS},"
    f" CASE WHEN :state IN ('CHUNKING', 'EMBEDDING', 'INDEXING') THEN {_NEED_NOT_LAST} END"
)
PROGRESS = text(
    "UPDATE ingestion_job SET updated_at = clock_timestamp(), heartbeat_at = clock_timestamp(),"
    " pages_done = :pages_done, pages_total = :pages_total, pages_rejected = :pages_rejected,"
    " chunks_done = :chunks_done, chunks_total = :chunks_total"
    f" WHERE id = :id AND run_id = :run_id RETURNING {_NEED_NOT_LAST}"
)
HEARTBEAT = text(
    "UPDATE ingestion_job SET heartbeat_at = clock_timestamp() WHERE id = :id AND run_id = :run_id"
    f" RETURNING {_NEED_NOT_LAST}"
)
IS_STALLED = text(
    "SELECT heartbeat_at < clock_timestamp() - make_interval(secs => :seconds) FROM ingestion_job WHERE id = :id"
)
LANGUAGE = text("UPDATE ingestion_job SET language = :language WHERE id = :id AND language IS NULL")
STALLED = text(
    f"SELECT {_COLUMNS} FROM ingestion_job"
    " WHERE (state IN ('EXTRACTING', 'CHUNKING', 'EMBEDDING', 'INDEXING')"
    " OR (state = 'PENDING' AND coalesce(next_attempt_at, created_at) < clock_timestamp()))"
    " AND heartbeat_at < clock_timestamp() - make_interval(secs => :seconds)"
    " ORDER BY heartbeat_at LIMIT :limit FOR UPDATE SKIP LOCKED"
)
AUDIT = text(
    "SELECT sequence, from_state, to_state, reason, actor_id, request_id, created_at FROM ingestion_audit"
    " WHERE job_id = :job_id AND sequence > :after ORDER BY sequence LIMIT :limit"
)


class JobStore:
    """Rows of `ingestion_job` and `ingestion_audit`."""

    async def add(self, connection: AsyncConnection, document_id: UUID, owner_id: UUID | None, where: Placement) -> Job:
        """Insert a waiting job and the beginning of its story."""
        row = await connection.execute(
            ADD,
            {
                "document_id": document_id,
                "owner_id": owner_id,
                "request_id": current().request_id,
                **asdict(where),
            },
        )
        job = _job(row.one())
        await self._note(connection, job.id, None, "asked for")
        return job

    async def get(self, connection: AsyncConnection, job_id: UUID) -> Job | None:
        """Return a job the caller may see."""
        row = (await connection.execute(GET, {"id": job_id})).one_or_none()
        return _job(row) if row else None

    async def lock(self, connection: AsyncConnection, job_id: UUID) -> Job | None:
        """Return a job the caller may see and keep others from moving it until the transaction ends."""
        row = (await connection.execute(LOCK, {"id": job_id})).one_or_none()
        return _job(row) if row else None

    async def lock_unfinished(self, connection: AsyncConnection, document_id: UUID) -> Job | None:
        """Return the one unfinished job of a document, locked."""
        row = (await connection.execute(UNFINISHED, {"document_id": document_id})).one_or_none()
        return _job(row) if row else None

    async def list(
        self,
        connection: AsyncConnection,
        state: JobState | None,
        document_id: UUID | None,
        after: tuple[KeyPart, ...],
        limit: int,
    ) -> Sequence[Job]:
        """Return jobs, newest first, after the key (created_at, id)."""
        created_at, last_id = after or (None, None)
        rows = await connection.execute(
            LIST,
            {"state": state, "document_id": document_id, "created_at": created_at, "id": last_id, "limit": limit},
        )
        return [_job(row) for row in rows]

    async def move(
        self,
        connection: AsyncConnection,
        job: Job,
        state: JobState,
        reason: str = "",
        *,
        attempts: int | None = None,
        run_id: UUID | None = None,
        wait_seconds: float | None = None,
    ) -> Job:
        """Write a move of a locked job and its audit row. The caller has checked that it is legal."""
        row = await connection.execute(
            MOVE,
            {
                "id": job.id,
                "state": state,
                "reason": reason,
                "attempts": job.attempts if attempts is None else attempts,
                "run_id": run_id,
                "wait_seconds": wait_seconds,
            },
        )
        moved = _job(row.one())
        await self._note(connection, job.id, job.state, reason)
        return moved

    async def progress(self, connection: AsyncConnection, job_id: UUID, run_id: UUID, progress: Progress) -> bool:
        """Write how far a run is; False when the job belongs to another run by now."""
        done = await connection.execute(PROGRESS, {"id": job_id, "run_id": run_id, **asdict(progress)})
        return done.rowcount == 1

    async def heartbeat(self, connection: AsyncConnection, job_id: UUID, run_id: UUID) -> bool:
        """Say that a run is alive; False when the job belongs to another run by now."""
        return (await connection.execute(HEARTBEAT, {"id": job_id, "run_id": run_id})).rowcount == 1

    async def is_stalled(self, connection: AsyncConnection, job_id: UUID, seconds: float) -> bool:
        """Say whether a job's run has given no sign of life for `seconds`."""
        return bool((await connection.execute(IS_STALLED, {"id": job_id, "seconds": seconds})).scalar_one_or_none())

    async def set_language(self, connection: AsyncConnection, job_id: UUID, language: Language) -> None:
        """Keep the detected language where none was given."""
        await connection.execute(LANGUAGE, {"id": job_id, "language": language})

    async def lock_stalled(self, connection: AsyncConnection, seconds: float, limit: int) -> Sequence[Job]:
        """Return jobs without a sign of life for `seconds`, locked: their worker or their queue entry is lost."""
        return [_job(row) for row in await connection.execute(STALLED, {"seconds": seconds, "limit": limit})]

    async def audit(self, connection: AsyncConnection, job_id: UUID, after: int, limit: int) -> Sequence[AuditEvent]:
        """Return a job's moves, oldest first, after a sequence number."""
        rows = await connection.execute(AUDIT, {"job_id": job_id, "after": after, "limit": limit})
        return [_event(row) for row in rows]

    async def _note(self, connection: AsyncConnection, job_id: UUID, before: JobState | None, reason: str) -> None:
        who = current()
        await connection.execute(
            NOTE,
            {
                "id": job_id,
                "before": before,
                "reason": reason,
                "actor_id": who.user_id,
                "request_id": who.request_id,
            },
        )


def _job(row: Row[Any]) -> Job:
    return Job(
        id=row.id,
        document_id=row.document_id,
        owner_id=row.owner_id,
        placement=Placement(row.namespace, row.subject, row.grade, Language(row.language) if row.language else None),
        state=JobState(row.state),
        failure_reason=row.failure_reason,
        attempts=row.attempts,
        run_id=row.run_id,
        progress=Progress(row.pages_done, row.pages_total, row.pages_rejected, row.chunks_done, row.chunks_total),
        created_at=row.created_at,
        updated_at=row.updated_at,
        next_attempt_at=row.next_attempt_at,
    )


def _event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        sequence=row.sequence,
        from_state=JobState(row.from_state) if row.from_state else None,
        to_state=JobState(row.to_state),
        reason=row.reason,
        actor_id=row.actor_id,
        request_id=row.request_id,
        created_at=row.created_at,
    )
