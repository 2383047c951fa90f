"""The catalogue: one index is searched, an empty library follows the settings, and every process follows the catalogue."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.corpus.catalogue import IndexCatalogue
from server.corpus.index import IndexState
from server.corpus.spaces import Spaces
from server.database.pool import Database
from server.models.local.embedder import LocalEmbedder
from server.refusal import StoreUnavailable


@pytest_asyncio.fixture
async def catalogue(database: Database, owner: psycopg.Connection) -> Iterator[IndexCatalogue]:
    with caller.acting_as(caller.system()):
        yield IndexCatalogue(database)
    await asyncio.to_thread(owner.execute, "DELETE FROM document")
    await asyncio.to_thread(owner.execute, "TRUNCATE vector_index")


@pytest.fixture
def document(owner: psycopg.Connection) -> None:
    """A library with a chunk."""
    owner.execute(
        "WITH made AS (INSERT INTO document (title, content_type, size_bytes, sha256, blob_key)"
        " VALUES ('Cours', 'text/plain', 1, repeat('a', 64), 'files/a') RETURNING id)"
        " INSERT INTO chunk (id, document_id, page, chunk_index, start_at, end_at, token_count, term_count, language,"
        " namespace, subject, grade, content_hash, generation, terms, text)"
        " SELECT repeat('b', 64), id, 1, 0, 0, 1, 1, 1, 'fr', '', '', '', repeat('c', 64), 1, '', 'x' FROM made"
    )


async def test_the_first_start_makes_an_index_and_the_next_ones_keep_it(catalogue: IndexCatalogue) -> None:
    first = await catalogue.ensure_active("local-hash-1024-v1", 1024)
    assert (first.name, first.state) == ("chunks__local_hash_1024_v1__1024__v1", IndexState.ACTIVE)
    assert await catalogue.ensure_active("local-hash-1024-v1", 1024) == first


async def test_an_empty_library_follows_the_settings(catalogue: IndexCatalogue) -> None:
    first = await catalogue.ensure_active("words", 64)
    second = await catalogue.ensure_active("words", 96)
    third = await catalogue.ensure_active("others", 96)
    assert first == second
    assert [index.name for index in await catalogue.listed()] == [third.name]
    assert await catalogue.dropped() == [first.name]


async def test_a_library_keeps_its_index_whatever_the_settings_name(catalogue: IndexCatalogue, document: None) -> None:
    first = await catalogue.ensure_active("words", 64)
    assert await catalogue.ensure_active("others", 96) == first


async def test_models_whose_names_look_alike_get_indexes_of_their_own(catalogue: IndexCatalogue) -> None:
    first = await catalogue.ensure_active("a-b", 64)
    second = await catalogue.ensure_active("a_b", 64)
    assert first.name != second.name


async def test_students_see_no_indexes(catalogue: IndexCatalogue, make_user) -> None:
    await catalogue.ensure_active("words", 64)
    with caller.acting_as(make_user("student")):
        assert await catalogue.listed() == []


async def test_a_search_goes_on_with_the_last_index_while_the_database_is_away(
    catalogue: IndexCatalogue, make_user
) -> None:
    active = await catalogue.ensure_active("words", 64)
    away = Away(catalogue)
    spaces = Spaces(away, lambda name, size: LocalEmbedder(), follow_seconds=0)
    student: Caller = make_user("student")
    with caller.acting_as(student):
        assert (await spaces.live()).index == active.name
        away.gone = True
        assert (await spaces.live()).index == active.name


class Away:
    """A catalogue whose database can be gone."""

    def __init__(self, catalogue: IndexCatalogue) -> None:
        self._catalogue, self.gone = catalogue, False

    async def active(self):
        if self.gone:
            raise StoreUnavailable
        return await self._catalogue.active()
