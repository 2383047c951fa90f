"""Promises about documents: who sees, changes and lists what."""

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
import sqlalchemy.exc

from server import caller
from server.caller import Caller
from server.corpus.passage import DocumentFilter, NewDocument, Visibility
from server.corpus.service import CorpusService
from server.database.pool import Database
from server.refusal import Invalid, NotFound
from server.text.language import Language

Write = Callable[..., Any]


async def store(database: Database, corpus: CorpusService, new: NewDocument, who: Caller) -> UUID:
    with caller.acting_as(who):
        async with database.transaction() as connection:
            return (await corpus.create_document(connection, new)).id


def a_document(owner: Caller | None = None, **changes: object) -> NewDocument:
    plain: dict[str, Any] = {
        "title": "Mécanique",
        "content_type": "application/pdf",
        "size_bytes": 10,
        "sha256": "ab" * 32,
        "blob_key": "documents/x",
        "owner_id": owner.user_id if owner else None,
    }
    return NewDocument(**(plain | changes))


async def test_a_document_is_read_as_it_was_stored(database: Database, corpus: CorpusService, teacher: Caller) -> None:
    new = a_document(teacher, filename="m.pdf", namespace="grade-12-physics", language=Language.ARABIC, grade="12")
    with caller.acting_as(teacher):
        async with database.transaction() as connection:
            created = await corpus.create_document(connection, new)
        read = await corpus.document(created.id)
    assert read == created
    assert (read.title, read.filename, read.language, read.owner_id, read.visibility) == (
        "Mécanique",
        "m.pdf",
        Language.ARABIC,
        teacher.user_id,
        Visibility.SHARED,
    )


@pytest.mark.parametrize("role", ["student", "teacher"])
async def test_a_private_document_of_another_person_is_not_found(
    database: Database, corpus: CorpusService, teacher: Caller, make_user: Callable[..., Caller], role: str
) -> None:
    document_id = await store(database, corpus, a_document(teacher, visibility=Visibility.PRIVATE), teacher)
    with caller.acting_as(make_user(role)), pytest.raises(NotFound):
        await corpus.document(document_id)


@pytest.mark.parametrize("role", ["admin", "service"])
async def test_operators_see_private_documents(
    database: Database, corpus: CorpusService, teacher: Caller, make_user: Callable[..., Caller], role: str
) -> None:
    document_id = await store(database, corpus, a_document(teacher, visibility=Visibility.PRIVATE), teacher)
    with caller.acting_as(make_user(role)):
        assert (await corpus.document(document_id)).id == document_id


async def test_nothing_is_seen_without_signing_in(database: Database, corpus: CorpusService, teacher: Caller) -> None:
    document_id = await store(database, corpus, a_document(teacher), teacher)
    with pytest.raises(NotFound):
        await corpus.document(document_id)


async def test_a_student_cannot_store_a_document(database: Database, corpus: CorpusService, student: Caller) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
        await store(database, corpus, a_document(student), student)


async def test_a_teacher_cannot_store_a_document_for_another(
    database: Database, corpus: CorpusService, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    with pytest.raises(sqlalchemy.exc.ProgrammingError, match="row-level security"):
        await store(database, corpus, a_document(make_user("teacher")), teacher)


async def test_a_teacher_cannot_delete_anothers_shared_document(
    database: Database, corpus: CorpusService, teacher: Caller, make_user: Callable[..., Caller]
) -> None:
    document_id = await store(database, corpus, a_document(teacher), teacher)
    with caller.acting_as(make_user("teacher")), pytest.raises(NotFound):
        async with database.transaction() as connection:
            await corpus.delete_document(connection, document_id)
    with caller.acting_as(teacher):
        assert await corpus.document(document_id)


async def test_deleting_a_document_takes_its_chunks_with_it(
    database: Database, corpus: CorpusService, teacher: Caller, write: Write, owner: psycopg.Connection
) -> None:
    document_id = await write(["la photosynthèse des plantes"], owner=teacher)
    with caller.acting_as(teacher):
        async with database.transaction() as connection:
            deleted = await corpus.delete_document(connection, document_id)
    assert deleted.id == document_id
    assert owner.execute("SELECT count(*) FROM chunk WHERE document_id = %s", [document_id]).fetchone() == (0,)


async def test_deleting_twice_is_not_found(database: Database, corpus: CorpusService, teacher: Caller) -> None:
    with caller.acting_as(teacher), pytest.raises(NotFound):
        async with database.transaction() as connection:
            await corpus.delete_document(connection, uuid4())


@pytest.mark.usefixtures("empty")
async def test_pages_of_a_list_hold_every_document_once_while_others_arrive(
    database: Database, corpus: CorpusService, teacher: Caller
) -> None:
    stored = [await store(database, corpus, a_document(teacher), teacher) for _ in range(5)]
    shown: list[UUID] = []
    token = ""
    with caller.acting_as(teacher):
        while True:
            page = await corpus.list_documents(DocumentFilter(), 2, token)
            shown += [document.id for document in page.items]
            await store(database, corpus, a_document(teacher), teacher)
            token = page.next_page_token
            if not token:
                break
    assert shown == stored[::-1]


@pytest.mark.usefixtures("empty")
async def test_a_list_holds_what_fits_its_filter_and_the_caller(
    database: Database, corpus: CorpusService, teacher: Caller, student: Caller
) -> None:
    fits = await store(database, corpus, a_document(teacher, namespace="a", language=Language.ARABIC), teacher)
    await store(database, corpus, a_document(teacher, namespace="b", language=Language.ARABIC), teacher)
    await store(database, corpus, a_document(teacher, namespace="a"), teacher)
    hidden = a_document(teacher, namespace="a", language=Language.ARABIC, visibility=Visibility.PRIVATE)
    await store(database, corpus, hidden, teacher)
    with caller.acting_as(student):
        page = await corpus.list_documents(DocumentFilter(namespace="a", language=Language.ARABIC), 0, "")
    assert [document.id for document in page.items] == [fits]


async def test_a_page_token_of_another_filter_is_refused(
    database: Database, corpus: CorpusService, teacher: Caller
) -> None:
    for _ in range(2):
        await store(database, corpus, a_document(teacher), teacher)
    with caller.acting_as(teacher):
        page = await corpus.list_documents(DocumentFilter(), 1, "")
        with pytest.raises(Invalid):
            await corpus.list_documents(DocumentFilter(namespace="a"), 1, page.next_page_token)
