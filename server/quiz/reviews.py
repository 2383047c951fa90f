"""When to see a question again: FSRS, through the maintained py-fsrs package. Pure: the clock is handed in."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from fsrs import Card, Rating, Scheduler

_SCHEDULER = Scheduler(enable_fuzzing=False)
"""Without random fuzz, so that the server and an offline client plan the same days."""


class Recall(StrEnum):
    """How well a question was remembered."""

    AGAIN = "again"
    HARD = "hard"
    GOOD = "good"
    EASY = "easy"


_RATINGS = {
    Recall.AGAIN: Rating.Again,
    Recall.HARD: Rating.Hard,
    Recall.GOOD: Rating.Good,
    Recall.EASY: Rating.Easy,
}


@dataclass(frozen=True, slots=True)
class Memory:
    """What the scheduler knows of one person and one question. `state` is its own JSON, kept as it is."""

    state: str
    due_at: datetime
    stability_days: float


def review(memory: Memory | None, recall: Recall, now: datetime) -> Memory:
    """Return the memory after a review; None is a question seen for the first time."""
    card = Card.from_json(memory.state) if memory else Card(due=now)
    card, _ = _SCHEDULER.review_card(card, _RATINGS[recall], now)
    return Memory(card.to_json(), card.due, card.stability or 0.0)


def retrievability(memory: Memory, now: datetime) -> float:
    """Return the chance, from 0 to 1, that the question would be remembered now."""
    return _SCHEDULER.get_card_retrievability(Card.from_json(memory.state), now)


def recall_of(correct: bool) -> Recall:
    """Return what an attempt says of a memory: right counts as remembered, wrong as forgotten."""
    return Recall.GOOD if correct else Recall.AGAIN
