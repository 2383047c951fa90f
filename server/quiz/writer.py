"""The stored events of one quiz being made: nothing is shown before it is durable."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeVar

from server.caller import current
from server.database.pool import Connection, Database
from server.quiz.events import Asked, Completed, Event, Heartbeat, Started, StepDegraded
from server.quiz.question import Question
from server.quiz.store import NewQuiz, QuizStore
from server.refusal import Refusal
from server.retrieval.passage import Degraded, Step
from server.retrieval.store import TraceStore
from server.retrieval.trace import Story, Trace
from server.text.language import Language

METHOD = "GenerateQuiz"
HEARTBEAT_SECONDS = 10.0

T = TypeVar("T")

Delivered = Callable[[Connection], Awaitable[None]]
"""Records in the same transaction what the student has received, for the wallet."""


@dataclass(slots=True)
class Bell:
    """Wakes readers in this process when something was stored; `refused` when the quiz ended before it began."""

    refused: Refusal | None = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def ring(self) -> None:
        """Wake everybody who waits."""
        self._changed.set()
        self._changed = asyncio.Event()

    def ticket(self) -> asyncio.Event:
        """Return what to wait on; take it before reading the store, so that no ring is missed."""
        return self._changed


async def rung(ticket: asyncio.Event | None, seconds: float) -> None:
    """Wait for a ring, but no longer than `seconds`, since another process may store the events."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await (ticket or asyncio.Event()).wait()


class QuizWriter:
    """Writes one quiz and, with its end, its story; used by the one task that makes it."""

    def __init__(self, database: Database, store: QuizStore, new: NewQuiz, bell: Bell, trace: Trace) -> None:
        self._database = database
        self._store = store
        self._new = new
        self._quiz_id = new.id
        self._bell = bell
        self.trace = trace
        self.started = False

    async def emit(self, event: Event) -> None:
        """Store an event and show it."""
        async with self._database.transaction() as connection:
            await self._store.append(connection, self._quiz_id, event)
        self.started = self.started or isinstance(event, Started)
        if isinstance(event, StepDegraded):
            self.trace.degraded(Degraded(Step(event.step), event.reason))
        self._bell.ring()

    async def beat(self) -> None:
        """Say that the quiz is still being made, to readers and to whoever looks for dead makers."""
        async with self._database.transaction() as connection:
            await self._store.beat(connection, self._quiz_id)
        await self.emit(Heartbeat())

    async def describe(self, title: str, language: Language, subject: str) -> None:
        """Store what was learned from the sources."""
        async with self._database.transaction() as connection:
            await self._store.describe(connection, self._quiz_id, title, language, subject)

    async def ask(self, question: Question, delivered: Delivered) -> None:
        """Store a question, show it without its key, and record that it was delivered."""
        async with self._database.transaction() as connection:
            await self._store.add_question(connection, self._quiz_id, question)
            await self._store.append(connection, self._quiz_id, Asked(question.without_key()))
            await delivered(connection)
        self._bell.ring()

    async def finish(self, completed: Completed) -> None:
        """Close the quiz and show its end, once."""
        self.trace.settled(completed.receipt)
        if completed.refusal:
            self.trace.refused(completed.refusal)
        async with self._database.transaction() as connection:
            if await self._store.complete(connection, self._quiz_id):
                await self._store.append(connection, self._quiz_id, completed)
                await TraceStore().tell(connection, [self._story()])
        self._bell.ring()

    async def forget(self, refusal: Refusal) -> None:
        """Drop a quiz that was refused before it began, so that its request_id may try again."""
        async with self._database.transaction() as connection:
            await self._store.forget(connection, self._quiz_id)
        self._bell.refused = refusal
        self._bell.ring()

    def _story(self) -> Story:
        new = self._new
        return Story(new.request_id, current().request_id, new.owner_id, METHOD, self.trace.story())


async def beating(
    work: Awaitable[T], beat: Callable[[], Awaitable[None]], heartbeat_seconds: float = HEARTBEAT_SECONDS
) -> T:
    """Return what `work` brings, and beat while it is silent; a cancel is the work's as well."""
    pending = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({pending}, timeout=heartbeat_seconds))[0]:
            await beat()
        return pending.result()
    finally:
        pending.cancel()
        await asyncio.gather(pending, return_exceptions=True)
