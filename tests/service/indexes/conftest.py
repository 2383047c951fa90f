"""A library of a few documents with its first index, per test."""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.database.pool import Database
from server.vectors.hot import HotVectors
from server.vectors.lite import MilvusLite
from server.vectors.lite_rows import LiteRows
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorStore
from tests.service.indexes.reindexing import IndexHouse, lesson

SERVER_URI = os.environ.get("BACMR_TEST_MILVUS_URI", "")
_SERVER = pytest.param("server", marks=pytest.mark.milvus_server)


@pytest.fixture(scope="module", params=["embedded", *([_SERVER] if SERVER_URI else [])])
def opened(request: pytest.FixtureRequest) -> MilvusStore | HotVectors:
    """The embedded store as the server uses it, or a real Milvus."""
    if request.param == "server":
        return MilvusStore(SERVER_URI, timeout_seconds=60)
    lite: MilvusLite = request.getfixturevalue("milvus_lite")
    return HotVectors(MilvusStore(lite.uri, timeout_seconds=60), LiteRows(lite.uri, lite.counter_file))


@pytest_asyncio.fixture(scope="module")
async def vectors(opened: MilvusStore | HotVectors) -> AsyncIterator[VectorStore]:
    yield opened
    await opened.close()


@pytest.fixture
def store_uri(opened: MilvusStore | HotVectors, request: pytest.FixtureRequest) -> str:
    """Where another process reaches the store."""
    return SERVER_URI if isinstance(opened, MilvusStore) else request.getfixturevalue("milvus_uri")


@pytest.fixture
def admin(make_user: Callable[..., Caller]) -> Caller:
    return make_user("admin")


@pytest.fixture
def teacher(make_user: Callable[..., Caller]) -> Iterator[Caller]:
    """A teacher, who is the caller of the whole test."""
    with caller.acting_as(make_user("teacher")) as who:
        yield who


@pytest_asyncio.fixture
async def house(
    database: Database, vectors: VectorStore, tmp_path: Path, owner: psycopg.Connection, teacher: Caller
) -> AsyncIterator[IndexHouse]:
    """Two documents of five chunks each, found by the old model."""
    for model in (f"words_{dimensions}__{dimensions}" for dimensions in (64, 96)):
        # A real Milvus confuses a collection with a former one of its name: the catalogue never uses one twice.
        used = f"chunks__{model}__v{secrets.randbelow(10**6)}"
        owner.execute(
            "INSERT INTO vector_index (name, model, dimensions, analyser_version, state) VALUES (%s, '', 1, 1, 'dropped')",
            [used],
        )
    house = IndexHouse(database, vectors, "", None, tmp_path)
    await house.open()
    for start in (0, 5):
        await house.ingest(b"\f".join(map(lesson, range(start, start + 5))), f"lessons{start}.txt")
    yield house
    await asyncio.to_thread(owner.execute, "DELETE FROM document")
    await asyncio.to_thread(owner.execute, "TRUNCATE operation, vector_index, embedding, procrastinate_jobs CASCADE")
    with caller.acting_as(caller.system()):
        await vectors.create_index("chunks__nothing", 4)
        await vectors.activate("chunks__nothing")
        for name in await vectors.indexes():
            if name != "chunks__nothing":
                await vectors.drop_index(name)
