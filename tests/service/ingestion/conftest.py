"""Fixtures of ingestion's service tests."""

import itertools
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.database.pool import Database
from server.vectors.filters import index_name
from server.vectors.milvus import MilvusStore
from tests.fakes import WordEmbedder
from tests.service.ingestion.ingesting import House

_names = itertools.count(1)


@pytest_asyncio.fixture(scope="module")
async def vectors(milvus_uri: str) -> AsyncIterator[MilvusStore]:
    store = MilvusStore(milvus_uri, timeout_seconds=60)
    yield store
    await store.close()


@pytest_asyncio.fixture
async def house(database: Database, vectors: MilvusStore, tmp_path: Path) -> House:
    embedder = WordEmbedder()
    index = index_name(f"ingestion-{next(_names)}", embedder.dimensions)
    await vectors.create_index(index, embedder.dimensions)
    await vectors.activate(index)
    return House(database, vectors, index, embedder, tmp_path)


@pytest.fixture
def teacher(make_user: Callable[..., Caller]) -> Iterator[Caller]:
    """A teacher, who is the caller of the whole test."""
    with caller.acting_as(make_user("teacher")) as who:
        yield who
