"""Long-running operations: asked for once, run, watched, stopped, and run again after a crash."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from server.admin.audit import Audit
from server.admin.operation import Operation, OperationState, Progress, Stopped
from server.admin.operations import FAILED_INSIDE, RUN_OPERATION, Operations
from server.caller import Caller, Role, acting_as, system
from server.database.once import Once
from server.database.pool import Database
from server.jobs.queue import OPERATIONS_QUEUE, JobQueue
from server.refusal import Conflict, ExportInvalid, IllegalState, Invalid, NotFound, RequestIdReused, Violation


class Counting:
    """A runner that counts to three and tells, waiting at each number until the test lets it go on."""

    def __init__(self) -> None:
        self.reached = asyncio.Queue[int]()
        self.go_on = asyncio.Semaphore(0)
        self.cleaned_up = False

    async def __call__(self, operation: Operation, progress: Progress) -> Mapping[str, Any]:
        try:
            for number in (1, 2, 3):
                await progress.report("counting", number, 3)
                self.reached.put_nowait(number)
                await self.go_on.acquire()
        except Stopped:
            self.cleaned_up = True
            raise
        return {"counted": 3, "asked": operation.task["name"]}

    def hurry(self) -> None:
        for _ in range(3):
            self.go_on.release()


@pytest.fixture
def counting() -> Counting:
    return Counting()


@pytest_asyncio.fixture
async def operations(
    database: Database, counting: Counting, owner: psycopg.Connection, make_user: Any
) -> AsyncIterator[Operations]:
    with acting_as(make_user(role=Role.ADMIN)):
        yield Operations(database, Once(database), Audit(database), JobQueue(database), {"count": counting})
    await asyncio.to_thread(owner.execute, "TRUNCATE operation CASCADE")


async def start(operations: Operations, name: str = "sheep", request_id: UUID | None = None) -> Operation:
    return await operations.start("count", {"name": name}, request_id or uuid4())


def as_worker() -> Any:
    return acting_as(system())


async def test_an_operation_is_queued_run_and_its_result_kept(
    operations: Operations, counting: Counting, owner: psycopg.Connection
) -> None:
    asked = await start(operations)
    assert asked.state is OperationState.PENDING
    queued = owner.execute("SELECT queue_name, args FROM procrastinate_jobs WHERE task_name = %s", [RUN_OPERATION])
    [(place, arguments)] = queued.fetchall()
    assert (place, str(asked.id) in str(arguments)) == (OPERATIONS_QUEUE, True)
    counting.hurry()
    with as_worker():
        await operations.run(asked.id)
    done = await operations.get(asked.id)
    assert (done.state, done.result) == (OperationState.SUCCEEDED, {"counted": 3, "asked": "sheep"})
    assert (done.stage, done.done, done.total) == ("counting", 3, 3)


async def test_the_same_request_is_the_same_operation_as_it_stands_now(
    operations: Operations, counting: Counting
) -> None:
    request_id = uuid4()
    first = await start(operations, request_id=request_id)
    counting.hurry()
    with as_worker():
        await operations.run(first.id)
    again = await start(operations, request_id=request_id)
    assert (again.id, again.state) == (first.id, OperationState.SUCCEEDED)
    with pytest.raises(RequestIdReused):
        await start(operations, "goats", request_id)


async def test_a_second_operation_of_the_kind_waits_for_the_first_to_end(operations: Operations) -> None:
    first = await start(operations)
    with pytest.raises(Conflict, match="count"):
        await start(operations)
    await operations.start("count", {"name": "elsewhere"}, uuid4(), object="another")
    await operations.cancel(first.id, uuid4())
    assert (await start(operations)).state is OperationState.PENDING


async def test_every_start_and_cancel_is_audited(
    operations: Operations, owner: psycopg.Connection, make_user: Any
) -> None:
    admin = make_user(role=Role.ADMIN)
    with acting_as(admin):
        operation = await start(operations)
        await operations.cancel(operation.id, uuid4())
    rows = owner.execute(
        "SELECT action, actor_id FROM audit_event WHERE object = %s ORDER BY created_at", [f"operation/{operation.id}"]
    ).fetchall()
    assert rows == [("operation.count", admin.user_id), ("operation.cancel", admin.user_id)]


async def test_a_watcher_sees_the_stages_and_the_end(operations: Operations, counting: Counting) -> None:
    asked = await start(operations)
    seen: list[tuple[OperationState, int]] = []
    watching = operations.watch(asked.id)
    seen.append(state_of(await anext(watching)))
    with as_worker():
        running = asyncio.create_task(operations.run(asked.id))
    assert await counting.reached.get() == 1
    seen.append(state_of(await anext(watching)))
    counting.hurry()
    seen.extend([state_of(operation) async for operation in watching])
    await running
    assert seen[0] == (OperationState.PENDING, 0)
    assert (OperationState.RUNNING, 1) in seen
    assert seen[-1] == (OperationState.SUCCEEDED, 3)


def state_of(operation: Operation) -> tuple[OperationState, int]:
    return operation.state, operation.done


async def test_a_cancelled_operation_stops_at_its_next_report_and_stays_cancelled(
    operations: Operations, counting: Counting
) -> None:
    asked = await start(operations)
    with as_worker():
        running = asyncio.create_task(operations.run(asked.id))
    await counting.reached.get()
    assert (await operations.cancel(asked.id, uuid4())).state is OperationState.CANCELLED
    counting.hurry()
    await running
    assert counting.cleaned_up
    assert (await operations.get(asked.id)).state is OperationState.CANCELLED
    with pytest.raises(IllegalState):
        await operations.cancel(asked.id, uuid4())


async def test_a_run_after_a_crash_starts_the_work_again(operations: Operations, counting: Counting) -> None:
    asked = await start(operations)
    with as_worker():
        crashed = asyncio.create_task(operations.run(asked.id))
    await counting.reached.get()
    crashed.cancel()
    await asyncio.gather(crashed, return_exceptions=True)
    assert (await operations.get(asked.id)).state is OperationState.RUNNING
    counting.hurry()
    with as_worker():
        await operations.run(asked.id)
    assert (await operations.get(asked.id)).state is OperationState.SUCCEEDED


async def test_a_run_of_an_ended_operation_does_nothing(operations: Operations, counting: Counting) -> None:
    asked = await start(operations)
    await operations.cancel(asked.id, uuid4())
    with as_worker():
        await operations.run(asked.id)
    assert counting.reached.empty()


async def test_a_failed_operation_says_why_but_quotes_no_exception(operations: Operations) -> None:
    refused = await start(operations)
    await operations.give_up(refused.id, ExportInvalid())
    failed = await operations.get(refused.id)
    assert (failed.state, failed.error) == (OperationState.FAILED, str(ExportInvalid()))
    invalid = await start(operations)
    await operations.give_up(invalid.id, Invalid(violations=[Violation("location", "is no folder", "place")]))
    assert (await operations.get(invalid.id)).error == "location is no folder"
    broken = await start(operations)
    await operations.give_up(broken.id, RuntimeError("password=secret"))
    assert (await operations.get(broken.id)).error == FAILED_INSIDE


async def test_operations_are_listed_newest_first_by_kind(operations: Operations) -> None:
    first = await start(operations)
    await operations.cancel(first.id, uuid4())
    second = await start(operations)
    page = await operations.list("count", size=1, page_token="")
    rest = await operations.list("count", size=1, page_token=page.next_page_token)
    assert [found.id for found in (*page.items, *rest.items)] == [second.id, first.id]
    assert (await operations.list("export", size=0, page_token="")).items == ()


async def test_nobody_but_operators_sees_operations(operations: Operations, make_user: Any) -> None:
    operation = await start(operations)
    student: Caller = make_user()
    with acting_as(student), pytest.raises(NotFound):
        await operations.get(operation.id)
