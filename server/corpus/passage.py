"""The values of the library: documents, chunks, filters and hits, and who may see a chunk."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

from server.caller import Caller, Role
from server.text.language import Language


class Visibility(StrEnum):
    """Who sees a document: everyone signed in, or its owner and operators."""

    SHARED = "shared"
    PRIVATE = "private"


@dataclass(frozen=True, slots=True)
class CorpusFilter:
    """What a search may find: empty fields do not filter."""

    namespace: str = ""
    subject: str = ""
    grade: str = ""
    language: Language | None = None
    document_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk that a full-text search found, with its BM25 score: comparable within one search only."""

    chunk_id: str
    score: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a page: `text` is the page's characters `start` to `end` (exclusive). `index` counts within the page.

    `owner_id` is the document's owner; only a `private` chunk is hidden from others.
    """

    id: str
    document_id: UUID
    document_title: str
    page: int
    index: int
    text: str
    token_count: int
    language: Language
    start: int
    end: int
    content_hash: str
    namespace: str
    subject: str
    grade: str
    owner_id: UUID | None
    private: bool = False


class ChunkDraft(Protocol):
    """What the corpus needs of a chunk to store it; the rest comes from its document."""

    @property
    def id(self) -> str:
        """64 hexadecimal digits."""

    @property
    def page(self) -> int:
        """Page, from 1."""

    @property
    def index(self) -> int:
        """Place on the page, from 0."""

    @property
    def start(self) -> int:
        """First character within the page."""

    @property
    def end(self) -> int:
        """Character after the last one within the page."""

    @property
    def text(self) -> str:
        """The characters in between."""

    @property
    def token_count(self) -> int:
        """Length in tokens."""

    @property
    def language(self) -> Language:
        """Language of the text."""

    @property
    def content_hash(self) -> str:
        """SHA-256 of the text in hex: tells whether a stored chunk changed."""


@dataclass(frozen=True, slots=True)
class NewDocument:
    """A file that becomes a document. Without an owner it must be shared."""

    title: str
    content_type: str
    size_bytes: int
    sha256: str
    blob_key: str
    filename: str = ""
    owner_id: UUID | None = None
    visibility: Visibility = Visibility.SHARED
    namespace: str = ""
    subject: str = ""
    grade: str = ""
    language: Language = Language.OTHER
    source_url: str = ""
    id: UUID | None = None
    """Set it when the file's storage key is made from it; else the database chooses."""


@dataclass(frozen=True, slots=True)
class Document:
    """A stored document. `generation` is the number of the newest run that wrote its chunks."""

    id: UUID
    owner_id: UUID | None
    title: str
    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    blob_key: str
    source_url: str
    visibility: Visibility
    namespace: str
    subject: str
    grade: str
    language: Language
    page_count: int
    flagged_page_count: int
    chunk_count: int
    generation: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DocumentFilter:
    """Which documents to list: empty fields do not filter. `flagged`: with pages that a person should look at."""

    namespace: str = ""
    subject: str = ""
    grade: str = ""
    language: Language | None = None
    owner_id: UUID | None = None
    visibility: Visibility | None = None
    flagged: bool = False


def may_see(who: Caller, chunk: Chunk) -> bool:
    """Say whether a caller may see a chunk: the rule that row-level security applies in the database."""
    if who.role in (Role.ADMIN, Role.SERVICE):
        return True
    signed_in = who.role in (Role.STUDENT, Role.TEACHER)
    return signed_in and (not chunk.private or (who.user_id is not None and chunk.owner_id == who.user_id))
