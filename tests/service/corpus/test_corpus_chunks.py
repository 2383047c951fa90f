"""Promises about chunks: written once, searched by rank, shown to those who may see them."""

from collections.abc import Callable
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy import text

from server import caller
from server.caller import Caller
from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.store import chunks as store
from server.database.pool import Database
from server.text.language import Language
from tests.conftest import Addresses

Write = Callable[..., Any]
ANYWHERE = CorpusFilter()
RECOUNT = """
    SELECT lexeme, chunks FROM (
        SELECT lexeme, count(*) AS chunks FROM chunk, unnest(tsvector_to_array(terms)) AS lexeme GROUP BY lexeme
    ) AS counted
"""
READ_WHOLE = "SELECT sum(seq_scan) FROM pg_stat_xact_user_tables WHERE relname IN ('chunk', 'term_count')"
KEPT = "SELECT lexeme, sum(chunks) FROM term_count GROUP BY lexeme HAVING sum(chunks) <> 0"


async def texts_found(corpus: CorpusService, query: str, where: CorpusFilter = ANYWHERE) -> list[str]:
    hits = await corpus.search_text(query, where, 10)
    chunks = await corpus.chunks([hit.chunk_id for hit in hits])
    return [chunk.text for chunk in chunks.values()]


async def rewrite(database: Database, corpus: CorpusService, document_id: UUID, drafts: list[Any]) -> list[str]:
    """Write a document again as a later ingestion does; returns the ids it left behind."""
    with caller.acting_as(caller.system()):
        async with database.transaction() as connection:
            generation = await corpus.begin_generation(connection, document_id)
            await corpus.write_chunks(connection, document_id, generation, await corpus.indexed(drafts))
            obsolete = await corpus.obsolete_chunks(connection, document_id, generation)
            await corpus.retire_chunks(connection, document_id, generation)
    return obsolete


@pytest.fixture(autouse=True)
def _empty(empty: None) -> None:
    pass


@pytest.mark.parametrize(
    ("passage", "query"),
    [
        ("La photosynthèse produit du glucose.", "photosynthese"),
        ("Les élèves résolvent des équations.", "Quelle équation ?"),
        ("تدرس الفيزياء حركة الأجسام", "ما هي فيزياء"),
        ("وَزارَةُ التَّعليم", "الوزارة"),
    ],
)
async def test_a_text_is_found_by_other_forms_of_its_words(
    corpus: CorpusService, student: Caller, write: Write, passage: str, query: str
) -> None:
    await write([passage, "Rien de tout cela.", "لا شيء"])
    with caller.acting_as(student):
        assert (await texts_found(corpus, query))[:1] == [passage]


async def test_rare_terms_count_more_than_common_ones(corpus: CorpusService, student: Caller, write: Write) -> None:
    common = [f"La cellule numéro {word} divise" for word in ("un", "deux", "trois", "quatre")]
    await write([*common, "Le ribosome fabrique"])
    with caller.acting_as(student):
        assert (await texts_found(corpus, "cellule ribosome"))[0] == "Le ribosome fabrique"


async def test_words_that_many_passages_hold_find_together_the_one_that_is_meant(
    corpus: CorpusService, student: Caller, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST_CANDIDATES", 2)
    common = [f"La {word} numéro {number}" for word in ("masse", "densité") for number in range(5)]
    await write([*common, *(f"Rien {number}" for number in range(20)), "La masse et la densité", "Le ribosome"])
    with caller.acting_as(student):
        found = await texts_found(corpus, "Quelle masse et quelle densité a le ribosome ?")
    assert sorted(found) == ["La masse et la densité", "Le ribosome"]


async def test_a_search_reads_no_table_whole_though_no_statistics_are_known(addresses: Addresses, write: Write) -> None:
    await write(["La force est égale à la masse multipliée par l'accélération."])
    with psycopg.connect(addresses.owner_url, options="-c search_path=bacmr -c app.role=admin") as connection:
        assert connection.execute(
            "SELECT count(*) FROM search_chunks('{forc,mass}', '', '', '', '', '{}', 100, 10)"
        ).fetchone() == (1,)
        assert connection.execute(READ_WHOLE).fetchone() == (0,)


async def test_repetition_and_brevity_raise_the_rank(corpus: CorpusService, student: Caller, write: Write) -> None:
    long = "énergie " + " ".join(f"mot{number}" for number in range(60))
    await write([long, "énergie cinétique", "énergie énergie énergie cinétique"])
    with caller.acting_as(student):
        found = await texts_found(corpus, "énergie")
    assert found == ["énergie énergie énergie cinétique", "énergie cinétique", long]


async def test_a_query_of_nothing_known_finds_nothing(corpus: CorpusService, student: Caller, write: Write) -> None:
    await write(["La photosynthèse"])
    with caller.acting_as(student):
        assert [await corpus.search_text(query, ANYWHERE, 5) for query in ("xyzzy", "?!", "")] == [[], [], []]


@pytest.mark.parametrize("query", ["a' | b", "\\'", "x & !y:*", "%s $1", "'); DROP TABLE chunk; --"])
async def test_operators_in_a_query_are_plain_text(
    corpus: CorpusService, student: Caller, write: Write, query: str
) -> None:
    await write(["La photosynthèse"])
    with caller.acting_as(student):
        assert await corpus.search_text(query, ANYWHERE, 5) == []


@pytest.mark.parametrize(
    "where",
    [
        CorpusFilter(namespace="grade-12-math"),
        CorpusFilter(subject="math"),
        CorpusFilter(grade="12"),
        CorpusFilter(language=Language.ARABIC),
    ],
)
async def test_each_filter_leaves_out_what_does_not_fit(
    corpus: CorpusService, student: Caller, write: Write, where: CorpusFilter
) -> None:
    fitting = {"namespace": "grade-12-math", "subject": "math", "grade": "12", "language": Language.ARABIC}
    await write(["énergie une"], **fitting)
    await write(["énergie deux"])
    with caller.acting_as(student):
        assert await texts_found(corpus, "énergie", where) == ["énergie une"]


async def test_a_search_within_documents_stays_within_them(
    corpus: CorpusService, student: Caller, write: Write
) -> None:
    await write(["énergie une"])
    second = await write(["énergie deux"])
    with caller.acting_as(student):
        assert await texts_found(corpus, "énergie", CorpusFilter(document_ids=(second,))) == ["énergie deux"]


async def test_private_texts_are_found_by_owner_and_operators_only(
    corpus: CorpusService, student: Caller, teacher: Caller, make_user: Callable[..., Caller], write: Write
) -> None:
    await write(["énergie secrète"], owner=teacher, private=True)
    counts = {}
    for name, who in {
        "owner": teacher,
        "student": student,
        "teacher": make_user("teacher"),
        "admin": make_user("admin"),
        "nobody": Caller(),
    }.items():
        with caller.acting_as(who):
            counts[name] = len(await corpus.search_text("énergie", ANYWHERE, 5))
    assert counts == {"owner": 1, "student": 0, "teacher": 0, "admin": 1, "nobody": 0}


async def test_a_cached_private_text_is_not_shown_to_others(
    corpus: CorpusService, student: Caller, teacher: Caller, write: Write
) -> None:
    await write(["énergie secrète"], owner=teacher, private=True)
    with caller.acting_as(teacher):
        (hit,) = await corpus.search_text("énergie", ANYWHERE, 5)
        assert await corpus.chunks([hit.chunk_id])
    with caller.acting_as(student):
        assert await corpus.chunks([hit.chunk_id]) == {}
    assert await corpus.chunks([hit.chunk_id]) == {}


async def test_chunks_come_in_the_order_asked_for_and_unknown_ones_are_left_out(
    corpus: CorpusService, student: Caller, write: Write
) -> None:
    document_id = await write(["un", "deux", "trois"])
    with caller.acting_as(student):
        ids = [chunk.id for chunk in await corpus.document_chunks(document_id)]
        found = await corpus.chunks([ids[2], "f" * 64, ids[0]])
    assert [chunk.text for chunk in found.values()] == ["trois", "un"]


async def test_texts_are_read_from_the_cache_the_second_time(database: Database, student: Caller, write: Write) -> None:
    events: list[bool] = []
    corpus = CorpusService(database, on_cache_event=lambda name, hit, times: events.extend([hit] * times))
    document_id = await write(["un", "deux"])
    with caller.acting_as(student):
        ids = [chunk.id for chunk in await corpus.document_chunks(document_id)]
        assert await corpus.chunks(ids) == await corpus.chunks(ids)
    assert events == [False, False, True, True]


async def test_a_deleted_text_is_gone_from_the_cache(
    database: Database, corpus: CorpusService, student: Caller, teacher: Caller, write: Write
) -> None:
    document_id = await write(["un"], owner=teacher)
    with caller.acting_as(student):
        (chunk,) = await corpus.document_chunks(document_id)
        await corpus.chunks([chunk.id])
    with caller.acting_as(teacher):
        async with database.transaction() as connection:
            await corpus.delete_document(connection, document_id)
    with caller.acting_as(student):
        assert await corpus.chunks([chunk.id]) == {}


async def test_writing_the_same_again_changes_nothing_a_searcher_sees(
    database: Database, corpus: CorpusService, write: Write, owner: psycopg.Connection, draft: Callable[..., Any]
) -> None:
    document_id = await write(["un", "deux"])
    before = owner.execute("SELECT id, text, updated_at FROM chunk ORDER BY id").fetchall()
    generation = await corpus.generation()
    drafts = [draft(document_id, 0, "un"), draft(document_id, 1, "deux")]
    assert await rewrite(database, corpus, document_id, drafts) == []
    assert owner.execute("SELECT id, text, updated_at FROM chunk ORDER BY id").fetchall() == before
    assert await corpus.generation() == generation


async def test_a_changed_document_replaces_what_changed_and_removes_what_is_gone(
    database: Database, corpus: CorpusService, student: Caller, write: Write, draft: Callable[..., Any]
) -> None:
    document_id = await write(["un", "deux", "trois"])
    gone = draft(document_id, 2, "trois").id
    drafts = [draft(document_id, 0, "un"), draft(document_id, 1, "deux bis")]
    assert await rewrite(database, corpus, document_id, drafts) == [gone]
    with caller.acting_as(student):
        assert [chunk.text for chunk in await corpus.document_chunks(document_id)] == ["un", "deux bis"]
        assert (await corpus.document(document_id)).chunk_count == 2


async def test_a_run_that_was_cut_off_is_made_up_by_the_next(
    database: Database, corpus: CorpusService, student: Caller, write: Write, draft: Callable[..., Any]
) -> None:
    document_id = await write(["un", "deux", "trois"])
    with caller.acting_as(caller.system()):
        async with database.transaction() as connection:
            cut_off = await corpus.begin_generation(connection, document_id)
            await corpus.write_chunks(
                connection, document_id, cut_off, await corpus.indexed([draft(document_id, 3, "quatre")])
            )
    obsolete = await rewrite(database, corpus, document_id, [draft(document_id, 0, "un")])
    assert len(obsolete) == 3
    with caller.acting_as(student):
        assert [chunk.text for chunk in await corpus.document_chunks(document_id)] == ["un"]


async def test_the_generation_changes_with_every_change(
    database: Database, corpus: CorpusService, write: Write, draft: Callable[..., Any]
) -> None:
    seen = [await corpus.generation()]
    document_id = await write(["un", "deux"])
    seen.append(await corpus.generation())
    await rewrite(database, corpus, document_id, [draft(document_id, 0, "un"), draft(document_id, 1, "autre")])
    seen.append(await corpus.generation())
    await rewrite(database, corpus, document_id, [draft(document_id, 0, "un")])
    seen.append(await corpus.generation())
    assert len(set(seen)) == 4


async def test_ranking_statistics_equal_a_recount_after_any_change(
    database: Database,
    corpus: CorpusService,
    teacher: Caller,
    write: Write,
    owner: psycopg.Connection,
    draft: Callable[..., Any],
) -> None:
    first = await write(["une cellule vivante", "la cellule divise"])
    second = await write(["la division cellulaire"], owner=teacher)
    await rewrite(database, corpus, first, [draft(first, 0, "une plante vivante"), draft(first, 5, "la cellule")])
    with caller.acting_as(teacher):
        async with database.transaction() as connection:
            await corpus.delete_document(connection, second)
    with caller.acting_as(caller.system()):
        await corpus.merge_statistics()
    assert dict(owner.execute(KEPT).fetchall()) == dict(owner.execute(RECOUNT).fetchall())
    assert (
        owner.execute("SELECT sum(chunks), sum(terms) FROM corpus_size").fetchone()
        == owner.execute("SELECT count(*), sum(term_count) FROM chunk").fetchone()
    )


async def test_merging_statistics_leaves_one_row_per_term(
    corpus: CorpusService, write: Write, owner: psycopg.Connection
) -> None:
    for _ in range(3):
        await write(["la cellule"])
    with caller.acting_as(caller.system()):
        await corpus.merge_statistics()
    assert owner.execute("SELECT count(*) - count(DISTINCT lexeme) FROM term_count").fetchone() == (0,)


async def test_filing_a_document_anew_moves_its_chunks(
    database: Database, corpus: CorpusService, student: Caller, write: Write
) -> None:
    document_id = await write(["énergie"], namespace="old")
    with caller.acting_as(caller.system()):
        async with database.transaction() as connection:
            await corpus.file_document(connection, document_id, "new", "physics", "12")
    with caller.acting_as(student):
        assert await texts_found(corpus, "énergie", CorpusFilter(namespace="new", subject="physics", grade="12"))
        assert await corpus.namespaces() == {"new": 1}


async def test_a_sample_holds_different_chunks_that_fit(corpus: CorpusService, student: Caller, write: Write) -> None:
    await write([f"texte {number}" for number in range(8)], namespace="a")
    await write(["ailleurs"], namespace="b")
    with caller.acting_as(student):
        sample = await corpus.sample(CorpusFilter(namespace="a"), 5)
        whole = await corpus.sample(CorpusFilter(namespace="a"), 50)
    assert len({chunk.id for chunk in sample}) == 5
    assert {chunk.text for chunk in whole} == {f"texte {number}" for number in range(8)}


async def test_languages_are_those_of_the_texts_that_the_caller_may_see(
    corpus: CorpusService, student: Caller, teacher: Caller, write: Write
) -> None:
    await write(["la lumière"])
    await write(["الضوء"], owner=teacher, private=True, language=Language.ARABIC)
    with caller.acting_as(student):
        assert await corpus.languages() == {Language.FRENCH}
    with caller.acting_as(teacher):
        assert await corpus.languages() == {Language.FRENCH, Language.ARABIC}
    assert await corpus.languages() == set()


async def test_languages_are_told_without_reading_the_library(
    corpus: CorpusService, database: Database, owner: psycopg.Connection, student: Caller, write: Write
) -> None:
    await write([f"texte {number}" for number in range(500)])
    owner.execute("ANALYZE chunk")
    with caller.acting_as(student):
        async with database.transaction() as connection:
            plan = (await connection.execute(text(f"EXPLAIN {store.LANGUAGES}"))).scalars().all()
    assert not [line for line in plan if "Seq Scan on chunk" in line]


async def test_all_chunks_are_reached_in_batches(corpus: CorpusService, student: Caller, write: Write) -> None:
    await write([f"texte {number}" for number in range(5)])
    seen: list[str] = []
    with caller.acting_as(student):
        while batch := await corpus.chunks_after(ANYWHERE, seen[-1] if seen else "", 2):
            seen += [chunk.id for chunk in batch]
        assert len(seen) == await corpus.count_chunks(ANYWHERE) == 5


async def test_row_level_security_hides_private_rows_from_plain_reads(
    database: Database, student: Caller, teacher: Caller, write: Write
) -> None:
    await write(["énergie secrète"], owner=teacher, private=True)
    with caller.acting_as(student):
        async with database.transaction() as connection:
            assert (await connection.execute(text("SELECT count(*) FROM chunk"))).scalar_one() == 0
