"""The end of an answer: its hold is settled and what came of it is stored, in one transaction that may be repeated."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import TypeVar
from uuid import UUID

import structlog

from server import caller
from server.database.pool import Database
from server.refusal import Conflict, DeadlineExceeded, StoreUnavailable
from server.retrieval.answer import Closing
from server.retrieval.events import Event
from server.retrieval.journal import Lost
from server.retrieval.store import AnswerStore, Ended
from server.wallet.reservation import Receipt
from server.wallet.service import WalletService

log = structlog.get_logger(__name__)

PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Waits between tries while PostgreSQL does not answer; then the answer is left to its lease and to `recovery`."""
PASSING = (StoreUnavailable, Conflict, DeadlineExceeded)

T = TypeVar("T")


class Settlement:
    """Ends answers for the process that makes them and for the one that recovers them."""

    def __init__(self, database: Database, store: AnswerStore, wallet: WalletService, process_id: UUID) -> None:
        self._database = database
        self._store = store
        self._wallet = wallet
        self._process_id = process_id

    async def end(
        self,
        answer_id: UUID,
        request_id: UUID,
        closing: Closing,
        last: Sequence[Event],
        *,
        correlation_id: UUID,
        story: str | None,
    ) -> Receipt | None:
        """Charge what is owed, or give all back, and store the end; a hold that ended before keeps its settlement.

        `last` ends with a `Completed` without its receipt, which is stored with it and returned. Raises Lost when the
        answer is not ours any more or PostgreSQL cannot be reached.
        """

        async def store(settle_id: UUID) -> Ended:
            async with self._database.session() as session:
                return await self._store.end(
                    session,
                    answer_id,
                    closing,
                    last,
                    process_id=self._process_id,
                    correlation_id=correlation_id,
                    story=story,
                    settle_id=settle_id,
                    call_id=caller.current().request_id,
                )

        # Under the question's own id, so that the ledger names it; or under the answer's, when the student used the
        # same id for something else in the wallet.
        for settle_id in (request_id, answer_id):
            ended = await _persistently(partial(store, settle_id))
            self._wallet.count_settled(ended.settled, ended.expired)
            if ended.outcome == "ended":
                return ended.receipt
            if ended.outcome == "lost":
                break
        raise Lost


async def _persistently(work: Callable[[], Awaitable[T]]) -> T:
    for pause in PAUSES_SECONDS:
        try:
            return await work()
        except PASSING as refusal:
            log.warning("settlement_retried", reason=refusal.reason)
            await asyncio.sleep(pause)
    try:
        return await work()
    except PASSING as refusal:
        raise Lost from refusal
