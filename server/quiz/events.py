"""The events of a quiz being made and their stored form: JSON that decodes to equal events."""

from dataclasses import dataclass
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Discriminator, TypeAdapter

from server.quiz.question import Question
from server.wallet.reservation import Receipt


@dataclass(frozen=True, slots=True)
class Started:
    """The quiz exists and its price is capped."""

    quiz_id: UUID
    reservation_id: UUID
    max_charge_tokens: int
    kind: Literal["started"] = "started"


@dataclass(frozen=True, slots=True)
class Progress:
    """A stage began: searching, writing."""

    stage: str
    kind: Literal["progress"] = "progress"


@dataclass(frozen=True, slots=True)
class Asked:
    """A validated question, without its key."""

    question: Question
    kind: Literal["asked"] = "asked"


@dataclass(frozen=True, slots=True)
class StepDegraded:
    """A step failed and something else was done."""

    step: str
    reason: str
    kind: Literal["degraded"] = "degraded"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Still working."""

    kind: Literal["heartbeat"] = "heartbeat"


@dataclass(frozen=True, slots=True)
class Completed:
    """The end. Without a receipt the hold's expiry settles; `refusal` names why nothing could be made."""

    dropped_questions: int
    receipt: Receipt | None
    model: str
    refusal: str = ""
    kind: Literal["completed"] = "completed"


Event = Annotated[Started | Progress | Asked | StepDegraded | Heartbeat | Completed, Discriminator("kind")]

_EVENT: TypeAdapter[Event] = TypeAdapter(Event)


def encode(event: Event) -> str:
    """Return the stored form."""
    return _EVENT.dump_json(event).decode()


def decode(stored: str) -> Event:
    """Return the event that was encoded."""
    return _EVENT.validate_json(stored)
