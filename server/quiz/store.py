"""SQL of quizzes, their questions and events, attempts, and what people remember."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.pages import KeyPart
from server.models.port import QuestionKind
from server.quiz.attempt import Attempt, DueReview, Tally
from server.quiz.events import Event, decode, encode
from server.quiz.grading import Answer
from server.quiz.question import Difficulty, Key, Question, Quiz
from server.quiz.reviews import Memory
from server.text.language import Language

_KEY = TypeAdapter(Key)
_ANSWERS = TypeAdapter(tuple[Answer, ...])

# Taken before the count, in a statement of its own: a count in the same statement would not see what others committed
# while this one waited.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(7, hashtext(CAST(:owner_id AS text)))")
_EARLIER = text("SELECT id, request_hash FROM quiz WHERE owner_id = :owner_id AND request_id = :request_id")
_OPEN = text(
    """
    INSERT INTO quiz (id, owner_id, request_id, request_hash, difficulty)
    SELECT :id, :owner_id, :request_id, :request_hash, :difficulty
    WHERE (SELECT count(*) FROM quiz WHERE owner_id = :owner_id AND state = 'running') < :open_limit
    RETURNING id
    """
)
_FORGET = text("DELETE FROM quiz WHERE id = :quiz_id AND state = 'running'")
_APPEND = text(
    "INSERT INTO quiz_event (quiz_id, sequence, payload)"
    " SELECT :quiz_id, coalesce(max(sequence), 0) + 1, CAST(:payload AS jsonb) FROM quiz_event WHERE quiz_id = :quiz_id"
    " RETURNING sequence"
)
_BEAT = text("UPDATE quiz SET heartbeat_at = clock_timestamp() WHERE id = :quiz_id AND state = 'running' RETURNING id")
_EVENTS = text(
    "SELECT sequence, CAST(payload AS text) AS payload FROM quiz_event"
    " WHERE quiz_id = :quiz_id AND sequence > :after_sequence ORDER BY sequence"
)
_ADD_QUESTION = text(
    "INSERT INTO quiz_question (id, quiz_id, number, kind, stem, options, topic, key)"
    " VALUES (:id, :quiz_id, :number, :kind, :stem, CAST(:options AS jsonb), :topic, CAST(:key AS jsonb))"
)
_DESCRIBE = text("UPDATE quiz SET title = :title, language = :language, subject = :subject WHERE id = :quiz_id")
_COMPLETE = text("UPDATE quiz SET state = 'completed' WHERE id = :quiz_id AND state = 'running' RETURNING id")
_ABANDONED = text(
    "SELECT id FROM quiz WHERE state = 'running'"
    " AND heartbeat_at < clock_timestamp() - make_interval(secs => :silent_seconds)"
    " FOR NO KEY UPDATE SKIP LOCKED"
)

_QUIZ_COLUMNS = "id, owner_id, title, language, difficulty, subject, published, created_at"
_QUIZ = text(f"SELECT {_QUIZ_COLUMNS} FROM quiz WHERE id = :quiz_id AND deleted_at IS NULL")
_QUESTIONS = text(
    "SELECT id, number, kind, stem, CAST(options AS text) AS options, topic, CAST(key AS text) AS key"
    " FROM quiz_question WHERE quiz_id = :quiz_id ORDER BY number"
)
_QUIZ_PAGE = text(
    f"""
    SELECT {_QUIZ_COLUMNS} FROM quiz
    WHERE deleted_at IS NULL AND state = 'completed'
      AND (owner_id = :user_id OR (published AND NOT :mine))
      AND (:subject = '' OR subject = :subject)
      AND (CAST(:before AS timestamptz) IS NULL OR (created_at, id) < (:before, CAST(:before_id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :rows
    """
)
_DELETE = text("UPDATE quiz SET deleted_at = now() WHERE id = :quiz_id AND deleted_at IS NULL RETURNING id")
_PUBLISH = text("UPDATE quiz SET published = :published WHERE id = :quiz_id AND deleted_at IS NULL RETURNING id")

_ATTEMPT_COLUMNS = "a.id, a.quiz_id, q.title, a.started_at, a.submitted_at, a.score, a.max_score"
_START = text(
    "INSERT INTO quiz_attempt (quiz_id, user_id, max_score) VALUES (:quiz_id, :user_id, :max_score) RETURNING id"
)
_ATTEMPT = text(
    f"SELECT {_ATTEMPT_COLUMNS} FROM quiz_attempt a JOIN quiz q ON q.id = a.quiz_id"
    " WHERE a.id = :attempt_id AND a.user_id = :user_id"
)
_LOCK_ATTEMPT = text("SELECT 1 FROM quiz_attempt WHERE id = :attempt_id AND user_id = :user_id FOR UPDATE")
_SUBMIT = text(
    "UPDATE quiz_attempt SET submitted_at = now(), answers = CAST(:answers AS jsonb), score = :score"
    " WHERE id = :attempt_id"
)
_GIVEN = text("SELECT CAST(answers AS text) FROM quiz_attempt WHERE id = :attempt_id")
_FIRST_GIVEN = text(
    "SELECT CAST(answers AS text) FROM (SELECT DISTINCT ON (user_id) answers, submitted_at FROM quiz_attempt"
    " WHERE quiz_id = :quiz_id AND submitted_at IS NOT NULL AND user_id <> :owner_id ORDER BY user_id, submitted_at)"
    " AS firsts ORDER BY submitted_at DESC LIMIT :people"
)
_ATTEMPT_PAGE = text(
    f"""
    SELECT {_ATTEMPT_COLUMNS} FROM quiz_attempt a JOIN quiz q ON q.id = a.quiz_id
    WHERE a.user_id = :user_id AND (CAST(:quiz_id AS uuid) IS NULL OR a.quiz_id = :quiz_id)
      AND (CAST(:before AS timestamptz) IS NULL OR (a.started_at, a.id) < (:before, CAST(:before_id AS uuid)))
    ORDER BY a.started_at DESC, a.id DESC LIMIT :rows
    """
)

_ERASE = (
    text("DELETE FROM question_memory WHERE user_id = :user_id"),
    text("DELETE FROM quiz_attempt WHERE user_id = :user_id"),
    text("UPDATE quiz SET deleted_at = now(), title = '' WHERE owner_id = :user_id AND NOT published"),
)

_MEMORY_COLUMNS = "m.state, m.due_at, m.stability_days"
_MEMORIES = text(
    f"SELECT question_id, {_MEMORY_COLUMNS} FROM question_memory m"
    " WHERE user_id = :user_id AND question_id = ANY(:question_ids) FOR UPDATE"
)
_REMEMBER = text(
    """
    INSERT INTO question_memory AS m
        (user_id, question_id, subject, topic, state, due_at, stability_days, answered, correct)
    VALUES (:user_id, :question_id, :subject, :topic, :state, :due_at, :stability_days, 1, :correct)
    ON CONFLICT (user_id, question_id) DO UPDATE
    SET state = excluded.state, due_at = excluded.due_at, stability_days = excluded.stability_days,
        answered = m.answered + 1, correct = m.correct + excluded.correct
    """
)
_REVIEW_COLUMNS = (
    f"{_MEMORY_COLUMNS}, m.subject, q.id, q.number, q.kind, q.stem, CAST(q.options AS text) AS options,"
    " q.topic, CAST(q.key AS text) AS key"
)
_DUE = text(
    f"""
    SELECT {_REVIEW_COLUMNS} FROM question_memory m JOIN quiz_question q ON q.id = m.question_id
    WHERE m.user_id = :user_id AND m.due_at <= :now
      AND (CAST(:after AS timestamptz) IS NULL OR (m.due_at, q.id) > (:after, CAST(:after_id AS uuid)))
    ORDER BY m.due_at, q.id LIMIT :rows
    """
)
_REVIEW = text(
    f"SELECT {_REVIEW_COLUMNS} FROM question_memory m JOIN quiz_question q ON q.id = m.question_id"
    " WHERE m.user_id = :user_id AND m.question_id = :question_id FOR UPDATE OF m"
)
_TALLIES = text(
    f"SELECT subject, topic, answered, correct, {_MEMORY_COLUMNS} FROM question_memory m"
    " WHERE user_id = :user_id AND (:subject = '' OR subject = :subject) ORDER BY subject, topic"
)


@dataclass(frozen=True, slots=True)
class NewQuiz:
    """A quiz as it is first stored, before anything is known of its sources."""

    id: UUID
    owner_id: UUID
    request_id: UUID
    request_hash: bytes
    difficulty: Difficulty


class QuizStore:
    """Reads and writes in the caller's open transaction; row-level security hides what the caller may not see."""

    async def open(self, connection: AsyncConnection, new: NewQuiz, open_limit: int) -> tuple[UUID, bytes] | None:
        """Store a quiz that is about to be made, or find the one its request made before.

        Returns its id and the hash of what was asked; None when the owner has `open_limit` unfinished ones.
        """
        values = asdict(new) | {"difficulty": new.difficulty.value, "open_limit": open_limit}
        await connection.execute(_ONE_AT_A_TIME, values)
        earlier = (await connection.execute(_EARLIER, values)).one_or_none()
        if earlier:
            return earlier.id, bytes(earlier.request_hash)
        opened = (await connection.execute(_OPEN, values)).one_or_none()
        return (opened.id, new.request_hash) if opened else None

    async def forget(self, connection: AsyncConnection, quiz_id: UUID) -> None:
        """Delete a quiz that never began."""
        await connection.execute(_FORGET, {"quiz_id": quiz_id})

    async def append(self, connection: AsyncConnection, quiz_id: UUID, event: Event) -> int:
        """Store the next event and return its sequence; only the process that makes the quiz appends."""
        values = {"quiz_id": quiz_id, "payload": encode(event)}
        return int((await connection.execute(_APPEND, values)).scalar_one())

    async def events(self, connection: AsyncConnection, quiz_id: UUID, after_sequence: int) -> list[tuple[int, Event]]:
        """Return the stored events after a sequence, in order."""
        values = {"quiz_id": quiz_id, "after_sequence": after_sequence}
        return [(row.sequence, decode(row.payload)) for row in await connection.execute(_EVENTS, values)]

    async def beat(self, connection: AsyncConnection, quiz_id: UUID) -> bool:
        """Say that the quiz is still being made; False when it no longer is."""
        return (await connection.execute(_BEAT, {"quiz_id": quiz_id})).one_or_none() is not None

    async def describe(
        self, connection: AsyncConnection, quiz_id: UUID, title: str, language: Language, subject: str
    ) -> None:
        """Store what was learned from the sources."""
        values = {"quiz_id": quiz_id, "title": title, "language": language.value, "subject": subject}
        await connection.execute(_DESCRIBE, values)

    async def add_question(self, connection: AsyncConnection, quiz_id: UUID, question: Question) -> None:
        """Store a validated question with its key."""
        values = {
            "id": question.id,
            "quiz_id": quiz_id,
            "number": question.number,
            "kind": question.kind.value,
            "stem": question.stem,
            "options": json.dumps(question.options, ensure_ascii=False),
            "topic": question.topic,
            "key": _KEY.dump_json(question.key).decode() if question.key else None,
        }
        await connection.execute(_ADD_QUESTION, values)

    async def complete(self, connection: AsyncConnection, quiz_id: UUID) -> bool:
        """Close a quiz; False when somebody else did."""
        return (await connection.execute(_COMPLETE, {"quiz_id": quiz_id})).one_or_none() is not None

    async def abandoned(self, connection: AsyncConnection, silent_seconds: float) -> list[UUID]:
        """Lock and return quizzes whose maker has been silent for so long that it must be dead."""
        rows = await connection.execute(_ABANDONED, {"silent_seconds": silent_seconds})
        return [row.id for row in rows]

    async def quiz(self, connection: AsyncConnection, quiz_id: UUID) -> Quiz | None:
        """Return a quiz that the caller may see, with all questions and keys."""
        row = (await connection.execute(_QUIZ, {"quiz_id": quiz_id})).one_or_none()
        if row is None:
            return None
        questions = await connection.execute(_QUESTIONS, {"quiz_id": quiz_id})
        return _quiz(row, tuple(_question(question) for question in questions))

    async def quizzes(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        subject: str,
        *,
        mine: bool,
        position: tuple[KeyPart, ...],
        rows: int,
    ) -> list[Quiz]:
        """Return own and (unless `mine`) published quizzes, newest first, without questions."""
        values = {"user_id": user_id, "subject": subject, "mine": mine, "rows": rows, **_before(position)}
        return [_quiz(row, ()) for row in await connection.execute(_QUIZ_PAGE, values)]

    async def delete(self, connection: AsyncConnection, quiz_id: UUID) -> bool:
        """Hide a quiz from listings and readers; attempts keep their grades."""
        return (await connection.execute(_DELETE, {"quiz_id": quiz_id})).one_or_none() is not None

    async def publish(self, connection: AsyncConnection, quiz_id: UUID, *, published: bool) -> bool:
        """Show a quiz to everybody or take it back."""
        values = {"quiz_id": quiz_id, "published": published}
        return (await connection.execute(_PUBLISH, values)).one_or_none() is not None

    async def start(self, connection: AsyncConnection, user_id: UUID, quiz_id: UUID, max_score: float) -> UUID:
        """Store a new attempt and return its id."""
        values = {"user_id": user_id, "quiz_id": quiz_id, "max_score": max_score}
        return UUID(str((await connection.execute(_START, values)).scalar_one()))

    async def attempt(
        self, connection: AsyncConnection, user_id: UUID, attempt_id: UUID, *, lock: bool = False
    ) -> Attempt | None:
        """Return a user's attempt; `lock` keeps others from submitting it in this transaction."""
        key = {"user_id": user_id, "attempt_id": attempt_id}
        if lock:
            await connection.execute(_LOCK_ATTEMPT, key)
        row = (await connection.execute(_ATTEMPT, key)).one_or_none()
        return Attempt(*row) if row else None

    async def submit(
        self, connection: AsyncConnection, attempt_id: UUID, answers: tuple[Answer, ...], score: float
    ) -> None:
        """Store what was answered and what it earned."""
        values = {"attempt_id": attempt_id, "answers": _ANSWERS.dump_json(answers).decode(), "score": score}
        await connection.execute(_SUBMIT, values)

    async def given(self, connection: AsyncConnection, attempt_id: UUID) -> tuple[Answer, ...]:
        """Return what was answered in a submitted attempt."""
        stored = (await connection.execute(_GIVEN, {"attempt_id": attempt_id})).scalar_one()
        return _ANSWERS.validate_json(stored)

    async def first_given(
        self, connection: AsyncConnection, quiz_id: UUID, owner_id: UUID, people: int
    ) -> list[tuple[Answer, ...]]:
        """Return what each of the latest people answered in their first submitted attempt; not the owner."""
        values = {"quiz_id": quiz_id, "owner_id": owner_id, "people": people}
        return [_ANSWERS.validate_json(stored) for stored in (await connection.execute(_FIRST_GIVEN, values)).scalars()]

    async def attempts(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        quiz_id: UUID | None,
        position: tuple[KeyPart, ...],
        rows: int,
    ) -> list[Attempt]:
        """Return a user's attempts, newest first."""
        values = {"user_id": user_id, "quiz_id": quiz_id, "rows": rows, **_before(position)}
        return [Attempt(*row) for row in await connection.execute(_ATTEMPT_PAGE, values)]

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Delete what a person did and remembers, and hide the quizzes nobody else sees."""
        for statement in _ERASE:
            await connection.execute(statement, {"user_id": user_id})

    async def memories(
        self, connection: AsyncConnection, user_id: UUID, question_ids: Sequence[UUID]
    ) -> dict[UUID, Memory]:
        """Return and lock what a user remembers of some questions."""
        values = {"user_id": user_id, "question_ids": list(question_ids)}
        rows = await connection.execute(_MEMORIES, values)
        return {row.question_id: Memory(row.state, row.due_at, row.stability_days) for row in rows}

    async def remember(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        question: Question,
        subject: str,
        memory: Memory,
        *,
        correct: bool,
    ) -> None:
        """Store what a user remembers of a question after seeing it once more."""
        values = {
            "user_id": user_id,
            "question_id": question.id,
            "subject": subject,
            "topic": question.topic,
            "state": memory.state,
            "due_at": memory.due_at,
            "stability_days": memory.stability_days,
            "correct": int(correct),
        }
        await connection.execute(_REMEMBER, values)

    async def due(
        self, connection: AsyncConnection, user_id: UUID, now: datetime, position: tuple[KeyPart, ...], rows: int
    ) -> list[DueReview]:
        """Return questions due for review, most overdue first, after `position` (due_at, question id)."""
        after, after_id = position or (None, None)
        values = {"user_id": user_id, "now": now, "after": after, "after_id": after_id, "rows": rows}
        return [_review(row) for row in await connection.execute(_DUE, values)]

    async def review(self, connection: AsyncConnection, user_id: UUID, question_id: UUID) -> DueReview | None:
        """Return and lock the review of one question the user has seen before."""
        values = {"user_id": user_id, "question_id": question_id}
        row = (await connection.execute(_REVIEW, values)).one_or_none()
        return _review(row) if row else None

    async def tallies(self, connection: AsyncConnection, user_id: UUID, subject: str) -> list[Tally]:
        """Return a user's tally per question, for mastery."""
        rows = await connection.execute(_TALLIES, {"user_id": user_id, "subject": subject})
        return [
            Tally(row.subject, row.topic, row.answered, row.correct, Memory(row.state, row.due_at, row.stability_days))
            for row in rows
        ]


def _before(position: tuple[KeyPart, ...]) -> dict[str, KeyPart | None]:
    before, before_id = position or (None, None)
    return {"before": before, "before_id": before_id}


def _quiz(row: Row[Any], questions: tuple[Question, ...]) -> Quiz:
    return Quiz(
        id=row.id,
        owner_id=row.owner_id,
        title=row.title,
        language=Language(row.language),
        difficulty=Difficulty(row.difficulty),
        subject=row.subject,
        published=row.published,
        created_at=row.created_at,
        questions=questions,
    )


def _question(row: Row[Any]) -> Question:
    return Question(
        id=row.id,
        number=row.number,
        kind=QuestionKind(row.kind),
        stem=row.stem,
        options=tuple(json.loads(row.options)),
        topic=row.topic,
        key=_KEY.validate_json(row.key),
    )


def _review(row: Row[Any]) -> DueReview:
    return DueReview(_question(row), row.subject, Memory(row.state, row.due_at, row.stability_days))
