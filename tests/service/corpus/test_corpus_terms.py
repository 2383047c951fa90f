"""Search terms of another version of the analyser: known as such, made again in batches, counted right throughout."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import psycopg
import pytest

from server import caller
from server.caller import Caller
from server.corpus import terms
from server.corpus.lexemes import of_passage
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.store import TermStore
from server.corpus.terms import SearchTerms
from server.database.pool import Database
from server.refusal import Conflict
from tests.conftest import Addresses
from tests.service.corpus.test_corpus_chunks import KEPT, RECOUNT, rewrite

Write = Callable[..., Any]
ANYWHERE = CorpusFilter()
MERGED = "SELECT sum(chunks), sum(terms) FROM corpus_size"
COUNTED = "SELECT count(*), sum(term_count) FROM chunk"
AGE = "UPDATE chunk SET terms = '''ancien'':1A', term_count = 9, analyser_version = 0 WHERE text LIKE %s"
"""What a release with another analyser left."""


@pytest.fixture(autouse=True)
def _empty(empty: None) -> None:
    pass


@pytest.fixture
def search_terms(database: Database) -> SearchTerms:
    return SearchTerms(database, batch=2, wait_seconds=0.01)


async def nobody_listens(renewed: int) -> None:
    """Take a report of progress."""


async def renew(search_terms: SearchTerms, report: Callable[[int], Awaitable[None]] = nobody_listens) -> int:
    with caller.acting_as(caller.system()):
        return await search_terms.renew(report)


async def outdated(search_terms: SearchTerms, namespace: str = "") -> int:
    with caller.acting_as(caller.system()):
        return await search_terms.outdated(namespace)


def statistics_are_right(owner: psycopg.Connection) -> bool:
    sizes = owner.execute(MERGED).fetchone() == owner.execute(COUNTED).fetchone()
    return sizes and dict(owner.execute(KEPT).fetchall()) == dict(owner.execute(RECOUNT).fetchall())


async def test_outdated_terms_are_made_again_and_found_by(
    corpus: CorpusService, search_terms: SearchTerms, student: Caller, write: Write, owner: psycopg.Connection
) -> None:
    await write(["énergie cinétique", "énergie potentielle", "la cellule", "l'énergie, l'énergie"])
    before = owner.execute("SELECT id, terms, term_count FROM chunk ORDER BY id").fetchall()
    owner.execute(AGE, ["%"])
    with caller.acting_as(student):
        assert await corpus.search_text("énergie", ANYWHERE, 5) == []
    assert await outdated(search_terms) == 4
    assert await renew(search_terms) == 4
    assert await outdated(search_terms) == 0
    with caller.acting_as(student):
        assert len(await corpus.search_text("énergie", ANYWHERE, 5)) == 3
    assert owner.execute("SELECT id, terms, term_count FROM chunk ORDER BY id").fetchall() == before
    assert statistics_are_right(owner)


async def test_new_chunks_are_of_this_version(search_terms: SearchTerms, write: Write) -> None:
    await write(["énergie"])
    assert await outdated(search_terms) == 0


async def test_terms_made_again_are_a_change_to_searchers_but_not_to_copies_of_texts(
    corpus: CorpusService, search_terms: SearchTerms, write: Write, owner: psycopg.Connection
) -> None:
    await write(["énergie", "cellule"])
    owner.execute(AGE, ["%"])
    before = owner.execute("SELECT sum(writes), sum(removals) FROM corpus_size").fetchone()
    await renew(search_terms)
    renewed = owner.execute("SELECT sum(writes), sum(removals) FROM corpus_size").fetchone()
    assert (renewed[0] > before[0], renewed[1]) == (True, before[1])
    generation = await corpus.generation()
    assert await renew(search_terms) == 0
    assert await corpus.generation() == generation


async def test_one_namespace_may_be_made_again_alone(
    database: Database, search_terms: SearchTerms, write: Write, owner: psycopg.Connection
) -> None:
    await write(["énergie"], namespace="physics")
    await write(["cellule"], namespace="biology")
    owner.execute(AGE, ["%"])
    with caller.acting_as(caller.system()):
        assert await search_terms.renew(nobody_listens, "physics") == 1
    assert (await outdated(search_terms, "physics"), await outdated(search_terms, "biology")) == (0, 1)


async def test_a_run_that_was_cut_off_between_batches_is_made_up_by_the_next(
    search_terms: SearchTerms, write: Write, owner: psycopg.Connection
) -> None:
    await write([f"énergie {number}" for number in range(5)])
    owner.execute(AGE, ["%"])

    async def cut_off(renewed: int) -> None:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await renew(search_terms, cut_off)
    assert await outdated(search_terms) == 3
    assert statistics_are_right(owner)
    assert await renew(search_terms) == 3
    assert statistics_are_right(owner)


async def test_an_ingestion_of_the_same_text_makes_outdated_terms_again(
    database: Database,
    corpus: CorpusService,
    search_terms: SearchTerms,
    write: Write,
    owner: psycopg.Connection,
    draft: Callable[..., Any],
) -> None:
    document_id = await write(["énergie", "cellule"])
    owner.execute(AGE, ["%"])
    await rewrite(database, corpus, document_id, [draft(document_id, 0, "énergie"), draft(document_id, 1, "cellule")])
    assert await outdated(search_terms) == 0
    assert statistics_are_right(owner)


async def test_a_text_that_changed_meanwhile_keeps_the_terms_of_its_new_text(
    database: Database, corpus: CorpusService, write: Write, owner: psycopg.Connection, draft: Callable[..., Any]
) -> None:
    document_id, store = await write(["énergie"]), TermStore()
    owner.execute(AGE, ["%"])
    with caller.acting_as(caller.system()):
        async with database.transaction() as connection:
            read = await store.after(connection, "", "", 10)
        await rewrite(database, corpus, document_id, [draft(document_id, 0, "la cellule")])
        # Another release wrote the new text: still outdated, but not to be given the terms of the old one.
        owner.execute("UPDATE chunk SET analyser_version = 0")
        async with database.transaction() as connection:
            assert await store.renew(connection, read, [of_passage(each.text) for each in read]) == 0
    assert owner.execute("SELECT terms = %s::tsvector FROM chunk", [of_passage("la cellule").literal]).fetchone() == (
        True,
    )


@asynccontextmanager
async def writing(addresses: Addresses, pattern: str) -> AsyncIterator[psycopg.AsyncConnection]:
    """Hold chunks as a writer does that has not committed yet."""
    async with await psycopg.AsyncConnection.connect(addresses.owner_url, options="-c search_path=bacmr") as writer:
        await writer.execute("UPDATE chunk SET generation = generation + 1 WHERE text LIKE %s", [pattern])
        yield writer


async def test_a_chunk_that_is_being_written_is_waited_for_without_holding_others(
    addresses: Addresses, search_terms: SearchTerms, write: Write, owner: psycopg.Connection
) -> None:
    await write([f"énergie {number}" for number in range(4)])
    owner.execute(AGE, ["%"])
    seen: list[int] = []
    async with writing(addresses, "énergie 2") as writer:

        async def let_go(renewed: int) -> None:
            seen.append(renewed)
            if len(seen) == 3:
                await writer.commit()

        async with asyncio.timeout(30):
            assert await renew(search_terms, let_go) == 4
    assert seen[:3] in ([1, 2, 0], [2, 1, 0])
    assert await outdated(search_terms) == 0
    assert statistics_are_right(owner)


async def test_writers_of_another_release_that_do_not_stop_are_told(
    search_terms: SearchTerms, write: Write, owner: psycopg.Connection
) -> None:
    await write(["énergie"])
    owner.execute(AGE, ["%"])
    reports: list[int] = []

    async def age_again(renewed: int) -> None:
        reports.append(renewed)
        owner.execute(AGE, ["%"])

    with pytest.raises(Conflict, match="other releases"):
        await renew(search_terms, age_again)
    assert len(reports) == terms.MOST_PASSES
