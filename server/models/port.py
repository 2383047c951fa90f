"""The port to language models, in the tutor's words. Every adapter and the chain of them implement it.

All methods raise `ProviderFailure` (and nothing else but cancellation) when the provider cannot serve them.
"""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from server.text.language import Language

Matrix = NDArray[np.float32]
"""Embeddings, shape (texts, dimensions), each row of length 1."""


class ProviderFailure(Exception):
    """A provider failed. `transient` failures may be tried again (here or at the next provider)."""

    def __init__(self, message: str, *, transient: bool, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.transient = transient
        self.retry_after_seconds = retry_after_seconds


class Purpose(StrEnum):
    """What a text is embedded for."""

    QUERY = "query"
    PASSAGE = "passage"


class FinishReason(StrEnum):
    """Why a generation ended."""

    STOP = "stop"
    LENGTH = "length"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one model call; `counted_here` when the provider sent none and we counted ourselves."""

    prompt_tokens: int
    completion_tokens: int
    counted_here: bool = False


@dataclass(frozen=True, slots=True)
class Source:
    """A numbered passage that a model may cite as [number]."""

    number: int
    text: str
    title: str
    page: int


@dataclass(frozen=True, slots=True)
class Turn:
    """One earlier question and answer of a conversation."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class AnswerTask:
    """A question to answer from numbered sources, in `language`, within `max_tokens` completion tokens."""

    question: str
    sources: tuple[Source, ...]
    language: Language
    max_tokens: int
    history: tuple[Turn, ...] = ()
    small: bool = False
    """Use the provider's small model (the cheaper plan)."""


@dataclass(frozen=True, slots=True)
class TextDelta:
    """The next piece of an answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The last event of a generation that ended well; without it the generation failed."""

    reason: FinishReason
    usage: Usage
    model: str


class QuestionKind(StrEnum):
    """How a quiz question is answered."""

    SINGLE_CHOICE = "single_choice"
    MULTIPLE_CHOICE = "multiple_choice"
    TRUE_FALSE = "true_false"
    CLOZE = "cloze"
    SHORT_ANSWER = "short_answer"


@dataclass(frozen=True, slots=True)
class QuizTask:
    """A quiz to draft from numbered sources."""

    topic: str
    sources: tuple[Source, ...]
    language: Language
    question_count: int
    kinds: tuple[QuestionKind, ...]
    difficulty: str
    max_tokens: int
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DraftQuestion:
    """A question as a model proposes it; the quiz room validates it before anyone sees it.

    `correct` holds indexes into `options` for choice kinds (true/false: 0 true, 1 false); `accepted` the accepted
    texts for cloze and short answers. `quote` must occur in the text of source `source_number`.
    """

    kind: QuestionKind
    stem: str
    options: tuple[str, ...]
    correct: tuple[int, ...]
    accepted: tuple[str, ...]
    explanation: str
    source_number: int
    quote: str
    topic: str = ""


@dataclass(frozen=True, slots=True)
class ProviderState:
    """What operators see of a provider: its name and each operation's breaker state (0 closed, 1 open, 2 half-open)."""

    name: str
    breakers: dict[str, int] = field(default_factory=dict)


class Embedder(Protocol):
    """Turns texts into vectors. Another model name or version means another vector space."""

    @property
    def name(self) -> str:
        """Name and version of the vector space, e.g. `local-hash-1024-v1`."""

    @property
    def dimensions(self) -> int:
        """Length of each vector."""

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Return one unit vector per text, in order; all values finite."""


class TutorModel(Protocol):
    """What the tutor asks of a language model."""

    @property
    def name(self) -> str:
        """Provider name as configured, e.g. `openai` or `local`."""

    @property
    def free(self) -> bool:
        """True when a generation costs the student nothing (the local provider quoting passages)."""

    def prompt_tokens(self, task: AnswerTask | QuizTask) -> int:
        """Count the prompt tokens this task will use, before it is sent. An upper bound is allowed, a lower one not."""

    def answer(self, task: AnswerTask) -> AsyncGenerator[TextDelta | Finished]:
        """Stream an answer that cites its sources as [n]; the last event is `Finished`. Closing the stream stops it."""

    def quiz(self, task: QuizTask) -> AsyncGenerator[DraftQuestion | Finished]:
        """Stream draft questions as they become complete; the last event is `Finished`."""

    async def rerank(self, query: str, texts: Sequence[str]) -> list[float]:
        """Return a relevance score per text (higher is better), in order."""

    async def translate(self, text: str, source: Language, target: Language) -> str:
        """Translate a short text; raises ProviderFailure when it cannot."""

    async def standalone(self, question: str, history: Sequence[Turn]) -> str:
        """Rewrite a follow-up question so that it can be understood without the conversation."""
