"""Vector indexes over a real channel: administrators build, switch, go back and drop; nobody else may."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import grpc
import psycopg
import pytest
import pytest_asyncio

from bacmr.v1 import admin_pb2 as pb
from bacmr.v1.admin_pb2_grpc import AdminServiceStub
from server import caller
from server.admin.operations import Operations
from server.admin.servicer.indexes import IndexesServicing
from server.admin.servicer.operations import OperationsServicing
from server.caller import Caller, Role
from server.database.pool import Database
from server.ingestion.job import Placement
from server.vectors.milvus import MilvusStore
from tests.rpc.served import Edge, People, Who, refusal
from tests.service.indexes.reindexing import NEW, IndexHouse, lesson


class Served(IndexesServicing, OperationsServicing):
    """The parts of AdminService that are tested here."""

    def __init__(self, house: IndexHouse, operations: Operations) -> None:
        self._indexes = house.indexes
        self._operations = operations


@pytest_asyncio.fixture
async def house(
    database: Database,
    milvus_uri: str,
    tmp_path: Path,
    owner: psycopg.Connection,
    make_user: Callable[..., Caller],
) -> AsyncIterator[IndexHouse]:
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    house = IndexHouse(database, store, "", None, tmp_path)
    await house.open()
    with caller.acting_as(make_user("teacher")):
        await house.ingest(b"\f".join(map(lesson, range(4))), "lessons.txt")
    yield house
    await asyncio.to_thread(owner.execute, "DELETE FROM document")
    await asyncio.to_thread(owner.execute, "TRUNCATE operation, vector_index, embedding, procrastinate_jobs CASCADE")
    await store.create_index("chunks__nothing", 4)
    await store.activate("chunks__nothing")
    for name in await store.indexes():
        if name != "chunks__nothing":
            await store.drop_index(name)
    await store.close()


@pytest.fixture
def admin(people: People, make_user: Callable[..., Caller]) -> Who:
    """An administrator who exists, for the audit names who did it."""
    who = Who(token=f"token-{uuid4()}", user_id=make_user("admin").user_id, role=Role.ADMIN)
    people.known[who.token] = who
    return who


@pytest_asyncio.fixture
async def edge(serve: Callable[..., Awaitable[Edge]], house: IndexHouse) -> Edge:
    return await serve(AdminService=Served(house, house.operations))


@pytest.fixture
def ask(edge: Edge, admin: Who) -> Callable[..., Any]:
    """A function that calls a method of AdminService, as the administrator unless told otherwise."""

    def call(method: str, *, who: Who | None = None, **fields: Any) -> Any:
        fields.setdefault("request_id", str(uuid4()))
        request = getattr(pb, f"{method}Request")(**fields)
        return getattr(AdminServiceStub(edge.channel), method)(request, metadata=(who or admin).metadata)

    return call


async def built(house: IndexHouse, ask: Callable[..., Any]) -> str:
    """Build an index of the other model and return its name."""
    operation = (await ask("StartReindex", embedding_model=NEW)).operation
    assert (operation.kind, operation.state) == ("reindex", pb.OPERATION_STATE_PENDING)
    return str((await house.run(UUID(operation.id))).result["index"])


async def test_an_index_is_built_switched_to_left_and_dropped(house: IndexHouse, ask: Callable[..., Any]) -> None:
    name = await built(house, ask)
    there = (await ask("ActivateIndex", index_name=name)).index
    back = (await ask("RollbackIndex")).index
    await ask("DropIndex", index_name=name)
    assert (there.name, there.state, there.embedding_model) == (name, pb.INDEX_STATE_ACTIVE, NEW)
    assert (there.expected_count, there.actual_count, there.dimensions) == (4, 4, 96)
    assert 0 < there.sample_recall <= 1
    assert (back.name, back.state) == (house.index, pb.INDEX_STATE_ACTIVE)
    assert name not in await house.vectors.indexes()


async def test_a_repeated_request_is_answered_alike_without_a_second_effect(
    house: IndexHouse, ask: Callable[..., Any]
) -> None:
    start, switch = str(uuid4()), str(uuid4())
    first = (await ask("StartReindex", embedding_model=NEW, request_id=start)).operation
    again = (await ask("StartReindex", embedding_model=NEW, request_id=start)).operation
    name = str((await house.run(UUID(first.id))).result["index"])
    await ask("ActivateIndex", index_name=name, request_id=switch)
    await ask("RollbackIndex")
    replayed = (await ask("ActivateIndex", index_name=name, request_id=switch)).index
    assert first.id == again.id
    assert replayed.state == pb.INDEX_STATE_RETIRED
    other = await refusal(ask("ActivateIndex", index_name=house.index, request_id=switch))
    assert other.reason == "REQUEST_ID_REUSED"


async def test_a_repeated_start_finds_its_operation_whatever_index_is_searched_by_now(
    house: IndexHouse, ask: Callable[..., Any]
) -> None:
    with caller.acting_as(caller.system()):
        await house.ingest(lesson(99), "physics.txt", Placement("grade-10-physics", "physics", "10"))
    start = str(uuid4())
    first = (await ask("StartReindex", embedding_model=NEW, namespace="grade-10-physics", request_id=start)).operation
    await house.run(UUID(first.id))
    await ask("ActivateIndex", index_name=await built(house, ask))
    again = (await ask("StartReindex", embedding_model=NEW, namespace="grade-10-physics", request_id=start)).operation
    assert (again.id, again.state) == (first.id, pb.OPERATION_STATE_SUCCEEDED)


@pytest.mark.parametrize("other", [{"namespace": "nowhere"}, {"embedding_model": "nothing"}])
async def test_a_used_request_id_is_told_before_what_the_reindex_would_miss(
    ask: Callable[..., Any], other: dict[str, str]
) -> None:
    start = str(uuid4())
    await ask("StartReindex", embedding_model=NEW, request_id=start)
    refused = await refusal(ask("StartReindex", request_id=start, **other))
    assert (refused.code, refused.reason) == (grpc.StatusCode.ALREADY_EXISTS, "REQUEST_ID_REUSED")


@pytest.mark.parametrize(
    ("method", "fields", "code", "reason"),
    [
        ("StartReindex", {"embedding_model": "nothing"}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("StartReindex", {"namespace": "nowhere"}, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("ActivateIndex", {"index_name": "chunks__none"}, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("ActivateIndex", {}, grpc.StatusCode.INVALID_ARGUMENT, "INVALID_REQUEST"),
        ("RollbackIndex", {}, grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_STATE"),
        ("DropIndex", {"index_name": "chunks__none"}, grpc.StatusCode.NOT_FOUND, "NOT_FOUND"),
        ("DropIndex", {"index_name": "chunks__words_64__64__v1"}, grpc.StatusCode.FAILED_PRECONDITION, "ILLEGAL_STATE"),
    ],
)
async def test_what_cannot_be_done_is_refused_by_name(
    ask: Callable[..., Any], method: str, fields: dict[str, str], code: grpc.StatusCode, reason: str
) -> None:
    refused = await refusal(ask(method, **fields))
    assert (refused.code, refused.reason) == (code, reason)


@pytest.mark.parametrize("method", ["StartReindex", "ActivateIndex", "RollbackIndex", "DropIndex"])
@pytest.mark.parametrize("role", [Role.STUDENT, Role.TEACHER, Role.SERVICE])
async def test_only_administrators_may(ask: Callable[..., Any], people: People, method: str, role: Role) -> None:
    assert (await refusal(ask(method, who=people.add(role)))).reason == "ROLE_NOT_ALLOWED"
