"""The pieces of the library a quiz is made from."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from server.corpus.passage import Chunk
from server.retrieval.passage import Passage
from server.text.language import Language

MAX_SOURCES = 12


@dataclass(frozen=True, slots=True)
class QuizSource:
    """A chunk that questions may quote. `start` is its first character within the page."""

    chunk_id: str
    document_id: UUID
    document_title: str
    page: int
    text: str
    start: int
    language: Language
    subject: str
    token_count: int


def of_chunk(chunk: Chunk) -> QuizSource:
    """Return a stored chunk as a source."""
    return QuizSource(
        chunk.id,
        chunk.document_id,
        chunk.document_title,
        chunk.page,
        chunk.text,
        chunk.start,
        chunk.language,
        chunk.subject,
        chunk.token_count,
    )


def of_passage(passage: Passage, subject: str) -> QuizSource:
    """Return a found passage as a source; `subject` is what the search was limited to, if anything."""
    return QuizSource(
        passage.chunk_id,
        passage.document_id,
        passage.document_title,
        passage.page,
        passage.text,
        passage.start,
        passage.language,
        subject,
        passage.token_count,
    )


def fit(sources: Sequence[QuizSource], context_tokens: int) -> list[QuizSource]:
    """Return the first sources that fit into the prompt; the best one always does."""
    taken: list[QuizSource] = []
    left = context_tokens
    for source in sources[:MAX_SOURCES]:
        if source.token_count <= left or not taken:
            taken.append(source)
            left -= source.token_count
    return taken
