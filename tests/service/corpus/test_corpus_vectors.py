"""Promises about kept vectors and embedding references."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.corpus.passage import Chunk
from server.corpus.service import CorpusService
from server.corpus.vectors import VectorRefs
from server.database.pool import Database
from server.text.language import Language

Write = Callable[..., Any]
INDEX = "chunks_a"
MODEL = "local-hash-4-v1"


@pytest_asyncio.fixture(scope="module")
async def refs(database: Database) -> VectorRefs:
    return VectorRefs(database)


@pytest.fixture(autouse=True)
def _as_the_system(empty: None, owner: psycopg.Connection) -> Any:
    owner.execute("DELETE FROM embedding")
    with caller.acting_as(caller.system()):
        yield


def vector(number: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([number, 1 / 3, -1e-30, 0], dtype=np.float32)


async def embed(database: Database, refs: VectorRefs, chunks: list[Chunk]) -> None:
    async with database.transaction() as connection:
        await refs.keep(connection, MODEL, {chunk.content_hash: vector(chunk.index) for chunk in chunks})
        await refs.refer(connection, INDEX, MODEL, 4, chunks)


async def test_what_has_no_vector_yet_is_missing_until_it_is_referred_to(
    database: Database, refs: VectorRefs, write: Write
) -> None:
    await write(["un", "deux"])
    missing = await refs.missing(INDEX)
    await embed(database, refs, missing[:1])
    assert await refs.missing(INDEX) == missing[1:]
    assert await refs.count(INDEX) == 1
    assert await refs.ids(INDEX) == {missing[0].id}


async def test_missing_chunks_are_reached_in_batches_and_by_document(
    database: Database, refs: VectorRefs, write: Write
) -> None:
    await write(["un", "deux", "trois"], namespace="a")
    other: UUID = await write(["quatre"], namespace="b")
    first = await refs.missing(INDEX, limit=3)
    rest = await refs.missing(INDEX, after=first[-1].id, limit=3)
    assert len(first) + len(rest) == 4
    assert [chunk.text for chunk in await refs.missing(INDEX, document_id=other)] == ["quatre"]
    assert len(await refs.missing(INDEX, namespace="a")) == 3


async def test_a_changed_text_is_missing_again(
    database: Database, corpus: CorpusService, refs: VectorRefs, write: Write, draft: Callable[..., Any]
) -> None:
    document_id = await write(["un"])
    await embed(database, refs, await refs.missing(INDEX))
    async with database.transaction() as connection:
        generation = await corpus.begin_generation(connection, document_id)
        await corpus.write_chunks(
            connection, document_id, generation, await corpus.indexed([draft(document_id, 0, "autre")])
        )
    assert [chunk.text for chunk in await refs.missing(INDEX)] == ["autre"]
    assert await refs.count(INDEX) == 0


async def test_kept_vectors_come_back_bit_for_bit(database: Database, refs: VectorRefs, write: Write) -> None:
    await write(["un"])
    (chunk,) = await refs.missing(INDEX)
    await embed(database, refs, [chunk])
    kept = await refs.kept(MODEL, [chunk.content_hash, "0" * 64])
    assert {key: value.tobytes() for key, value in kept.items()} == {chunk.content_hash: vector(0).tobytes()}


async def test_vectors_of_another_model_are_not_mixed_up(database: Database, refs: VectorRefs, write: Write) -> None:
    await write(["un"])
    (chunk,) = await refs.missing(INDEX)
    await embed(database, refs, [chunk])
    assert await refs.kept("another", [chunk.content_hash]) == {}


async def test_an_index_can_be_built_again_from_what_is_kept(
    database: Database, refs: VectorRefs, write: Write
) -> None:
    await write(["un", "deux", "trois"])
    chunks = await refs.missing(INDEX)
    await embed(database, refs, chunks)
    first = await refs.stored(INDEX, "", 2)
    rest = await refs.stored(INDEX, first[-1][0].id, 2)
    assert [chunk for chunk, _ in (*first, *rest)] == chunks
    assert [float(kept[0]) for _, kept in (*first, *rest)] == [chunk.index for chunk in chunks]


async def test_a_chunk_deleted_meanwhile_gets_no_reference(
    database: Database, corpus: CorpusService, refs: VectorRefs, write: Write
) -> None:
    document_id = await write(["un"])
    chunks = await refs.missing(INDEX)
    async with database.transaction() as connection:
        await corpus.delete_document(connection, document_id)
    await embed(database, refs, chunks)
    assert await refs.ids(INDEX) == set()


@pytest.mark.parametrize(
    "change",
    [
        {"content_hash": "c" * 64},
        {"namespace": "elsewhere"},
        {"subject": "another"},
        {"grade": "another"},
        {"language": Language.ARABIC},
        {"private": True, "owner_id": UUID(int=7)},
    ],
    ids=str,
)
async def test_a_chunk_that_is_filed_otherwise_by_now_gets_no_reference(
    database: Database, refs: VectorRefs, write: Write, change: dict[str, Any]
) -> None:
    await write(["un"])
    (chunk,) = await refs.missing(INDEX)
    await embed(database, refs, [replace(chunk, **change)])
    assert await refs.ids(INDEX) == set()


async def test_a_private_chunk_gets_its_reference(
    database: Database, refs: VectorRefs, write: Write, teacher: Caller
) -> None:
    await write(["un"], teacher, private=True)
    (chunk,) = await refs.missing(INDEX)
    await embed(database, refs, [chunk])
    assert await refs.ids(INDEX) == {chunk.id}


async def test_dropping_the_references_of_an_index_keeps_the_vectors(
    database: Database, refs: VectorRefs, write: Write
) -> None:
    await write(["un"])
    chunks = await refs.missing(INDEX)
    await embed(database, refs, chunks)
    async with database.transaction() as connection:
        await refs.drop(connection, INDEX)
    assert await refs.missing(INDEX) == chunks
    assert len(await refs.kept(MODEL, [chunk.content_hash for chunk in chunks])) == 1


async def test_dropping_one_document_leaves_the_others(database: Database, refs: VectorRefs, write: Write) -> None:
    first = await write(["un"])
    await write(["deux"])
    await embed(database, refs, await refs.missing(INDEX))
    async with database.transaction() as connection:
        await refs.drop(connection, INDEX, first)
    assert [chunk.text for chunk in await refs.missing(INDEX)] == ["un"]


async def test_a_sweep_deletes_old_vectors_that_nobody_refers_to(
    database: Database, refs: VectorRefs, write: Write, owner: psycopg.Connection
) -> None:
    await write(["un"])
    chunks = await refs.missing(INDEX)
    await embed(database, refs, chunks)
    async with database.transaction() as connection:
        await refs.keep(connection, MODEL, {"a" * 64: vector(1), "b" * 64: vector(2)})
    old = "UPDATE embedding SET created_at = now() - interval '31 days' WHERE content_hash <> repeat('b', 64)"
    owner.execute(old)
    assert await refs.sweep() == 1
    assert set(await refs.kept(MODEL, [chunks[0].content_hash, "a" * 64, "b" * 64])) == {
        chunks[0].content_hash,
        "b" * 64,
    }


async def test_students_see_no_vectors(database: Database, refs: VectorRefs, student: Caller, write: Write) -> None:
    await write(["un"])
    chunks = await refs.missing(INDEX)
    await embed(database, refs, chunks)
    with caller.acting_as(student):
        assert (await refs.kept(MODEL, [chunks[0].content_hash]), await refs.ids(INDEX)) == ({}, set())
