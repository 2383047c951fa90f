"""The rows in memory show what the store holds: after crashes, foreign writes and failures too."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import replace
from hashlib import sha256
from itertools import count
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
import pytest_asyncio

from server import refusal
from server.vectors.filters import index_name
from server.vectors.hot import HotVectors
from server.vectors.lite import MilvusLite
from server.vectors.lite_rows import LiteRows
from server.vectors.milvus import MilvusStore
from server.vectors.port import VectorFilter, VectorRow

DIMENSIONS = 48
EVERYTHING = VectorFilter(everything=True)
_indexes = count(1)
_random = np.random.default_rng(5)
OWNER = UUID(int=7)


def rows(number: int, start: int = 0) -> list[VectorRow]:
    return [
        VectorRow(
            chunk_id=sha256(str(start + place).encode()).hexdigest(),
            vector=_random.normal(size=DIMENSIONS).astype(np.float32),
            document_id=UUID(int=place // 10),
            namespace=f"n{place % 3}",
            subject=("math", "physics")[place % 2],
            grade="12",
            language="fr",
            owner_id=OWNER if place % 7 == 0 else None,
        )
        for place in range(number)
    ]


def query() -> np.ndarray:
    return _random.normal(size=DIMENSIONS).astype(np.float32)


@pytest_asyncio.fixture
async def store(milvus_lite: MilvusLite) -> AsyncIterator[MilvusStore]:
    plain = MilvusStore(milvus_lite.uri)
    yield plain
    await plain.close()


@pytest_asyncio.fixture
async def hot(milvus_lite: MilvusLite) -> AsyncIterator[HotVectors]:
    opened = hot_of(milvus_lite)
    yield opened
    await opened.close()


def hot_of(lite: MilvusLite, **options: int) -> HotVectors:
    return HotVectors(MilvusStore(lite.uri), LiteRows(lite.uri, lite.counter_file), **options)


@pytest_asyncio.fixture
async def index(store: MilvusStore) -> AsyncIterator[str]:
    name = index_name(f"hot-{next(_indexes)}", DIMENSIONS)
    await store.create_index(name, DIMENSIONS)
    yield name
    await store.drop_index(name)


async def warmed(hot: HotVectors, index: str) -> HotVectors:
    await hot.search(index, query(), 1, EVERYTHING)
    await hot.settled()
    return hot


@pytest.mark.parametrize(
    "where",
    [
        EVERYTHING,
        VectorFilter(),
        VectorFilter(viewer_id=OWNER),
        VectorFilter(namespace="n1", subject="physics"),
        VectorFilter(document_ids=(UUID(int=3),)),
        VectorFilter(namespace="nowhere"),
    ],
    ids=str,
)
async def test_memory_and_store_find_the_same(
    hot: HotVectors, store: MilvusStore, index: str, where: VectorFilter
) -> None:
    written = rows(300)
    await store.upsert(index, written[:200])
    await store.flush(index)
    await store.upsert(index, [replace(row, vector=query()) for row in written[:50]] + written[200:])
    await store.delete(index, [row.chunk_id for row in written[60:70]])
    await warmed(hot, index)
    asked = query()
    ours, theirs = await hot.search(index, asked, 30, where), await store.search(index, asked, 30, where)
    assert [hit.chunk_id for hit in ours] == [hit.chunk_id for hit in theirs]
    assert np.allclose([hit.score for hit in ours], [hit.score for hit in theirs], atol=1e-4)


async def test_what_another_process_writes_is_found_by_the_next_search(
    hot: HotVectors, store: MilvusStore, index: str
) -> None:
    await hot.upsert(index, rows(20))
    await warmed(hot, index)
    foreign = rows(1, start=1_000)[0]
    await store.upsert(index, [foreign])
    assert (await hot.search(index, foreign.vector, 1, EVERYTHING))[0].chunk_id == foreign.chunk_id
    await hot.settled()
    await store.delete(index, [foreign.chunk_id])
    assert (await hot.search(index, foreign.vector, 1, EVERYTHING))[0].chunk_id != foreign.chunk_id


async def test_a_foreign_write_during_our_own_is_not_missed(hot: HotVectors, store: MilvusStore, index: str) -> None:
    await warmed(hot, index)
    ours, theirs = rows(600), rows(300, start=1_000)
    await asyncio.gather(hot.upsert(index, ours), store.upsert(index, theirs))
    everything = {hit.chunk_id for hit in await hot.search(index, query(), 2_000, EVERYTHING)}
    assert everything == {row.chunk_id for row in [*ours, *theirs]}


async def test_an_index_too_large_for_memory_is_searched_by_the_store(milvus_lite: MilvusLite, index: str) -> None:
    small = hot_of(milvus_lite, max_bytes=1)
    written = rows(20)
    await small.upsert(index, written)
    await warmed(small, index)
    assert (await small.search(index, written[3].vector, 1, EVERYTHING))[0].chunk_id == written[3].chunk_id
    await small.close()


async def test_memory_answers_while_the_store_is_down_and_writes_say_so(tmp_path: Path) -> None:
    lite = MilvusLite(tmp_path / "milvus")
    await lite.start()
    hot = hot_of(lite)
    index, written = index_name("down", DIMENSIONS), rows(20)
    await hot.create_index(index, DIMENSIONS)
    await warmed(hot, index)
    await hot.upsert(index, written)
    former = lite.pid
    assert former is not None
    os.kill(former, signal.SIGKILL)
    assert (await hot.search(index, written[3].vector, 1, EVERYTHING))[0].chunk_id == written[3].chunk_id
    with pytest.raises(refusal.StoreUnavailable):
        await hot.upsert(index, rows(5, start=100))
    async with asyncio.timeout(60):
        while not await hot.healthy():  # noqa: ASYNC110 - another process has no event
            await asyncio.sleep(0.02)
    assert await hot.upsert(index, rows(5, start=100)) == 5
    assert len(await hot.search(index, query(), 100, EVERYTHING)) == 25
    await hot.close()
    await lite.stop()


async def test_the_live_index_is_read_on_open(milvus_lite: MilvusLite, hot: HotVectors, store: MilvusStore) -> None:
    name = index_name(f"hot-{next(_indexes)}", DIMENSIONS)
    await store.create_index(name, DIMENSIONS)
    await store.upsert(name, rows(20))
    await store.activate(name)
    counts = await hot.open()
    await hot.settled()
    assert counts[name] == 20
    assert len(await hot.search(name, query(), 100, EVERYTHING)) == 20
