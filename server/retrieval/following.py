"""Watching an answer: from memory while this process makes it, else from what is stored."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from server.database.pool import Database
from server.refusal import EventsGone, Invalid, NotFound, Violation
from server.retrieval.answer import ENDING_REFUSALS, Standing, State
from server.retrieval.events import Completed, Event
from server.retrieval.journal import Journal
from server.retrieval.recovery import Recovery
from server.retrieval.store import AnswerStore

POLL_SECONDS = (0.1, 0.2, 0.4, 0.8)
"""Waits between looks for events that another process writes; longer the longer nothing comes."""


class Following:
    """Windows on answers. Closing one changes nothing for the answer."""

    def __init__(self, database: Database, store: AnswerStore, recovery: Recovery) -> None:
        self._database = database
        self._store = store
        self._recovery = recovery

    async def follow(
        self, user_id: UUID, answer_id: UUID, after_sequence: int, journal: Journal | None
    ) -> AsyncGenerator[Event]:
        """Yield an answer's events after a sequence up to `Completed`, which may be followed by its refusal.

        `journal` is given while this process makes the answer. An answer whose process died is closed on the way.
        """
        place = after_sequence
        if journal is not None:
            _check_place(place, journal.last_sequence)
            async with aclosing(journal.follow(place)) as live:
                async for event in live:
                    place = event.sequence
                    yield event
                    if _ends(event):
                        return
        quiet = 0
        while True:
            standing, events = await self._read(user_id, answer_id, place)
            for event in events:
                if event.sequence != place + 1:
                    raise EventsGone(first_sequence=event.sequence)
                place = event.sequence
                yield event
                if _ends(event):
                    return
            if standing.state is State.COMPLETED:
                if place < standing.last_sequence:
                    raise EventsGone
                return
            if standing.abandoned and await self._recovery.recover(answer_id):
                continue
            quiet = 0 if events else quiet + 1
            await asyncio.sleep(POLL_SECONDS[min(quiet, len(POLL_SECONDS) - 1)])

    async def _read(self, user_id: UUID, answer_id: UUID, place: int) -> tuple[Standing, list[Event]]:
        async with self._database.transaction() as connection:
            standing = await self._store.standing(connection, user_id, answer_id)
            if standing is None:
                raise NotFound
            _check_place(place, standing.last_sequence)
            if standing.last_sequence == place:
                return standing, []
            return standing, await self._store.events(connection, answer_id, place)


def _check_place(place: int, last_sequence: int) -> None:
    if place > last_sequence:
        raise Invalid(violations=[Violation("after_sequence", "is beyond the last event", "known_sequence")])


def _ends(event: Event) -> bool:
    """Say whether an event is the last; raises the refusal of an answer that failed."""
    if not isinstance(event.payload, Completed):
        return False
    if event.payload.refusal:
        raise ENDING_REFUSALS[event.payload.refusal]
    return True
