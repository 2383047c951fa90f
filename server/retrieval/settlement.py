"""The end of an answer, money first: the hold is resolved, then the end is stored. Each step may be repeated."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import TypeVar
from uuid import UUID

import structlog

from server.database.pool import Database
from server.refusal import (
    Conflict,
    DeadlineExceeded,
    RequestIdReused,
    ReservationExpired,
    ReservationFinalized,
    ReservationReleased,
    StoreUnavailable,
)
from server.retrieval.answer import Closing
from server.retrieval.events import Event
from server.retrieval.journal import Lost
from server.retrieval.store import AnswerStore
from server.wallet.reservation import Receipt
from server.wallet.service import WalletService

log = structlog.get_logger(__name__)

PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Waits between tries while PostgreSQL does not answer; then the answer is left to its lease and to `recovery`."""
PASSING = (StoreUnavailable, Conflict, DeadlineExceeded)
RESOLVED = (ReservationExpired, ReservationFinalized, ReservationReleased)

T = TypeVar("T")


class Settlement:
    """Settles and closes answers for the process that makes them and for the one that recovers them."""

    def __init__(self, database: Database, store: AnswerStore, wallet: WalletService, process_id: UUID) -> None:
        self._database = database
        self._store = store
        self._wallet = wallet
        self._process_id = process_id

    async def settle(self, answer_id: UUID, reservation_id: UUID, request_id: UUID, owed_tokens: int) -> Receipt:
        """Charge what is owed, or give everything back; a hold that ended before keeps its first settlement.

        Raises Lost when PostgreSQL cannot be reached.
        """

        async def resolve() -> Receipt:
            # Under the question's own id, so that the ledger names it; or under the answer's, when the student used
            # the same id for something else in the wallet.
            for resolve_id in (request_id, answer_id):
                try:
                    if owed_tokens > 0:
                        return await self._wallet.finalize(reservation_id, owed_tokens, resolve_id)
                    return await self._wallet.release(reservation_id, resolve_id)
                except RequestIdReused:
                    continue
                except RESOLVED:
                    break
            return await self._first_receipt(reservation_id)

        return replace(await _persistently(resolve), request_id=request_id)

    async def close(
        self,
        answer_id: UUID,
        closing: Closing,
        last: Sequence[Event],
        *,
        correlation_id: UUID,
        story: str | None,
    ) -> None:
        """Store the end of an answer with its last events.

        Raises Lost when it is not ours any more or PostgreSQL cannot be reached.
        """

        async def store() -> bool:
            async with self._database.session() as session:
                return await self._store.close(
                    session,
                    answer_id,
                    closing,
                    last,
                    process_id=self._process_id,
                    correlation_id=correlation_id,
                    story=story,
                )

        if not await _persistently(store):
            raise Lost

    async def _first_receipt(self, reservation_id: UUID) -> Receipt:
        reservation = await self._wallet.reservation(reservation_id)
        balance = await self._wallet.balance(reservation.user_id)
        return Receipt(
            reserved_tokens=reservation.estimate_tokens,
            charged_tokens=reservation.charged_tokens,
            refunded_tokens=max(0, reservation.estimate_tokens - reservation.charged_tokens),
            written_off_tokens=0,
            balance_tokens=balance.available_tokens,
            request_id=reservation.request_id,
            reservation_id=reservation_id,
        )


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
