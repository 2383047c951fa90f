"""The job queue as the rooms see it: a job is enqueued in the transaction that makes it necessary."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from server.caller import current
from server.database.pool import Connection, Database
from server.jobs.store import JobRun, JobStore, QueueDepth

DEFAULT_QUEUE = "default"
OPERATIONS_QUEUE = "operations"
"""What may take hours waits and runs apart: neither keeps documents from being ingested, nor is kept by them."""
QUEUES = (DEFAULT_QUEUE, OPERATIONS_QUEUE)


class JobQueue:
    """Enqueues jobs and shows what became of them; `Worker` runs them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = JobStore()

    async def enqueue(
        self,
        connection: Connection,
        task: str,
        arguments: Mapping[str, Any],
        *,
        queue: str = DEFAULT_QUEUE,
        priority: int = 0,
        lock: str | None = None,
        queueing_lock: str | None = None,
        scheduled_at: datetime | None = None,
    ) -> int | None:
        """Add a job to the caller's open transaction: it exists if and only if that commits. Returns its number.

        Jobs with the same `lock` run one after another. A job whose `queueing_lock` is waiting already is not added
        again: None is returned. `arguments` are JSON values; they hold ids, never secrets. The job runs as the
        system, under the request id of the caller.
        """
        envelope = {"arguments": dict(arguments), "request_id": str(current().request_id)}
        return await self._store.enqueue(
            connection,
            task,
            envelope,
            queue=queue,
            priority=priority,
            lock=lock,
            queueing_lock=queueing_lock,
            scheduled_at=scheduled_at,
        )

    async def runs(self) -> list[JobRun]:
        """Return the scheduled jobs with last run, last success, duration and error."""
        async with self._database.transaction() as connection:
            return await self._store.runs(connection)

    async def depths(self) -> list[QueueDepth]:
        """Return how full each queue is."""
        async with self._database.transaction() as connection:
            return await self._store.depths(connection)
