"""An answer as it is asked for, opened and kept."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from server.corpus.passage import CorpusFilter
from server.refusal import ModelUnavailable, NoPassages, Refusal, StoreUnavailable
from server.retrieval.events import Citation, Ending, Validation
from server.text.language import Language
from server.wallet.reservation import Receipt

TITLE_CHARACTERS = 80
"""A conversation is named by this much of its first question."""
HISTORY_TURNS = 4
"""Earlier turns of a conversation that a question sees, at most."""

ENDING_REFUSALS: dict[str, type[Refusal]] = {
    refusal.reason: refusal for refusal in (NoPassages, StoreUnavailable, ModelUnavailable)
}
"""The refusals that end an answer before its first word; every reader of its stream gets the same one."""


class State(StrEnum):
    """Where an answer stands."""

    RUNNING = "running"
    COMPLETED = "completed"


class Rating(StrEnum):
    """Whether an answer helped."""

    HELPFUL = "helpful"
    UNHELPFUL = "unhelpful"


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked. `answer_language` None: the question's own; `conversation_id` None: a new conversation."""

    text: str
    where: CorpusFilter
    request_id: UUID
    conversation_id: UUID | None = None
    answer_language: Language | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """A stored answer; `content` is its text so far. `ending` is None and `receipt` missing while it runs.

    `refusal` is the reason (a key of `ENDING_REFUSALS`) of one that failed before its first word, else empty.
    """

    id: UUID
    user_id: UUID
    conversation_id: UUID
    question: str
    content: str
    state: State
    ending: Ending | None
    citations: tuple[Citation, ...]
    validation: Validation | None
    receipt: Receipt | None
    model: str
    detected_language: Language
    rating: Rating | None
    created_at: datetime
    last_sequence: int
    refusal: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A thread of questions, named by the first."""

    id: UUID
    title: str
    answer_count: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Opening:
    """A new answer as it is first stored, with its first event."""

    answer_id: UUID
    user_id: UUID
    conversation_id: UUID
    question: Question
    request_hash: bytes
    detected_language: Language
    reservation_id: UUID
    max_charge_tokens: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a follower of another process's answer must know. `abandoned`: its process is dead by the lease."""

    state: State
    abandoned: bool
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Orphan:
    """An answer whose process died: what is needed to close it."""

    answer_id: UUID
    user_id: UUID
    conversation_id: UUID
    request_id: UUID
    reservation_id: UUID
    delivered_tokens: int
    last_sequence: int


@dataclass(frozen=True, slots=True)
class Closing:
    """How an answer ended, as it is stored with its last events.

    `used_tokens` is what its model call processed, None when the process that knew died; `owed_tokens` is what of it is
    the student's to pay.
    """

    ending: Ending
    content: str
    model: str
    citations: tuple[Citation, ...]
    validation: Validation
    used_tokens: int | None
    owed_tokens: int
    refusal: str = ""
