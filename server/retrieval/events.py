"""The events of an answer and their stored form: JSON that decodes to equal events, so that a replay is identical."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Discriminator, TypeAdapter

from server.retrieval.passage import Degraded, Passage, TermPair
from server.text.language import Language
from server.wallet.reservation import Receipt


class Stage(StrEnum):
    """What an answer is busy with."""

    SEARCHING = "searching"
    ANSWERING = "answering"
    CHECKING = "checking"


class Ending(StrEnum):
    """How an answer ended."""

    STOP = "stop"
    LENGTH = "length"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    QUOTED = "quoted"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Citation:
    """A cited span, found again in the stored chunk. `start` and `end` are characters within the page."""

    number: int
    chunk_id: str
    document_id: UUID
    document_title: str
    page: int
    quote: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Validation:
    """What the check of an answer against its sources found."""

    supported_sentences: int
    unsupported_sentences: tuple[str, ...] = ()
    dropped_citations: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Started:
    """The answer exists and its price is capped."""

    answer_id: UUID
    reservation_id: UUID
    conversation_id: UUID
    max_charge_tokens: int
    detected_language: Language
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage began."""

    stage: Stage
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class PassagesFound:
    """The passages the answer rests on; the model cites them by their place, from 1."""

    passages: tuple[Passage, ...]
    terms: tuple[TermPair, ...]
    kind: Literal["passages"] = "passages"


@dataclass(frozen=True, slots=True)
class Delta:
    """More text."""

    text: str
    kind: Literal["delta"] = "delta"


@dataclass(frozen=True, slots=True)
class StepDegraded:
    """A step failed and something else was done."""

    degraded: Degraded
    kind: Literal["degraded"] = "degraded"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing new, still working. Stored like every event, so that sequences stay free of gaps for every reader."""

    kind: Literal["heartbeat"] = "heartbeat"


@dataclass(frozen=True, slots=True)
class Completed:
    """The end. `refusal` names why an answer failed before its first word; readers get that refusal after this event.

    `receipt` is None only when the hold was resolved by its expiry before the answer could be closed.
    """

    ending: Ending
    citations: tuple[Citation, ...]
    validation: Validation
    receipt: Receipt | None
    model: str
    refusal: str = ""
    kind: Literal["completed"] = "completed"


Payload = Annotated[
    Started | Progress | PassagesFound | Delta | StepDegraded | Heartbeat | Completed, Discriminator("kind")
]


@dataclass(frozen=True, slots=True)
class Event:
    """A payload and its place in the stream, from 1 without gaps."""

    sequence: int
    payload: Payload


_PAYLOAD: TypeAdapter[Payload] = TypeAdapter(Payload)


def encode(payload: Payload) -> str:
    """Return the stored form."""
    return _PAYLOAD.dump_json(payload).decode()


def decode(stored: str) -> Payload:
    """Return the payload that was encoded."""
    return _PAYLOAD.validate_json(stored)
