"""A quiz and its questions as values, and what of them may be shown before an attempt."""

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from server.models.port import QuestionKind
from server.text.language import Language


class Difficulty(StrEnum):
    """How hard the questions shall be."""

    EASY = "easy"
    MEDIUM = "medium"
    HARD = "hard"


@dataclass(frozen=True, slots=True)
class Evidence:
    """The words that back a key, found in a stored chunk. `start` and `end` are characters within the page."""

    chunk_id: str
    document_id: UUID
    document_title: str
    page: int
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Key:
    """What answers a question. `correct` are places in the options (true/false: 0 true, 1 false)."""

    correct: tuple[int, ...]
    accepted: tuple[str, ...]
    explanation: str
    evidence: Evidence


@dataclass(frozen=True, slots=True)
class Question:
    """A validated question; `key` is None where the reader may not see it."""

    id: UUID
    number: int
    kind: QuestionKind
    stem: str
    options: tuple[str, ...]
    topic: str
    key: Key | None

    def without_key(self) -> "Question":
        """Return the question as it is shown before an attempt."""
        return replace(self, key=None)


@dataclass(frozen=True, slots=True)
class Quiz:
    """A quiz; listings leave `questions` empty."""

    id: UUID
    owner_id: UUID
    title: str
    language: Language
    difficulty: Difficulty
    subject: str
    published: bool
    created_at: datetime
    questions: tuple[Question, ...] = ()

    def without_keys(self) -> "Quiz":
        """Return the quiz as students see it."""
        return replace(self, questions=tuple(question.without_key() for question in self.questions))
