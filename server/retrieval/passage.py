"""What a search returns: passages with scores, and the steps that failed on the way."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from server.text.language import Language


class Step(StrEnum):
    """A step of the pipeline that can fail without ending the question; the value is its public name."""

    CONVERSATION = "conversation"
    TRANSLATION = "translation"
    DENSE = "dense"
    FULL_TEXT = "full_text"
    RERANK = "rerank"
    MODEL = "model"
    PLAN = "plan"


@dataclass(frozen=True, slots=True)
class Degraded:
    """A step that failed and, in a public sentence, what was done instead."""

    step: Step
    reason: str


@dataclass(frozen=True, slots=True)
class TermPair:
    """A school term of the query and its counterpart in another language that widened the search."""

    term: str
    counterpart: str
    language: Language


@dataclass(frozen=True, slots=True)
class Passage:
    """A found chunk. `start` and `end` are its characters within the page; `score` compares within one result only."""

    chunk_id: str
    document_id: UUID
    document_title: str
    page: int
    text: str
    score: float
    language: Language
    start: int
    end: int
    token_count: int


@dataclass(frozen=True, slots=True)
class SearchTrace:
    """How a result came about, for operators: what was asked of which step and what it answered. No texts of pages."""

    language_confidence: float
    translation: str
    dense: tuple[tuple[str, float], ...]
    full_text: tuple[tuple[str, float], ...]
    ranked: tuple[tuple[str, float], ...]
    reranked: bool
    cached: bool


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Passages, best first, with the language of the query and what degraded."""

    passages: tuple[Passage, ...]
    detected_language: Language
    degraded: tuple[Degraded, ...]
    terms: tuple[TermPair, ...]
    trace: SearchTrace
