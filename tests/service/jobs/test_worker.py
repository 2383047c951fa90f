"""Promises of the job queue and the schedule, over real PostgreSQL."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller, Role
from server.database.pool import Database
from server.jobs.queue import OPERATIONS_QUEUE, QUEUES, JobQueue
from server.jobs.schedule import Periodic
from server.jobs.task import Task, WorkerLost
from server.jobs.worker import RECOVERY, Worker
from server.refusal import Invalid, StoreUnavailable

Working = Callable[..., AbstractAsyncContextManager[Worker]]
WAIT_SECONDS = 60.0


@pytest_asyncio.fixture
async def queue(database: Database, owner: psycopg.Connection) -> JobQueue:
    # Beside the loop, on which the last transactions of the test before may still have to end.
    await asyncio.to_thread(owner.execute, "TRUNCATE procrastinate_jobs, procrastinate_workers, job_run CASCADE")
    return JobQueue(database)


@pytest_asyncio.fixture
async def working(database: Database, addresses: Any, queue: JobQueue) -> Working:
    @asynccontextmanager
    async def start(
        tasks: Sequence[Task] = (), schedule: Sequence[Periodic] = (), **options: Any
    ) -> AsyncIterator[Worker]:
        settings = {"stop_seconds": 5.0, "heartbeat_seconds": 0.05, "stalled_seconds": 1.0, "poll_seconds": 0.05}
        worker = Worker(database, addresses.url, tasks, schedule, **(settings | options))
        running = asyncio.create_task(worker.work())
        try:
            yield worker
        finally:
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running

    return start


async def until(condition: Callable[[], Awaitable[object]]) -> None:
    async with asyncio.timeout(WAIT_SECONDS):
        while not await condition():  # noqa: ASYNC110 - the condition is a row, which wakes nobody
            await asyncio.sleep(0.01)


async def add(
    database: Database, job_queue: JobQueue, task: str, arguments: dict[str, Any], **options: Any
) -> int | None:
    async with database.transaction() as connection:
        return await job_queue.enqueue(connection, task, arguments, **options)


async def test_a_committed_job_runs_with_its_arguments(database: Database, queue: JobQueue, working: Working) -> None:
    ran: asyncio.Queue[str] = asyncio.Queue()

    async def note(name: str) -> None:
        await ran.put(name)

    async with working([Task("note", note)]):
        await add(database, queue, "note", {"name": "Amina"})
        assert await asyncio.wait_for(ran.get(), WAIT_SECONDS) == "Amina"


async def test_a_rolled_back_job_never_existed(database: Database, queue: JobQueue, owner: psycopg.Connection) -> None:
    with pytest.raises(KeyError):
        async with database.transaction() as connection:
            await queue.enqueue(connection, "note", {})
            raise KeyError
    assert owner.execute("SELECT count(*) FROM procrastinate_jobs").fetchone() == (0,)


async def test_a_job_runs_as_the_system_under_the_callers_request_id(
    database: Database, queue: JobQueue, working: Working
) -> None:
    seen: asyncio.Queue[Caller] = asyncio.Queue()

    async def look() -> None:
        await seen.put(caller.current())

    student = Caller(user_id=uuid4(), role=Role.STUDENT, request_id=uuid4())
    async with working([Task("look", look)]):
        with caller.acting_as(student):
            await add(database, queue, "look", {})
        who = await asyncio.wait_for(seen.get(), WAIT_SECONDS)
    assert (who.role, who.user_id, who.request_id) == (Role.SERVICE, None, student.request_id)


async def test_a_job_with_a_queueing_lock_waits_once(database: Database, queue: JobQueue) -> None:
    first = await add(database, queue, "note", {}, queueing_lock="source 1")
    assert (first is not None, await add(database, queue, "note", {}, queueing_lock="source 1")) == (True, None)


async def test_a_transient_fault_is_tried_again_at_most_three_times(
    database: Database, queue: JobQueue, working: Working
) -> None:
    tries: list[int] = []
    ended = asyncio.Event()

    async def fail() -> None:
        tries.append(1)
        raise StoreUnavailable(store="milvus")

    async def given_up(arguments: object, error: BaseException) -> None:
        ended.set()

    async with working([Task("fail", fail, first_wait_seconds=0.0, given_up=given_up)]):
        await add(database, queue, "fail", {})
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)
    assert len(tries) == 3


async def test_a_permanent_fault_is_given_up_at_once_with_its_arguments(
    database: Database, queue: JobQueue, working: Working
) -> None:
    heard: asyncio.Queue[tuple[object, BaseException]] = asyncio.Queue()

    async def fail(name: str) -> None:
        raise Invalid

    async def given_up(arguments: object, error: BaseException) -> None:
        await heard.put((arguments, error))

    async with working([Task("fail", fail, given_up=given_up)]):
        await add(database, queue, "fail", {"name": "x"})
        arguments, error = await asyncio.wait_for(heard.get(), WAIT_SECONDS)
    assert (arguments, type(error)) == ({"name": "x"}, Invalid)


async def test_a_job_cut_off_by_the_stop_goes_back_to_the_queue(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    started = asyncio.Event()

    async def hang() -> None:
        started.set()
        await asyncio.Event().wait()

    async with working([Task("hang", hang)], stop_seconds=0.1):
        await add(database, queue, "hang", {})
        await asyncio.wait_for(started.wait(), WAIT_SECONDS)
    assert owner.execute("SELECT status::text FROM procrastinate_jobs").fetchone() == ("todo",)


async def test_a_running_job_is_let_finish_before_the_stop(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def wait() -> None:
        started.set()
        await go_on.wait()

    async with working([Task("wait", wait)]):
        await add(database, queue, "wait", {})
        await asyncio.wait_for(started.wait(), WAIT_SECONDS)
        asyncio.get_running_loop().call_later(0.1, go_on.set)
    assert owner.execute("SELECT count(*) FROM procrastinate_jobs").fetchone() == (0,)


def stall(owner: psycopg.Connection, attempts: int) -> None:
    """Leave what a killed worker leaves: a job that is `doing` for a worker whose heartbeat is old."""
    owner.execute("INSERT INTO procrastinate_workers (last_heartbeat) VALUES (now() - interval '1 hour')")
    owner.execute(
        "UPDATE procrastinate_jobs SET status = 'doing', attempts = %s,"
        " worker_id = (SELECT max(id) FROM procrastinate_workers)",
        [attempts],
    )


async def test_the_job_of_a_killed_worker_runs_again(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    await add(database, queue, "note", {})
    stall(owner, attempts=0)
    async with working([Task("note", note)]):
        await asyncio.wait_for(ran.wait(), WAIT_SECONDS)


async def test_a_job_that_kills_every_worker_is_given_up(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    heard: asyncio.Queue[BaseException] = asyncio.Queue()

    async def never() -> None:
        raise AssertionError("a job that killed five workers must not run again")

    async def given_up(arguments: object, error: BaseException) -> None:
        await heard.put(error)

    await add(database, queue, "never", {})
    stall(owner, attempts=4)
    async with working([Task("never", never, given_up=given_up)]):
        assert isinstance(await asyncio.wait_for(heard.get(), WAIT_SECONDS), WorkerLost)


async def test_every_tick_runs_once_over_several_workers(queue: JobQueue, working: Working) -> None:
    ran: list[str] = []
    now = [datetime(2026, 11, 20, 1, 59, 59, tzinfo=UTC)]

    def nightly(worker: str) -> Periodic:
        async def run() -> None:
            ran.append(worker)

        return Periodic("reconcile", "0 2 * * *", run)

    async def succeeded() -> bool:
        return any(run.name == "reconcile" and run.runs == 1 for run in await queue.runs())

    async def known() -> bool:
        return bool(await queue.runs())

    async with (
        working(schedule=[nightly("a")], clock=lambda: now[0]),
        working(schedule=[nightly("b")], clock=lambda: now[0]),
    ):
        await until(known)
        now[0] += timedelta(seconds=2)
        await until(succeeded)
    assert len(ran) == 1


async def test_a_failed_run_shows_its_error_and_keeps_the_last_success(queue: JobQueue, working: Working) -> None:
    outcomes = iter([None, ValueError("no space left")])

    async def run() -> None:
        outcome = next(outcomes, None)
        if outcome:
            raise outcome

    async def failed() -> bool:
        return any(run.failures == 1 for run in await queue.runs())

    async with working(schedule=[Periodic("export", 0.2, run)]):
        await until(failed)
        shown = next(run for run in await queue.runs() if run.name == "export")
    assert shown.succeeded_at is not None
    assert shown.finished_at is not None
    assert shown.duration_seconds is not None
    assert shown.runs >= 2


async def test_recovery_is_on_the_schedule_like_every_other_job(queue: JobQueue, working: Working) -> None:
    async def recovered() -> bool:
        return any(run.name == RECOVERY and run.succeeded_at for run in await queue.runs())

    async with working():
        await until(recovered)


async def test_the_worker_goes_on_after_the_database_cut_its_connections(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    async def listening() -> bool:
        return owner.execute("SELECT count(*) FROM procrastinate_workers").fetchone() != (0,)

    async with working([Task("note", note)]):
        await until(listening)
        owner.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid()"
        )
        await add(database, queue, "note", {})
        await asyncio.wait_for(ran.wait(), WAIT_SECONDS)


async def test_a_worker_that_begins_again_does_not_wait_for_its_own_lost_job(
    database: Database, addresses: Any, queue: JobQueue, owner: psycopg.Connection
) -> None:
    ran = asyncio.Event()

    async def note() -> None:
        ran.set()

    worker = Worker(database, addresses.url, [Task("note", note)], stalled_seconds=3_600.0, poll_seconds=0.05)
    await add(database, queue, "note", {})
    (before,) = owner.execute("INSERT INTO procrastinate_workers DEFAULT VALUES RETURNING id").fetchone() or ()
    owner.execute("UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s", [before])
    worker._registered = before  # as after a round that the database left in the middle
    working = asyncio.create_task(worker.work())
    try:
        await asyncio.wait_for(ran.wait(), WAIT_SECONDS)
    finally:
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def test_a_job_that_only_the_queue_believes_to_run_is_run(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    ran, again = asyncio.Event(), asyncio.Event()

    async def note(place: int) -> None:
        (again if place else ran).set()

    async def nothing() -> None:
        """Keeps the worker's clock going."""

    tick = Periodic("tick", 0.1, nothing)
    async with working([Task("note", note)], [tick], stalled_seconds=3_600.0, lost_seconds=0.2):
        await add(database, queue, "note", {"place": 0})
        await asyncio.wait_for(ran.wait(), WAIT_SECONDS)
        # As when the reply to a fetch was lost: taken by a worker that lives and knows nothing of it.
        owner.execute(
            "INSERT INTO procrastinate_jobs (queue_name, task_name, args, status, worker_id)"
            " SELECT 'default', 'note', '{\"arguments\": {\"place\": 1}}', 'doing', max(id) FROM procrastinate_workers"
        )
        await asyncio.wait_for(again.wait(), WAIT_SECONDS)


@pytest.mark.parametrize("busy", QUEUES)
async def test_a_queue_whose_places_are_all_taken_does_not_hold_up_the_other(
    database: Database, queue: JobQueue, working: Working, busy: str
) -> None:
    (other,) = set(QUEUES) - {busy}
    began, ended = asyncio.Event(), asyncio.Event()

    async def long() -> None:
        began.set()
        await ended.wait()

    async def short() -> None:
        ended.set()

    tasks = [Task("long", long), Task("short", short)]
    async with working(tasks, queue=busy, concurrency=1), working(tasks, queue=other, concurrency=1):
        await add(database, queue, "long", {}, queue=busy)
        await asyncio.wait_for(began.wait(), WAIT_SECONDS)
        await add(database, queue, "short", {}, queue=other)
        await asyncio.wait_for(ended.wait(), WAIT_SECONDS)


async def test_each_queue_recovers_its_own_jobs(
    database: Database, queue: JobQueue, working: Working, owner: psycopg.Connection
) -> None:
    again = asyncio.Event()

    async def note() -> None:
        again.set()

    async def recovered() -> bool:
        return any(run.name == RECOVERY and run.succeeded_at for run in await queue.runs())

    await add(database, queue, "note", {}, queue=OPERATIONS_QUEUE)
    await asyncio.to_thread(owner.execute, "UPDATE procrastinate_jobs SET status = 'doing'")
    async with working():
        await until(recovered)
    assert owner.execute("SELECT status FROM procrastinate_jobs").fetchone() == ("doing",)
    async with working([Task("note", note)], queue=OPERATIONS_QUEUE):
        await asyncio.wait_for(again.wait(), WAIT_SECONDS)


async def test_depths_count_waiting_jobs_by_queue(database: Database, queue: JobQueue) -> None:
    await add(database, queue, "note", {}, queue="ingestion")
    (depth,) = await queue.depths()
    assert (depth.queue, depth.waiting, depth.running, depth.failed) == ("ingestion", 1, 0, 0)
