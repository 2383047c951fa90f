"""Ingestion jobs as values."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from server.ingestion.jobstate import JobState
from server.text.language import Language


@dataclass(frozen=True, slots=True)
class Placement:
    """Where a document is to be found: its shared namespace, subject, grade, and its language when it is known."""

    namespace: str
    subject: str = ""
    grade: str = ""
    language: Language | None = None


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is. Totals are 0 until they are known."""

    pages_done: int = 0
    pages_total: int = 0
    pages_rejected: int = 0
    chunks_done: int = 0
    chunks_total: int = 0


@dataclass(frozen=True, slots=True)
class Job:
    """A document's way into the library."""

    id: UUID
    document_id: UUID
    owner_id: UUID | None
    placement: Placement
    state: JobState
    failure_reason: str
    attempts: int
    run_id: UUID | None
    progress: Progress
    created_at: datetime
    updated_at: datetime
    next_attempt_at: datetime | None


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One move of a job; `from_state` is None for its beginning, `actor_id` is None for the system."""

    sequence: int
    from_state: JobState | None
    to_state: JobState
    reason: str
    actor_id: UUID | None
    request_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One look at a job on a watch; sequences start at 1 and have no gaps."""

    sequence: int
    job: Job
