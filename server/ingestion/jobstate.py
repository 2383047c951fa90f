"""The states of an ingestion job and the one table of legal moves. Pure."""

from collections.abc import Mapping
from enum import StrEnum

from server.refusal import IllegalState

MAX_ATTEMPTS = 3
"""Automatic tries of one job; an operator's retry starts the count again."""
BACK_OFF_SECONDS = (15.0, 120.0)
"""Wait before the second and the third try."""
WORKERS_LOST = "CRASHED: every try lost its worker"


class JobState(StrEnum):
    """Where a job stands."""

    PENDING = "PENDING"
    EXTRACTING = "EXTRACTING"
    CHUNKING = "CHUNKING"
    EMBEDDING = "EMBEDDING"
    INDEXING = "INDEXING"
    READY = "READY"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def final(self) -> bool:
        """Say whether the job moves no further by itself."""
        return self in FINAL

    @property
    def running(self) -> bool:
        """Say whether a worker is on it."""
        return self in RUNNING


FINAL = frozenset({JobState.READY, JobState.FAILED, JobState.CANCELLED})
RUNNING = frozenset({JobState.EXTRACTING, JobState.CHUNKING, JobState.EMBEDDING, JobState.INDEXING})

_STOPS = {JobState.PENDING, JobState.FAILED, JobState.CANCELLED}
"""Every running step may be left for another try, a failure or a cancel."""

MOVES: Mapping[JobState, frozenset[JobState]] = {
    JobState.PENDING: frozenset({JobState.EXTRACTING, JobState.FAILED, JobState.CANCELLED}),
    JobState.EXTRACTING: frozenset({JobState.CHUNKING, *_STOPS}),
    JobState.CHUNKING: frozenset({JobState.EMBEDDING, *_STOPS}),
    JobState.EMBEDDING: frozenset({JobState.INDEXING, *_STOPS}),
    JobState.INDEXING: frozenset({JobState.READY, *_STOPS}),
    JobState.READY: frozenset(),
    JobState.FAILED: frozenset({JobState.PENDING}),
    JobState.CANCELLED: frozenset({JobState.PENDING}),
}


def require_move(before: JobState, after: JobState) -> None:
    """Let a legal move pass; raise IllegalState, naming the moves that are legal, for any other."""
    if after not in MOVES[before]:
        allowed = ",".join(sorted(MOVES[before])) or "none"
        raise IllegalState("The job's state does not allow this.", state=before, asked=after, allowed=allowed)


def next_try_after(attempts: int, *, transient: bool) -> float | None:
    """Return the seconds to wait before another automatic try, or None when there is none.

    `attempts` counts the tries so far. What is wrong for good (a broken or encrypted file) is not tried again.
    """
    if not transient or attempts >= MAX_ATTEMPTS:
        return None
    return BACK_OFF_SECONDS[min(attempts, len(BACK_OFF_SECONDS)) - 1]
