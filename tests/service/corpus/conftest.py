"""What the corpus tests share: a service, people, and documents written as ingestion writes them."""

import hashlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID, uuid4

import psycopg
import pytest
import pytest_asyncio

from server import caller
from server.caller import Caller
from server.corpus.passage import NewDocument, Visibility
from server.corpus.service import CorpusService
from server.database.pool import Database
from server.text.language import Language

Write = Callable[..., Awaitable[UUID]]


@dataclass(frozen=True, slots=True)
class Draft:
    """A chunk as ingestion hands it in."""

    id: str
    page: int
    index: int
    text: str
    start: int = 0
    end: int = 1
    token_count: int = 1
    language: Language = Language.FRENCH
    content_hash: str = ""


def make_draft(document_id: UUID, index: int, text: str, language: Language = Language.FRENCH) -> Draft:
    chunk_id = hashlib.sha256(f"{document_id}:1:{index}".encode()).hexdigest()
    content_hash = hashlib.sha256(text.encode()).hexdigest()
    return Draft(chunk_id, 1, index, text, end=len(text), language=language, content_hash=content_hash)


@pytest.fixture(scope="module")
def draft() -> Callable[..., Draft]:
    """A function that makes the chunk of a document's place."""
    return make_draft


@pytest_asyncio.fixture(scope="module")
async def corpus(database: Database) -> CorpusService:
    return CorpusService(database, state_ttl_seconds=0)


@pytest.fixture
def empty(owner: psycopg.Connection) -> None:
    """An empty library."""
    owner.execute("DELETE FROM document")


@pytest.fixture(scope="module")
def student(make_user: Callable[..., Caller]) -> Caller:
    return make_user("student")


@pytest.fixture(scope="module")
def teacher(make_user: Callable[..., Caller]) -> Caller:
    return make_user("teacher")


def new_document(owner: Caller | None = None, **changes: object) -> NewDocument:
    plain = {
        "title": "Cours",
        "content_type": "text/plain",
        "size_bytes": 1,
        "sha256": uuid4().hex * 2,
        "blob_key": f"documents/{uuid4()}",
        "owner_id": owner.user_id if owner else None,
    }
    return NewDocument(**(plain | changes))


@pytest_asyncio.fixture(scope="module")
async def write(database: Database, corpus: CorpusService) -> Write:
    """A function that stores a document with one chunk per text and returns its id."""

    async def stored(
        texts: Sequence[str], owner: Caller | None = None, private: bool = False, **changes: object
    ) -> UUID:
        visibility = Visibility.PRIVATE if private else Visibility.SHARED
        language = changes.pop("language", Language.FRENCH)
        with caller.acting_as(caller.system()):
            async with database.transaction() as connection:
                new = new_document(owner, visibility=visibility, **changes)
                document = await corpus.create_document(connection, new)
                generation = await corpus.begin_generation(connection, document.id)
                drafts = [make_draft(document.id, index, text, language) for index, text in enumerate(texts)]
                await corpus.write_chunks(connection, document.id, generation, await corpus.indexed(drafts))
                await corpus.retire_chunks(connection, document.id, generation)
        return document.id

    return stored
