"""Promises of the idempotency store, over real PostgreSQL."""

import asyncio
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server import caller
from server.caller import Caller, Role
from server.database.once import Once
from server.database.pool import Database
from server.refusal import InsufficientBalance, RequestIdReused


@dataclass(frozen=True, slots=True)
class Result:
    id: UUID
    amount_tokens: int


@pytest_asyncio.fixture(scope="module")
async def once(database: Database) -> Once:
    return Once(database)


@pytest.fixture
def student() -> Caller:
    return Caller(user_id=uuid4(), role=Role.STUDENT, request_id=uuid4())


async def fresh(connection: AsyncConnection) -> Result:
    return Result(uuid4(), 7)


async def test_a_retry_returns_the_first_result(once: Once, student: Caller) -> None:
    request_id = uuid4()
    with caller.acting_as(student):
        first = await once.run("Redeem", request_id, {"code": "A"}, Result, fresh)
        assert await once.run("Redeem", request_id, {"code": "A"}, Result, fresh) == first


@pytest.mark.parametrize(("method", "payload"), [("Redeem", {"code": "B"}), ("Reserve", {"code": "A"})])
async def test_another_payload_or_method_under_the_same_id_is_refused(
    once: Once, student: Caller, method: str, payload: dict[str, str]
) -> None:
    request_id = uuid4()
    with caller.acting_as(student):
        await once.run("Redeem", request_id, {"code": "A"}, Result, fresh)
        with pytest.raises(RequestIdReused):
            await once.run(method, request_id, payload, Result, fresh)


async def test_a_request_is_recognised_before_it_is_run(once: Once, student: Caller) -> None:
    request_id = uuid4()
    with caller.acting_as(student):
        assert not await once.ran("Redeem", request_id, {"code": "A"})
        await once.run("Redeem", request_id, {"code": "A"}, Result, fresh)
        assert await once.ran("Redeem", request_id, {"code": "A"})
        assert await once.ran("Redeem", request_id)


@pytest.mark.parametrize(("method", "payload"), [("Redeem", ({"code": "B"},)), ("Reserve", ())])
async def test_an_id_of_another_request_is_refused_before_it_is_run(
    once: Once, student: Caller, method: str, payload: tuple[object, ...]
) -> None:
    request_id = uuid4()
    with caller.acting_as(student):
        await once.run("Redeem", request_id, {"code": "A"}, Result, fresh)
        with pytest.raises(RequestIdReused):
            await once.ran(method, request_id, *payload)


async def test_the_same_id_of_another_caller_is_another_request(once: Once, student: Caller) -> None:
    request_id = uuid4()
    with caller.acting_as(student):
        first = await once.run("Redeem", request_id, 1, Result, fresh)
    with caller.acting_as(Caller(user_id=uuid4(), role=Role.STUDENT)):
        assert await once.run("Redeem", request_id, 1, Result, fresh) != first


async def test_a_refused_effect_leaves_the_id_free(once: Once, student: Caller) -> None:
    async def refuse(connection: AsyncConnection) -> Result:
        raise InsufficientBalance

    request_id = uuid4()
    with caller.acting_as(student):
        with pytest.raises(InsufficientBalance):
            await once.run("Redeem", request_id, 1, Result, refuse)
        assert (await once.run("Redeem", request_id, 1, Result, fresh)).amount_tokens == 7


async def test_concurrent_callers_share_one_effect(once: Once, student: Caller, database: Database) -> None:
    effects = []

    async def effect(connection: AsyncConnection) -> Result:
        result = await fresh(connection)
        # Long enough that the others meet the uncommitted claim.
        await connection.execute(text("SELECT pg_sleep(0.05)"))
        effects.append(result)
        return result

    request_id = uuid4()
    with caller.acting_as(student):
        results = await asyncio.gather(*(once.run("Redeem", request_id, 1, Result, effect) for _ in range(5)))
    assert (len(effects), set(results)) == (1, set(effects))


async def test_a_sweep_forgets_only_results_older_than_a_day(
    once: Once, student: Caller, owner: psycopg.Connection
) -> None:
    old, young = uuid4(), uuid4()
    with caller.acting_as(student):
        first_old = await once.run("Redeem", old, 1, Result, fresh)
        first_young = await once.run("Redeem", young, 1, Result, fresh)
        owner.execute("UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE request_id = %s", [old])
        await once.sweep()
        assert await once.run("Redeem", young, 1, Result, fresh) == first_young
        assert await once.run("Redeem", old, 1, Result, fresh) != first_old
