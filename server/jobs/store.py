"""The queue's and the schedule's SQL."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, text
from sqlalchemy.dialects.postgresql import ARRAY, TEXT
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

DEFER = text(
    "SELECT (procrastinate_defer_jobs_v1(ARRAY[ROW(CAST(:queue AS text), CAST(:task AS text),"
    " CAST(:priority AS integer), CAST(:lock AS text), CAST(:queueing_lock AS text), CAST(:args AS jsonb),"
    " CAST(:scheduled_at AS timestamptz))::procrastinate_job_to_defer_v1]))[1]"
)
REGISTER = text(
    "INSERT INTO job_run (name, scheduled_at) SELECT name, CAST(:now AS timestamptz) FROM unnest(:names) AS name"
    " ON CONFLICT DO NOTHING"
).bindparams(bindparam("names", type_=ARRAY(TEXT)))
CLAIM = text("UPDATE job_run SET scheduled_at = :tick WHERE name = :name AND scheduled_at < :tick RETURNING true")
BEGIN_RUN = text("UPDATE job_run SET started_at = clock_timestamp() WHERE name = :name")
END_RUN = text(
    "UPDATE job_run SET finished_at = clock_timestamp(), runs = runs + 1, error = :error,"
    " duration_seconds = extract(epoch FROM clock_timestamp() - started_at),"
    " failures = failures + CASE WHEN :error = '' THEN 0 ELSE 1 END,"
    " succeeded_at = CASE WHEN :error = '' THEN clock_timestamp() ELSE succeeded_at END WHERE name = :name"
)
RUNS = text(
    "SELECT name, scheduled_at, started_at, finished_at, succeeded_at, duration_seconds, error, runs, failures"
    " FROM job_run ORDER BY name"
)
DEPTHS = text(
    "SELECT queue_name AS queue, count(*) FILTER (WHERE status = 'todo') AS waiting,"
    " count(*) FILTER (WHERE status = 'doing') AS running, count(*) FILTER (WHERE status = 'failed') AS failed,"
    " coalesce(extract(epoch FROM now() - min(coalesce(scheduled_at, deferred.at))"
    " FILTER (WHERE status = 'todo' AND coalesce(scheduled_at, now()) <= now())), 0) AS oldest_seconds"
    " FROM procrastinate_jobs AS job LEFT JOIN LATERAL (SELECT min(at) AS at FROM procrastinate_events"
    " WHERE job_id = job.id) AS deferred ON true GROUP BY queue_name ORDER BY queue_name"
)
QUEUEING_LOCK_INDEX = "procrastinate_jobs_queueing_lock_idx_v1"


@dataclass(frozen=True, slots=True)
class JobRun:
    """What operators see of a scheduled job; times are None until it happened, `error` is that of the last run."""

    name: str
    scheduled_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    succeeded_at: datetime | None
    duration_seconds: float | None
    error: str
    runs: int
    failures: int


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """How many jobs of a queue wait, run and were given up, and how long the oldest due one has waited."""

    queue: str
    waiting: int
    running: int
    failed: int
    oldest_seconds: float


class JobStore:
    """Reads and writes the queue (procrastinate's tables) and `job_run`."""

    async def enqueue(
        self,
        connection: AsyncConnection,
        task: str,
        arguments: Mapping[str, Any],
        *,
        queue: str,
        priority: int,
        lock: str | None,
        queueing_lock: str | None,
        scheduled_at: datetime | None,
    ) -> int | None:
        """Insert a job and return its number; None when a job with this `queueing_lock` waits already."""
        job = {
            "task": task,
            "args": json.dumps(dict(arguments)),
            "queue": queue,
            "priority": priority,
            "lock": lock,
            "queueing_lock": queueing_lock,
            "scheduled_at": scheduled_at,
        }
        if queueing_lock is None:
            return int((await connection.execute(DEFER, job)).scalar_one())
        try:
            async with connection.begin_nested():
                return int((await connection.execute(DEFER, job)).scalar_one())
        except IntegrityError as error:
            if QUEUEING_LOCK_INDEX not in str(error.orig):
                raise
            return None

    async def register(self, connection: AsyncConnection, names: Sequence[str], now: datetime) -> None:
        """Make a row for each scheduled job that has none; its first tick is the next one."""
        await connection.execute(REGISTER, {"names": list(names), "now": now})

    async def claim(self, connection: AsyncConnection, name: str, tick: datetime) -> bool:
        """Take a tick for this worker; False when another one has it."""
        return bool((await connection.execute(CLAIM, {"name": name, "tick": tick})).scalar_one_or_none())

    async def begin_run(self, connection: AsyncConnection, name: str) -> None:
        """Note that a run began."""
        await connection.execute(BEGIN_RUN, {"name": name})

    async def end_run(self, connection: AsyncConnection, name: str, error: str) -> None:
        """Note that the run ended; an empty error is a success."""
        await connection.execute(END_RUN, {"name": name, "error": error})

    async def runs(self, connection: AsyncConnection) -> list[JobRun]:
        """Return all scheduled jobs by name."""
        return [JobRun(**row) for row in (await connection.execute(RUNS)).mappings()]

    async def depths(self, connection: AsyncConnection) -> list[QueueDepth]:
        """Return the queues that hold jobs."""
        rows = (await connection.execute(DEPTHS)).mappings()
        return [QueueDepth(**{**row, "oldest_seconds": float(row["oldest_seconds"])}) for row in rows]
