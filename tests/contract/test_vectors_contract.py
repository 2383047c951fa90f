"""What every vector store promises, over Milvus Lite always and over a real Milvus when its address is given."""

import asyncio
import os
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from uuid import UUID, uuid4

import numpy as np
import pytest
import pytest_asyncio

from server import caller, refusal
from server.vectors.filters import index_name
from server.vectors.hot import HotVectors
from server.vectors.lite import MilvusLite
from server.vectors.lite_rows import LiteRows
from server.vectors.milvus import MilvusStore
from server.vectors.port import Vector, VectorFilter, VectorRow, VectorStore

DIMENSIONS = 32
EVERYTHING = VectorFilter(everything=True)
SERVER_URI = os.environ.get("BACMR_TEST_MILVUS_URI", "")
_SERVER = pytest.param("server", marks=pytest.mark.milvus_server)
_indexes = count(1)
_random = np.random.default_rng(7)


@pytest.fixture(scope="module", params=["lite", "hot", *([_SERVER] if SERVER_URI else [])])
def opened(request: pytest.FixtureRequest) -> MilvusStore | HotVectors:
    if request.param == "server":
        return MilvusStore(SERVER_URI, timeout_seconds=60)
    lite: MilvusLite = request.getfixturevalue("milvus_lite")
    store = MilvusStore(lite.uri)
    return store if request.param == "lite" else HotVectors(store, LiteRows(lite.uri, lite.counter_file))


@pytest_asyncio.fixture(scope="module")
async def store(opened: MilvusStore | HotVectors) -> AsyncIterator[VectorStore]:
    yield opened
    for index in await opened.indexes():
        if index != await opened.live():
            await opened.drop_index(index)
    await opened.close()


@pytest_asyncio.fixture
async def index(store: VectorStore) -> str:
    name = index_name(f"contract-{next(_indexes)}", DIMENSIONS)
    await store.create_index(name, DIMENSIONS)
    if isinstance(store, HotVectors):
        await store.search(name, unit(1), 1, EVERYTHING)
        await store.settled()
    return name


def unit(*head: float) -> Vector:
    vector = np.zeros(DIMENSIONS, np.float32)
    vector[: len(head)] = head
    return vector / np.linalg.norm(vector)


def row(name: str, vector: Vector | None = None, **fields: object) -> VectorRow:
    made = VectorRow(
        chunk_id=sha256(name.encode()).hexdigest(),
        vector=unit(*_random.normal(size=DIMENSIONS)) if vector is None else vector,
        document_id=UUID(int=1),
        namespace="grade-12-math",
        subject="math",
        grade="12",
        language="fr",
        owner_id=None,
    )
    return replace(made, **fields)  # type: ignore[arg-type]


def ids(rows: Sequence[VectorRow]) -> set[str]:
    return {one.chunk_id for one in rows}


async def found(store: VectorStore, index: str, where: VectorFilter = EVERYTHING, limit: int = 50) -> set[str]:
    return {hit.chunk_id for hit in await store.search(index, unit(1), limit, where)}


async def test_a_written_row_is_found_by_the_next_search(store: VectorStore, index: str) -> None:
    near, far = row("near", unit(1, 0.1)), row("far", unit(0, 1))
    assert await store.upsert(index, [far, near]) == 2
    hits = await store.search(index, unit(1), 10, EVERYTHING)
    assert [hit.chunk_id for hit in hits] == [near.chunk_id, far.chunk_id]
    assert hits[0].score == pytest.approx(float(near.vector[0]), abs=1e-3)
    assert hits[1].score == pytest.approx(0, abs=1e-3)


async def test_the_limit_bounds_the_hits(store: VectorStore, index: str) -> None:
    await store.upsert(index, [row(f"limited {number}") for number in range(40)])
    assert len(await store.search(index, unit(1), 30, EVERYTHING)) == 30


async def test_writing_the_same_rows_again_changes_nothing(store: VectorStore, index: str) -> None:
    rows = [row(f"again {number}") for number in range(20)]
    await store.upsert(index, rows)
    await store.upsert(index, rows)
    assert await store.count(index) == 20
    assert await store.ids(index) == ids(rows)


async def test_the_ids_show_what_was_written_just_now(store: VectorStore, index: str) -> None:
    rows = [row(f"now {number}") for number in range(5)]
    for number, written in enumerate(rows, start=1):
        await store.upsert(index, [written])
        assert await store.ids(index) == ids(rows[:number])


async def test_the_last_of_two_rows_with_one_id_wins(store: VectorStore, index: str) -> None:
    first, last = row("twice", unit(1)), row("twice", unit(0, 1))
    assert await store.upsert(index, [first, last]) == 1
    assert await store.count(index) == 1
    assert (await store.search(index, unit(0, 1), 5, EVERYTHING))[0].score == pytest.approx(1, abs=1e-3)


async def test_a_row_that_moves_to_another_namespace_is_kept_once(store: VectorStore, index: str) -> None:
    before = row("moved", namespace="grade-10-math")
    after = replace(before, namespace="grade-12-history")
    await store.upsert(index, [before, row("stays", namespace="grade-10-math")])
    await store.flush(index)
    await store.upsert(index, [after])
    assert await store.count(index) == 2
    assert await store.count(index, "grade-10-math") == 1
    assert await found(store, index, VectorFilter(namespace="grade-12-history", everything=True)) == {after.chunk_id}


async def test_a_namespace_is_searched_and_counted_alone(store: VectorStore, index: str) -> None:
    mine, other = row("in math"), row("in history", namespace="تاريخ الصف 12")
    await store.upsert(index, [mine, other])
    assert await found(store, index, VectorFilter(namespace="تاريخ الصف 12")) == {other.chunk_id}
    assert await store.count(index, "تاريخ الصف 12") == 1


async def test_an_unknown_namespace_is_empty(store: VectorStore, index: str) -> None:
    await store.upsert(index, [row("lonely")])
    assert await found(store, index, VectorFilter(namespace="nowhere")) == set()
    assert await store.count(index, "nowhere") == 0


@pytest.mark.parametrize(
    "where", [VectorFilter(subject="physics"), VectorFilter(grade="10"), VectorFilter(language="ar")], ids=str
)
async def test_each_filter_keeps_what_fits_only(store: VectorStore, index: str, where: VectorFilter) -> None:
    fits = row("fits", subject="physics", grade="10", language="ar")
    await store.upsert(index, [fits, row("does not fit")])
    assert await found(store, index, where) == {fits.chunk_id}


async def test_documents_can_be_named_in_the_filter(store: VectorStore, index: str) -> None:
    wanted = [row(f"of {number}", document_id=UUID(int=100 + number)) for number in range(2)]
    await store.upsert(index, [*wanted, row("of another")])
    documents = tuple(one.document_id for one in wanted)
    assert await found(store, index, VectorFilter(document_ids=documents)) == ids(wanted)


async def test_private_rows_are_found_by_their_owner_and_by_those_who_may_see_everything(
    store: VectorStore, index: str
) -> None:
    owner, stranger = uuid4(), uuid4()
    shared, private = row("shared"), row("private", owner_id=owner)
    await store.upsert(index, [shared, private])
    assert await found(store, index, VectorFilter()) == {shared.chunk_id}
    assert await found(store, index, VectorFilter(viewer_id=stranger)) == {shared.chunk_id}
    assert await found(store, index, VectorFilter(viewer_id=owner)) == ids([shared, private])
    assert await found(store, index, EVERYTHING) == ids([shared, private])


@pytest.mark.parametrize("text", ['" or "" == "', "\\", "'", 'شرح "نص"', 'a\\" or owner_id != \\"'])
async def test_filter_values_are_never_read_as_expressions(store: VectorStore, index: str, text: str) -> None:
    named = row(f"named {text}", subject=text)
    await store.upsert(index, [named, row("secret", owner_id=uuid4())])
    assert await found(store, index, VectorFilter(subject=text)) == {named.chunk_id}


@pytest.mark.parametrize("poison", [np.nan, np.inf])
async def test_vectors_that_are_not_finite_are_refused(store: VectorStore, index: str, poison: float) -> None:
    vector = unit(1)
    vector[3] = poison
    with pytest.raises(refusal.Invalid):
        await store.upsert(index, [row("good"), row("bad", vector)])
    with pytest.raises(refusal.Invalid):
        await store.search(index, vector, 5, EVERYTHING)
    assert await store.count(index) == 0


async def test_vectors_of_another_length_are_refused(store: VectorStore, index: str) -> None:
    short = np.ones(DIMENSIONS - 1, np.float32)
    with pytest.raises(refusal.Invalid):
        await store.upsert(index, [row("short", short)])
    with pytest.raises(refusal.Invalid):
        await store.search(index, short, 5, EVERYTHING)


async def test_more_metadata_than_a_vector_may_carry_is_refused(store: VectorStore, index: str) -> None:
    with pytest.raises(refusal.Invalid):
        await store.upsert(index, [row("talkative", subject="x" * 200)])


async def test_deleted_ids_are_gone_and_unknown_ones_are_no_error(store: VectorStore, index: str) -> None:
    keep, drop = row("keep"), row("drop")
    await store.upsert(index, [keep, drop])
    await store.delete(index, [drop.chunk_id, drop.chunk_id, "f" * 64])
    assert await found(store, index) == {keep.chunk_id}
    assert await store.count(index) == 1


async def test_deleting_a_document_deletes_its_rows_only(store: VectorStore, index: str) -> None:
    other = row("other")
    of_document = [row(f"page {number}", document_id=UUID(int=9), namespace=f"n{number}") for number in range(5)]
    await store.upsert(index, [*of_document, other])
    await store.delete_document(index, UUID(int=9))
    assert await store.ids(index) == {other.chunk_id}


async def test_flushed_rows_are_found_like_others(store: VectorStore, index: str) -> None:
    rows = [row(f"flushed {number}") for number in range(10)]
    await store.upsert(index, rows)
    await store.flush(index)
    await store.flush(index)
    await store.upsert(index, [replace(rows[0], vector=unit(1))])
    assert await found(store, index) == ids(rows)
    assert await store.count(index) == 10


async def test_many_writers_at_once_lose_nothing(store: VectorStore, index: str) -> None:
    batches = [[row(f"writer {writer} row {number}") for number in range(100)] for writer in range(8)]
    await asyncio.gather(*(store.upsert(index, batch) for batch in batches), store.flush(index))
    assert await store.count(index) == 800


async def test_creating_an_index_again_keeps_its_rows(store: VectorStore, index: str) -> None:
    await store.upsert(index, [row("kept")])
    await store.create_index(index, DIMENSIONS)
    assert await store.count(index) == 1


async def test_an_index_of_other_dimensions_is_a_conflict(store: VectorStore, index: str) -> None:
    with pytest.raises(refusal.Conflict):
        await store.create_index(index, DIMENSIONS * 2)


async def test_a_foreign_name_is_refused(store: VectorStore) -> None:
    for name in ("users", "chunks__a-b", ""):
        with pytest.raises(refusal.Invalid):
            await store.create_index(name, DIMENSIONS)


async def test_a_missing_index_is_not_found(store: VectorStore) -> None:
    missing = index_name("missing", DIMENSIONS)
    with pytest.raises(refusal.NotFound):
        await store.search(missing, unit(1), 5, EVERYTHING)
    with pytest.raises(refusal.NotFound):
        await store.activate(missing)


async def test_the_live_alias_moves_and_its_index_cannot_be_dropped(store: VectorStore, index: str) -> None:
    successor = index_name(f"successor-{next(_indexes)}", DIMENSIONS)
    await store.create_index(successor, DIMENSIONS)
    await store.activate(index)
    assert await store.live() == index
    with pytest.raises(refusal.IllegalState):
        await store.drop_index(index)
    await store.activate(successor)
    assert await store.live() == successor
    await store.drop_index(index)
    assert index not in await store.indexes()
    assert successor in await store.indexes()


async def test_dropping_a_missing_index_is_no_error(store: VectorStore) -> None:
    await store.drop_index(index_name("never-made", DIMENSIONS))


async def test_a_passed_deadline_stops_a_search_before_it_starts(store: VectorStore, index: str) -> None:
    await store.upsert(index, [row("late")])
    late = caller.Caller(deadline_at=asyncio.get_running_loop().time() - 1)
    with caller.acting_as(late), pytest.raises(refusal.DeadlineExceeded):
        await store.search(index, unit(1), 5, EVERYTHING)


async def test_a_running_store_is_healthy(store: VectorStore) -> None:
    assert await store.healthy()
