"""Promises of a session's calls: prepared once, typed, and as sound as any statement after errors and cancels."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from server.database.pool import Database
from server.database.session import Session
from server.refusal import DeadlineExceeded, StoreUnavailable

ECHO = "SELECT $1::uuid, $2::bigint, $3::text, $4::timestamptz, $5::bytea, $6::json, $7::boolean"


@pytest_asyncio.fixture
async def session(database: Database) -> AsyncIterator[Session]:
    async with database.session() as session:
        yield session


async def prepared(session: Session, statement: str) -> int:
    query = "SELECT count(*)::int FROM pg_prepared_statements WHERE statement = $1"
    return (await session.call(query, (statement,)))[0]


async def test_values_and_columns_keep_their_types(session: Session) -> None:
    at = datetime(2027, 3, 1, 12, 30, 0, 123_456, UTC)
    row = (uuid4(), -(2**62), "«ما»'\\ %s $1", at, b"\0\xff'\\", {"a": [1, None]}, True)
    given = (*row[:5], '{"a": [1, null]}', True)
    for _ in range(3):
        assert await session.call(ECHO, given) == row
    assert await session.call(ECHO, (None,) * 7) == (None,) * 7
    assert await session.call(ECHO, given) == row


async def test_a_statement_is_prepared_once_for_a_connection(session: Session) -> None:
    for number in range(5):
        assert await session.call("SELECT $1::int + 1", (number,)) == (number + 1,)
    assert await prepared(session, "SELECT $1::int + 1") == 1


async def test_columns_are_read_anew_for_each_statement(session: Session) -> None:
    assert await session.call("SELECT $1::int", (7,)) == (7,)
    assert await session.call("SELECT $1::uuid", (UUID(int=7),)) == (UUID(int=7),)
    assert await session.call("SELECT $1::int", (8,)) == (8,)


async def test_an_error_comes_as_psycopg_s_and_the_session_goes_on(session: Session) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await session.call("SELECT 1 / $1::int", (0,))
    assert await session.call("SELECT 1 / $1::int", (1,)) == (1,)


async def test_a_statement_that_cannot_be_prepared_says_why_each_time(session: Session) -> None:
    for _ in range(2):
        with pytest.raises(psycopg.errors.UndefinedTable):
            await session.call("SELECT FROM nowhere WHERE $1", (True,))


@pytest.mark.parametrize("rows", [0, 2])
async def test_anything_but_one_row_is_an_error(session: Session, rows: int) -> None:
    with pytest.raises(psycopg.DataError, match=f"{rows} came"):
        await session.call("SELECT n FROM generate_series(1, $1::int) n", (rows,))
    assert await session.call("SELECT n FROM generate_series(1, $1::int) n", (1,)) == (1,)


async def test_two_calls_at_once_on_one_session_each_get_their_own_row(session: Session) -> None:
    rows = await asyncio.gather(*(session.call("SELECT $1::int, pg_sleep(0.001)::text", (n,)) for n in range(20)))
    assert [row[0] for row in rows] == list(range(20))


async def test_a_cancelled_call_stops_the_statement_and_leaves_the_session_usable(session: Session) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await session.call("SELECT pg_sleep($1::float)::text", (60,))
    assert await session.call("SELECT $1::int", (1,)) == (1,)


async def test_a_session_whose_server_hung_up_is_a_refusal(database: Database, owner: psycopg.Connection) -> None:
    with pytest.raises(StoreUnavailable):
        async with database.session() as session:
            (pid,) = await session.call("SELECT pg_backend_pid() + $1::int", (0,))
            owner.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            await session.call("SELECT $1::int", (1,))


async def test_a_statement_that_the_server_timed_out_is_a_refusal(database: Database) -> None:
    with pytest.raises(DeadlineExceeded):
        async with database.session() as session:
            await session.execute("SET statement_timeout = 50")
            try:
                await session.call("SELECT pg_sleep($1::float)::text", (60,))
            finally:
                await session.execute("RESET statement_timeout")
