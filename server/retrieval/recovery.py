"""Closing the answers of processes that died: what was delivered is charged and stands, the rest is given back."""

from uuid import UUID

import structlog

from server import caller
from server.caller import Caller, Role
from server.refusal import ModelUnavailable
from server.retrieval import citations
from server.retrieval.answer import Closing, Orphan
from server.retrieval.events import Completed, Delta, Ending, Event, PassagesFound, Validation
from server.retrieval.generation import Means
from server.retrieval.journal import Lost
from server.retrieval.store import TraceStore

log = structlog.get_logger(__name__)

RETENTION_DAYS = 30
"""Events of completed answers and stories are kept this long; the answers themselves stay."""


class Recovery:
    """Takes over answers whose lease is over. Safe to run in any number of processes at once."""

    def __init__(self, means: Means) -> None:
        self._means = means

    @property
    def process_id(self) -> UUID:
        """Return whose answers are this process's."""
        return self._means.process_id

    async def recover(self, answer_id: UUID | None = None, *, others_are_dead: bool = False) -> int:
        """Close abandoned answers (or only this one); returns how many.

        `others_are_dead` skips the wait for leases: true only where no other process can be running, as when this one
        has just started the embedded database.
        """
        with caller.acting_as(caller.system(caller.current().request_id)):
            async with self._means.database.transaction() as connection:
                orphans = await self._means.store.take_over(
                    connection,
                    process_id=self._means.process_id,
                    lease_seconds=self._means.lease_seconds,
                    answer_id=answer_id,
                    others_are_dead=others_are_dead,
                )
        for orphan in orphans:
            # The hold is the student's, and so is the request that settles it.
            with caller.acting_as(Caller(user_id=orphan.user_id, role=Role.STUDENT, request_id=orphan.request_id)):
                try:
                    await self._close(orphan)
                except Lost:
                    log.info("answer_left_to_another_process", answer_id=str(orphan.answer_id))
        return len(orphans)

    async def forget(self, days: int = RETENTION_DAYS) -> int:
        """Delete old events of completed answers, and old stories; returns how many events."""
        with caller.acting_as(caller.system()):
            async with self._means.database.transaction() as connection:
                await TraceStore().forget(connection, days)
                return await self._means.store.forget(connection, days)

    async def _close(self, orphan: Orphan) -> None:
        async with self._means.database.transaction() as connection:
            events = await self._means.store.events(connection, orphan.answer_id, 0)
        text = "".join(event.payload.text for event in events if isinstance(event.payload, Delta))
        passages = next((event.payload.passages for event in events if isinstance(event.payload, PassagesFound)), ())
        checked = citations.check(text, passages, self._means.bridge) if text else citations.Checked((), Validation(0))
        ending, refusal = (Ending.INTERRUPTED, "") if text else (Ending.FAILED, ModelUnavailable.reason)
        closing = Closing(
            ending, text, "", checked.citations, checked.validation, None, orphan.delivered_tokens, refusal
        )
        completed = Completed(ending, checked.citations, checked.validation, None, "", refusal)
        await self._means.settlement.end(
            orphan.answer_id,
            orphan.request_id,
            closing,
            [Event(events[-1].sequence + 1, completed)],
            correlation_id=orphan.request_id,
            story=None,
        )
        log.info("answer_recovered", answer_id=str(orphan.answer_id), charged_tokens=orphan.delivered_tokens)
