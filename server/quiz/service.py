"""Quizzes for whoever calls: reading, publishing, attempts, reviews, mastery and files."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from uuid import UUID

from server.caller import Role, acting_as, current, system
from server.database.once import Once
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Connection, Database
from server.quiz.attempt import Attempt, DueReview, GradedAttempt, TopicProgress, progress
from server.quiz.events import Event
from server.quiz.export import Format, QuizFile, export
from server.quiz.grading import FULL_SCORE, Answer, grade
from server.quiz.making import QuizMaker, QuizRequest
from server.quiz.question import Question, Quiz
from server.quiz.reviews import Recall, recall_of, review
from server.quiz.statistics import QuizStatistics, statistics_of
from server.quiz.store import QuizStore
from server.refusal import Forbidden, IllegalState, Invalid, NotFound, NotSignedIn, Violation

MOST_PEOPLE = 2_000
"""The latest people whose answers statistics are made of: more would change no figure worth reading."""


def _now() -> datetime:
    return datetime.now(UTC)


class QuizService:
    """Everything callers may do with quizzes. Other people's unpublished quizzes are not found."""

    def __init__(self, database: Database, once: Once, maker: QuizMaker, now: Callable[[], datetime] = _now) -> None:
        """`now` is the clock of reviews, in UTC."""
        self._database = database
        self._once = once
        self._maker = maker
        self._now = now
        self._store = QuizStore()

    def generate(self, request: QuizRequest) -> AsyncIterator[tuple[int, Event]]:
        """Stream a quiz as it is made; see `QuizMaker.generate`."""
        return self._maker.generate(request)

    async def quiz(self, quiz_id: UUID) -> Quiz:
        """Return a quiz; its keys only to those who may see them before an attempt."""
        quiz = await self._find(quiz_id)
        return quiz if _sees_keys(quiz) else quiz.without_keys()

    async def quizzes(self, subject: str, *, mine: bool, size: int, page_token: str) -> Page[Quiz]:
        """List the caller's quizzes and (unless `mine`) published ones, newest first, without questions."""
        user_id, filters = _user_id(), ("quizzes", subject, mine)
        size = page_size(size)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.quizzes(connection, user_id, subject, mine=mine, position=after, rows=size + 1)
        return cut(rows, size, filters, lambda quiz: (quiz.created_at, quiz.id))

    async def delete(self, quiz_id: UUID, request_id: UUID | None = None) -> None:
        """Delete one of the caller's quizzes; attempts keep their grades. Raises NotFound, RequestIdReused."""

        async def delete(connection: Connection) -> None:
            _may_change(await self._store.quiz(connection, quiz_id))
            await self._store.delete(connection, quiz_id)

        await self._once.run("DeleteQuiz", request_id, quiz_id, type(None), delete)

    async def publish(self, quiz_id: UUID, *, published: bool, request_id: UUID | None = None) -> Quiz:
        """Show one of the caller's quizzes to everybody, or take it back. Raises NotFound, RequestIdReused."""

        async def publish(connection: Connection) -> Quiz:
            quiz = _may_change(await self._store.quiz(connection, quiz_id))
            await self._store.publish(connection, quiz_id, published=published)
            return replace(quiz, published=published)

        return await self._once.run("PublishQuiz", request_id, (quiz_id, published), Quiz, publish)

    async def export(self, quiz_id: UUID, format: Format) -> QuizFile:
        """Write a quiz with its keys as a file."""
        quiz = await self._find(quiz_id)
        if not _sees_keys(quiz):
            raise Forbidden("A file holds the keys; only the teacher who owns the quiz may export it.")
        return export(quiz, format)

    async def start_attempt(self, quiz_id: UUID, request_id: UUID) -> tuple[Attempt, tuple[Question, ...]]:
        """Start an attempt and return the questions without keys; the same request_id finds the same attempt."""
        user_id = _user_id()

        async def started(connection: Connection) -> UUID:
            quiz = await self._store.quiz(connection, quiz_id)
            if quiz is None:
                raise NotFound
            if not quiz.questions:
                raise IllegalState("The quiz has no questions yet.")
            return await self._store.start(connection, user_id, quiz_id, len(quiz.questions) * FULL_SCORE)

        attempt_id = await self._once.run("StartAttempt", request_id, {"quiz_id": quiz_id}, UUID, started)
        async with self._database.transaction() as connection:
            attempt = await self._store.attempt(connection, user_id, attempt_id)
            quiz = await self._store.quiz(connection, quiz_id)
        if attempt is None or quiz is None:
            raise NotFound
        return attempt, quiz.without_keys().questions

    async def submit_attempt(self, attempt_id: UUID, answers: Sequence[Answer], request_id: UUID) -> GradedAttempt:
        """Grade an attempt, once, and plan the reviews of its questions."""
        user_id, given = _user_id(), tuple(answers)

        async def submit(connection: Connection) -> None:
            await self._submit(connection, user_id, attempt_id, given)

        await self._once.run(
            "SubmitAttempt", request_id, {"attempt_id": attempt_id, "answers": given}, type(None), submit
        )
        return await self._graded(user_id, attempt_id)

    async def attempts(self, quiz_id: UUID | None, *, size: int, page_token: str) -> Page[Attempt]:
        """List the caller's attempts, newest first."""
        user_id, filters = _user_id(), ("attempts", quiz_id)
        size = page_size(size)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.attempts(connection, user_id, quiz_id, after, size + 1)
        return cut(rows, size, filters, lambda attempt: (attempt.started_at, attempt.id))

    async def statistics(self, quiz_id: UUID) -> QuizStatistics:
        """Return how people fared with a quiz. Raises NotFound, and Forbidden for all but its teacher and operators."""
        quiz = await self._find(quiz_id)
        if not _sees_keys(quiz):
            raise Forbidden("Only the teacher who owns the quiz may see how people fared.")
        # An attempt is its maker's own to see; what leaves here are sums over a group.
        with acting_as(replace(system(current().request_id), deadline_at=current().deadline_at)):
            async with self._database.transaction() as connection:
                given = await self._store.first_given(connection, quiz_id, quiz.owner_id, MOST_PEOPLE)
        return statistics_of(quiz.questions, given)

    async def progress(self, subject: str) -> list[TopicProgress]:
        """Return the caller's mastery by topic, weakest first."""
        async with self._database.transaction() as connection:
            tallies = await self._store.tallies(connection, _user_id(), subject)
        return progress(tallies, self._now())

    async def due_reviews(self, *, size: int, page_token: str) -> Page[DueReview]:
        """List questions due for review, most overdue first."""
        user_id, filters = _user_id(), ("reviews",)
        size = page_size(size)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.due(connection, user_id, self._now(), after, size + 1)
        return cut(rows, size, filters, lambda due: (due.memory.due_at, due.question.id))

    async def review_question(self, question_id: UUID, recall: Recall, request_id: UUID) -> DueReview:
        """Record how well a question was remembered and plan the next review."""
        user_id = _user_id()

        async def reviewed(connection: Connection) -> DueReview:
            due = await self._store.review(connection, user_id, question_id)
            if due is None:
                raise NotFound
            memory = review(due.memory, recall, self._now())
            correct = recall is not Recall.AGAIN
            await self._store.remember(connection, user_id, due.question, due.subject, memory, correct=correct)
            return replace(due, memory=memory)

        payload = {"question_id": question_id, "recall": recall}
        return await self._once.run("ReviewQuestion", request_id, payload, DueReview, reviewed)

    async def erase(self, connection: Connection, user_id: UUID) -> None:
        """Delete what a person did and remembers, and the quizzes nobody else sees; inside the account's erasure."""
        await self._store.erase(connection, user_id)

    async def _find(self, quiz_id: UUID) -> Quiz:
        _user_id()
        async with self._database.transaction() as connection:
            quiz = await self._store.quiz(connection, quiz_id)
        if quiz is None:
            raise NotFound
        return quiz

    async def _submit(self, connection: Connection, user_id: UUID, attempt_id: UUID, given: tuple[Answer, ...]) -> None:
        attempt = await self._store.attempt(connection, user_id, attempt_id, lock=True)
        quiz = await self._store.quiz(connection, attempt.quiz_id) if attempt else None
        if attempt is None or quiz is None:
            raise NotFound
        if attempt.submitted_at is not None:
            raise IllegalState("This attempt is already submitted.", state="submitted")
        _belong(given, quiz)
        results = grade(quiz.questions, given)
        await self._store.submit(connection, attempt_id, given, sum(result.score for result in results))
        memories = await self._store.memories(connection, user_id, [question.id for question in quiz.questions])
        for result in results:
            memory = review(memories.get(result.question.id), recall_of(result.correct), self._now())
            await self._store.remember(
                connection, user_id, result.question, quiz.subject, memory, correct=result.correct
            )

    async def _graded(self, user_id: UUID, attempt_id: UUID) -> GradedAttempt:
        """Return a submitted attempt; grading is pure, so reading it again gives the same result."""
        async with self._database.transaction() as connection:
            attempt = await self._store.attempt(connection, user_id, attempt_id)
            quiz = await self._store.quiz(connection, attempt.quiz_id) if attempt else None
            if attempt is None or quiz is None:
                raise NotFound
            given = await self._store.given(connection, attempt_id)
        return GradedAttempt(attempt, tuple(grade(quiz.questions, given)))


def _user_id() -> UUID:
    user_id = current().user_id
    if user_id is None:
        raise NotSignedIn
    return user_id


def _sees_keys(quiz: Quiz) -> bool:
    """A teacher sees the keys of an own quiz, operators those of all; a student only through an attempt."""
    caller = current()
    owns = quiz.owner_id == caller.user_id and caller.role is Role.TEACHER
    return owns or caller.role in (Role.ADMIN, Role.SERVICE)


def _may_change(quiz: Quiz | None) -> Quiz:
    caller = current()
    if quiz is None or (quiz.owner_id != caller.user_id and caller.role is not Role.ADMIN):
        raise NotFound
    return quiz


def _belong(given: Sequence[Answer], quiz: Quiz) -> None:
    known = {question.id for question in quiz.questions}
    strange = [answer for answer in given if answer.question_id not in known]
    if strange:
        raise Invalid(violations=[Violation("answers", "names a question that is not in this quiz", "known_question")])
    if len({answer.question_id for answer in given}) < len(given):
        raise Invalid(violations=[Violation("answers", "answers a question twice", "one_answer")])
