"""Attempts, due reviews and mastery as values, and the rule that sums mastery up."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from uuid import UUID

from server.quiz.grading import Result
from server.quiz.question import Question
from server.quiz.reviews import Memory, retrievability


@dataclass(frozen=True, slots=True)
class Attempt:
    """A try at a quiz; `score` is None until it is submitted."""

    id: UUID
    quiz_id: UUID
    quiz_title: str
    started_at: datetime
    submitted_at: datetime | None
    score: float | None
    max_score: float


@dataclass(frozen=True, slots=True)
class GradedAttempt:
    """A submitted attempt, question by question."""

    attempt: Attempt
    results: tuple[Result, ...]


@dataclass(frozen=True, slots=True)
class DueReview:
    """A question to see again."""

    question: Question
    subject: str
    memory: Memory


@dataclass(frozen=True, slots=True)
class Tally:
    """How often a person answered one question, and what is left of the memory."""

    subject: str
    topic: str
    answered: int
    correct: int
    memory: Memory


@dataclass(frozen=True, slots=True)
class TopicProgress:
    """Mastery of a topic: the mean chance, from 0 to 1, of recalling one of its questions now."""

    subject: str
    topic: str
    answered: int
    correct: int
    mastery: float


def progress(tallies: Sequence[Tally], now: datetime) -> list[TopicProgress]:
    """Sum up tallies by topic, weakest first. A question never answered right counts as not mastered."""
    ordered = sorted(tallies, key=lambda tally: (tally.subject, tally.topic))
    topics = []
    for (subject, topic), group in groupby(ordered, key=lambda tally: (tally.subject, tally.topic)):
        members = list(group)
        recalled = [retrievability(member.memory, now) if member.correct else 0.0 for member in members]
        topics.append(
            TopicProgress(
                subject=subject,
                topic=topic,
                answered=sum(member.answered for member in members),
                correct=sum(member.correct for member in members),
                mastery=sum(recalled) / len(recalled),
            )
        )
    return sorted(topics, key=lambda topic: topic.mastery)
