"""The worker: runs queued and scheduled jobs inside the server or alone, and survives a database that goes away."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import procrastinate
import structlog
from procrastinate import exceptions, jobs, retry

from server import caller
from server.database.cancellation import is_cancelled
from server.database.pool import CONNECT_TIMEOUT_SECONDS, SESSION_OPTIONS, Database
from server.jobs.queue import DEFAULT_QUEUE
from server.jobs.schedule import Periodic
from server.jobs.store import JobStore
from server.jobs.task import Task, WorkerLost
from server.telemetry import metrics

RECOVERY = "recover_stalled_jobs"
LONGEST_SLEEP_SECONDS = 30.0
ERROR_CHARACTERS = 500
SCHEDULED_TRIES = 3

log = structlog.get_logger(__name__)


class Worker:
    """Runs `tasks` as they are enqueued in `queue`, and `schedule` by the clock, safely beside other workers.

    `work` runs until it is cancelled; then running jobs get `stop_seconds` to end, and go back to the queue if they
    do not. A worker that sends no sign of life for `stalled_seconds` is taken for dead and its jobs run again.
    """

    def __init__(
        self,
        database: Database,
        url: str,
        tasks: Sequence[Task],
        schedule: Sequence[Periodic] = (),
        *,
        queue: str = DEFAULT_QUEUE,
        concurrency: int = 2,
        stop_seconds: float = 10.0,
        heartbeat_seconds: float = 10.0,
        stalled_seconds: float = 30.0,
        poll_seconds: float = 5.0,
        lost_seconds: float = 60.0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._database = database
        self._store = JobStore()
        self._queue = queue
        # Each queue has its own: a worker knows neither the tasks nor the workers of the other.
        name = RECOVERY if queue == DEFAULT_QUEUE else f"{RECOVERY}_{queue}"
        self._recovery = Periodic(name, stalled_seconds, self._recover)
        self._schedule = (*schedule, self._recovery)
        self._tasks = {task.name: task for task in (*tasks, *map(self._scheduled, schedule))}
        self._stalled_seconds = stalled_seconds
        self._poll_seconds = poll_seconds
        self._clock = clock
        self._claimed: dict[str, datetime] = {}
        self._registered: int | None = None
        self._running: set[int | None] = set()
        self._suspects: dict[int, datetime] = {}
        self._lost_after = timedelta(seconds=lost_seconds)
        self._options: dict[str, Any] = {
            "queues": [queue],
            "concurrency": concurrency,
            "shutdown_graceful_timeout": stop_seconds,
            "update_heartbeat_interval": heartbeat_seconds,
            "stalled_worker_timeout": stalled_seconds,
            "fetch_job_polling_interval": poll_seconds,
            "abort_job_polling_interval": poll_seconds,
            "delete_jobs": "successful",
            "install_signal_handlers": False,
        }
        self._app = procrastinate.App(connector=_connector(url))
        for task in self._tasks.values():
            register = self._app.task(name=task.name, queue=queue, retry=_Retry(task), pass_context=True)
            register(self._handler(task))

    async def work(self) -> None:
        """Work until cancelled; when the database goes away, wait for it and go on."""
        while True:
            try:
                async with self._app.open_async(), asyncio.TaskGroup() as group:
                    await self._give_back()
                    group.create_task(self._tick_forever())
                    await self._app.run_worker_async(**self._options)
                    raise RuntimeError("the worker stopped by itself")
            except* Exception as errors:  # noqa: BLE001 - the loop must outlive whatever one round of it meets
                log.error("worker_restarts", errors=[repr(error) for error in errors.exceptions])
            # A task group that fails while it is cancelled raises the failure only.
            if is_cancelled():
                raise asyncio.CancelledError
            await asyncio.sleep(self._poll_seconds)

    async def _give_back(self) -> None:
        """Give back what we ran when the database went away: others would wait for signs of life from us first."""
        if self._registered is None:
            return
        await self._app.job_manager.unregister_worker(self._registered)
        self._registered = None
        with caller.acting_as(caller.system()):
            await self._recover()

    def _handler(self, task: Task) -> Callable[..., Any]:
        """Return the coroutine function that procrastinate calls: it runs the task as the system."""

        async def handle(context: procrastinate.JobContext, arguments: Mapping[str, Any], request_id: str = "") -> None:
            self._registered = context.job.worker_id
            self._running.add(context.job.id)
            who = caller.system(UUID(request_id) if request_id else None)
            with caller.acting_as(who), structlog.contextvars.bound_contextvars(job_id=context.job.id, task=task.name):
                try:
                    await task.run(**arguments)
                except Exception as error:
                    wait_seconds = task.wait_seconds(error, context.job.attempts)
                    log.warning("job_try_failed", error=repr(error), wait_seconds=wait_seconds)
                    if wait_seconds is None:
                        await _give_up(task, arguments, error)
                    raise
                finally:
                    self._running.discard(context.job.id)

        return handle

    async def _give_back_unheld(self) -> None:
        """Give back jobs that the queue says we run and we do not: a reply was lost, of their start or of their end."""
        if self._registered is None:
            return
        now = self._clock()
        ours = await self._app.job_manager.list_jobs_async(status="doing", worker_id=self._registered)
        unheld = {job.id: job for job in ours if job.id is not None and job.id not in self._running}
        self._suspects = {job_id: self._suspects.get(job_id, now) for job_id in unheld}
        for job_id, since in self._suspects.items():
            if now - since > self._lost_after:
                await self._free(unheld[job_id])

    async def _tick_forever(self) -> None:
        with caller.acting_as(caller.system()):
            async with self._database.transaction() as connection:
                await self._store.register(connection, [periodic.name for periodic in self._schedule], self._clock())
            while not is_cancelled():
                now = self._clock()
                for periodic in self._schedule:
                    await self._tick(periodic, periodic.previous(now))
                await self._give_back_unheld()
                next_tick = min(periodic.following(now) for periodic in self._schedule)
                wait = (next_tick - self._clock()).total_seconds()
                await asyncio.sleep(min(max(wait, 0), LONGEST_SLEEP_SECONDS))

    async def _tick(self, periodic: Periodic, tick: datetime) -> None:
        """Claim a tick over all workers and enqueue its run in the same transaction."""
        if self._claimed.get(periodic.name) == tick:
            return
        async with self._database.transaction() as connection:
            claimed = await self._store.claim(connection, periodic.name, tick)
            if claimed and periodic is not self._recovery:
                name = periodic.name
                await self._store.enqueue(
                    connection,
                    name,
                    {"arguments": {}},
                    queue=self._queue,
                    priority=1,
                    lock=name,
                    queueing_lock=name,
                    scheduled_at=None,
                )
        self._claimed[periodic.name] = tick
        if claimed and periodic is self._recovery:
            # Not through the queue: a lost worker may hold the very lock that this run would wait for.
            await self._recorded(periodic)

    def _scheduled(self, periodic: Periodic) -> Task:
        """Return the task that runs a scheduled job; one that comes again within minutes is not tried again."""

        async def run() -> None:
            await self._recorded(periodic)

        tries = SCHEDULED_TRIES if isinstance(periodic.every, str) else 1
        return Task(periodic.name, run, tries=tries, first_wait_seconds=60.0, transient=lambda error: True)

    async def _recorded(self, periodic: Periodic) -> None:
        async with self._database.transaction() as connection:
            await self._store.begin_run(connection, periodic.name)
        error_text, began_at = "stopped", self._clock()
        try:
            await periodic.run()
            error_text = ""
        except Exception as error:
            error_text = f"{type(error).__name__}: {error}"[:ERROR_CHARACTERS]
            raise
        finally:
            async with self._database.transaction() as connection:
                await self._store.end_run(connection, periodic.name, error_text)
            metrics.record_job(periodic.name, not error_text, (self._clock() - began_at).total_seconds())

    async def _recover(self) -> None:
        """Free the jobs of vanished workers."""
        stalled = self._app.job_manager.get_stalled_jobs
        for job in await stalled(queue=self._queue, seconds_since_heartbeat=self._stalled_seconds):
            await self._free(job)

    async def _free(self, job: jobs.Job) -> None:
        """Give a job that nobody runs back to the queue, or up when that happened too often."""
        manager, task = self._app.job_manager, self._tasks.get(job.task_name)
        if task is None:
            return
        log.warning("job_stalled", job_id=job.id, task=job.task_name, tries=job.attempts + 1)
        if task.outlives_stall(job.attempts):
            await manager.retry_job(job)
        else:
            await manager.finish_job(job, status=jobs.Status.FAILED, delete_job=False)
            await _give_up(task, _arguments(job), WorkerLost())


def _connector(url: str) -> procrastinate.PsycopgConnector:
    settings = {
        "options": SESSION_OPTIONS,
        "connect_timeout": CONNECT_TIMEOUT_SECONDS,
        "application_name": "bacmr-worker",
    }
    return procrastinate.PsycopgConnector(conninfo=url, min_size=1, max_size=4, kwargs=settings)


def _arguments(job: jobs.Job) -> Mapping[str, Any]:
    arguments = job.task_kwargs.get("arguments")
    return arguments if isinstance(arguments, dict) else {}


async def _give_up(task: Task, arguments: Mapping[str, Any], error: BaseException) -> None:
    log.error("job_given_up", task=task.name, error=repr(error))
    if task.given_up is not None:
        await task.given_up(arguments, error)


class _Retry(retry.BaseRetryStrategy):
    """Asks the task's own rule; a job cut off by our shutdown goes back to the queue at once."""

    def __init__(self, task: Task) -> None:
        self._task = task

    def get_retry_decision(self, *, exception: BaseException, job: jobs.Job) -> retry.RetryDecision | None:
        if isinstance(exception, asyncio.CancelledError | exceptions.JobAborted):
            return retry.RetryDecision(retry_in={"seconds": 0})
        wait_seconds = self._task.wait_seconds(exception, job.attempts)
        return None if wait_seconds is None else retry.RetryDecision(retry_in={"seconds": math.ceil(wait_seconds)})
