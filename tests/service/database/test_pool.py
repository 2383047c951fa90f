"""Promises of the connection pool, over real PostgreSQL."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
import pytest
import sqlalchemy.exc
from sqlalchemy import text

from server import caller
from server.caller import Caller, Role
from server.database.embedded import EmbeddedPostgres
from server.database.pool import Database
from server.refusal import Conflict, DeadlineExceeded, StoreUnavailable

WHO = text(
    "SELECT current_user::text, caller_id(), caller_role(), nullif(current_setting('app.request_id', true), '')::uuid"
)
STUDENT = Caller(user_id=uuid4(), role=Role.STUDENT, request_id=uuid4())


@pytest.fixture(scope="module", autouse=True)
def _scratch(owner: psycopg.Connection) -> None:
    owner.execute("CREATE TABLE scratch (n integer PRIMARY KEY)")
    owner.execute("GRANT ALL ON scratch TO bacmr_app")


def within(seconds: float) -> Caller:
    return replace(STUDENT, deadline_at=asyncio.get_running_loop().time() + seconds)


async def test_a_transaction_carries_its_caller(database: Database) -> None:
    with caller.acting_as(STUDENT):
        async with database.transaction() as connection:
            row = (await connection.execute(WHO)).one()
    assert tuple(row) == ("bacmr_app", STUDENT.user_id, "student", STUDENT.request_id)


async def test_the_next_transaction_knows_nothing_of_the_caller_before(addresses: Any) -> None:
    single = Database(addresses.url, pool_size=1)
    with caller.acting_as(STUDENT):
        async with single.transaction():
            pass
    async with single.transaction() as connection:
        row = (await connection.execute(WHO)).one()
    await single.close()
    assert tuple(row)[1:3] == (None, "anyone")


async def test_a_session_has_no_caller_and_no_more_rights(database: Database) -> None:
    async with database.session() as session:
        row = await (await session.execute("SELECT current_user::text, caller_id(), caller_role()")).fetchone()
    assert row == ("bacmr_app", None, "")


@pytest.mark.parametrize("role", ["bacmr_owner", "bacmr_admin"])
async def test_the_servers_login_cannot_take_another_role(database: Database, role: str) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="permission denied"):
        async with database.transaction() as connection:
            await connection.execute(text(f"SET ROLE {role}"))


async def test_the_servers_own_login_sees_no_tables(database: Database) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="permission denied"):
        async with database.transaction() as connection:
            await connection.execute(text("SET ROLE NONE"))
            await connection.execute(text("SELECT * FROM bacmr.idempotency"))


async def test_an_exception_rolls_back(database: Database, owner: psycopg.Connection) -> None:
    with pytest.raises(KeyError):
        async with database.transaction() as connection:
            await connection.execute(text("INSERT INTO scratch VALUES (1)"))
            raise KeyError
    assert owner.execute("SELECT count(*) FROM scratch WHERE n = 1").fetchone() == (0,)


async def test_a_cancelled_transaction_rolls_back_and_gives_its_connection_back(
    addresses: Any, owner: psycopg.Connection
) -> None:
    single = Database(addresses.url, pool_size=1)
    inside = asyncio.Event()

    async def hang() -> None:
        async with single.transaction() as connection:
            await connection.execute(text("INSERT INTO scratch VALUES (2)"))
            inside.set()
            await connection.execute(text("SELECT pg_sleep(60)"))

    hanging = asyncio.create_task(hang())
    await inside.wait()
    hanging.cancel()
    with pytest.raises(asyncio.CancelledError):
        await hanging
    async with single.transaction() as connection:
        left = (await connection.execute(text("SELECT count(*) FROM scratch WHERE n = 2"))).scalar_one()
    await single.close()
    assert left == 0


async def test_a_swallowed_sql_error_cannot_pass_for_a_commit(database: Database) -> None:
    with pytest.raises(RuntimeError, match="nothing was committed"):
        async with database.transaction() as connection:
            with pytest.raises(sqlalchemy.exc.IntegrityError):
                await connection.execute(text("INSERT INTO scratch VALUES (3), (3)"))


async def test_an_error_inside_a_savepoint_leaves_the_rest(database: Database, owner: psycopg.Connection) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO scratch VALUES (4)"))
        with pytest.raises(sqlalchemy.exc.IntegrityError):
            async with connection.begin_nested():
                await connection.execute(text("INSERT INTO scratch VALUES (4)"))
    assert owner.execute("SELECT count(*) FROM scratch WHERE n = 4").fetchone() == (1,)


async def test_a_statement_ends_with_the_deadline(database: Database) -> None:
    with caller.acting_as(within(0.2)), pytest.raises(DeadlineExceeded):
        async with database.transaction() as connection:
            await connection.execute(text("SELECT pg_sleep(60)"))


async def test_a_passed_deadline_never_reaches_the_database(database: Database) -> None:
    with caller.acting_as(within(-1)), pytest.raises(DeadlineExceeded):
        async with database.transaction():
            raise AssertionError("the work must not begin")


async def test_waiting_for_a_connection_ends_with_the_deadline(addresses: Any) -> None:
    single = Database(addresses.url, pool_size=1)
    async with single.transaction():
        with caller.acting_as(within(0.1)), pytest.raises(DeadlineExceeded):
            async with single.transaction():
                pass
    await single.close()


async def test_a_deadlock_is_a_conflict(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute(text("INSERT INTO scratch VALUES (10), (11)"))
    meeting = asyncio.Barrier(2)

    async def cross(first: int, second: int) -> None:
        async with database.transaction() as connection:
            update = text("UPDATE scratch SET n = n WHERE n = :n")
            await connection.execute(update, {"n": first})
            await meeting.wait()
            await connection.execute(update, {"n": second})

    results = await asyncio.gather(cross(10, 11), cross(11, 10), return_exceptions=True)
    assert [type(result) for result in results if result is not None] == [Conflict]


async def test_connections_that_died_in_the_pool_are_replaced_unnoticed(
    addresses: Any, owner: psycopg.Connection
) -> None:
    pool = Database(addresses.url, pool_size=2)
    await pool.open()
    meeting = asyncio.Barrier(2)

    async def use() -> None:
        async with pool.transaction():
            await meeting.wait()

    await asyncio.gather(use(), use())
    owner.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with pool.transaction() as connection:
        assert (await connection.execute(text("SELECT 1"))).scalar_one() == 1
    await pool.close()


async def test_sessions_that_died_in_the_pool_are_replaced_unnoticed(addresses: Any, owner: psycopg.Connection) -> None:
    pool = Database(addresses.url)
    await pool.open()
    owner.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with pool.session() as session:
        assert await (await session.execute("SELECT 1")).fetchone() == (1,)
    await pool.close()


async def test_an_unreachable_server_is_a_refusal_and_unhealthy(tmp_path: Path) -> None:
    nowhere = Database(f"postgresql://someone@/nothing?host={tmp_path}")
    with pytest.raises(StoreUnavailable):
        async with nowhere.transaction():
            pass
    assert not await nowhere.healthy()
    await nowhere.close()


async def test_a_running_server_is_healthy(database: Database, postgres: EmbeddedPostgres) -> None:
    assert await database.healthy()
