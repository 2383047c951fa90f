"""Holds and their settlement, what a wallet's owner may see, and the proof that the books are right.

Who may use whose wallet is decided here: one's own, and any for services and admins. The SQL functions that hold and
settle run without a caller (one round trip, no transaction around them) and guarantee what must hold whoever calls.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import UUID

import structlog

from server.caller import Role, current
from server.database.once import NOBODY
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Database
from server.refusal import (
    Conflict,
    Forbidden,
    InsufficientBalance,
    NotFound,
    Refusal,
    RequestIdReused,
    ReservationExpired,
    ReservationFinalized,
    ReservationReleased,
    StoreUnavailable,
)
from server.wallet.hold import Hold, Unfinished
from server.wallet.ledger import Entry
from server.wallet.meters import Meters
from server.wallet.report import Check, Report, report
from server.wallet.reservation import Balance, Receipt, Reservation, Status
from server.wallet.store import Connection, Request, Settled, Store

__all__ = ["Hold", "WalletService"]

LONGEST_HOLD_SECONDS = 86_400
WALLETS_PER_SWEEP = 100
"""Wallets whose overdue holds are settled in one transaction, so that no wallet stays locked for long."""
SETTLEMENT_PAUSES_SECONDS = (0.1, 0.5, 2.0, 5.0)
"""Pauses between tries to settle while the store cannot be reached; then it is left to expiry."""
ENDED: dict[str, type[Refusal]] = {
    "finalized": ReservationFinalized,
    "released": ReservationReleased,
    "expired": ReservationExpired,
    "reused": RequestIdReused,
    "unknown": NotFound,
}

ForeignCheck = Callable[[Connection], Awaitable[Check]]
"""A check of another room's books against the wallet's, part of every reconciliation."""

log = structlog.get_logger(__name__)


class WalletService:
    """Money that can be proven: nothing negative, nothing twice, nothing lost."""

    def __init__(
        self,
        database: Database,
        *,
        reservation_ttl_seconds: int = 300,
        meters: Meters | None = None,
        foreign_checks: Sequence[ForeignCheck] = (),
        settlement_pauses_seconds: Sequence[float] = SETTLEMENT_PAUSES_SECONDS,
    ) -> None:
        """Hold tokens for `reservation_ttl_seconds` (a day at most), by the database's clock."""
        if not 0 < reservation_ttl_seconds <= LONGEST_HOLD_SECONDS:
            raise ValueError(f"a reservation lives between 1 and {LONGEST_HOLD_SECONDS} seconds")
        self._database = database
        self._store = Store()
        self._ttl_seconds = reservation_ttl_seconds
        self._meters = meters or Meters()
        self._foreign_checks = tuple(foreign_checks)
        self._pauses_seconds = tuple(settlement_pauses_seconds)
        self._unfinished = Unfinished()

    async def close(self) -> None:
        """Wait until every settlement that is under way has come to its end."""
        await self._unfinished.drain()

    async def open_wallet(self, connection: Connection, user_id: UUID, welcome_tokens: int) -> None:
        """Open a new user's wallet with its welcome grant, inside the transaction that makes the user."""
        await self._store.open(connection, user_id, welcome_tokens, current().request_id)

    # Holds

    async def reserve(self, user_id: UUID, estimate_tokens: int, purpose: str, request_id: UUID) -> Reservation:
        """Hold `estimate_tokens`; the same request again returns the same reservation as it stands now.

        Raises InsufficientBalance (needed, available), RequestIdReused, and NotFound for another person's wallet.
        """
        if not _may_use(user_id):
            raise NotFound
        async with self._database.session() as session:
            reserved = await self._store.reserve(
                session, user_id, estimate_tokens, purpose, self._ttl_seconds, _request(request_id)
            )
        refused = reserved.outcome == "insufficient"
        held = reserved.outcome == "reserved" and not reserved.replayed
        self.count_hold(held=held, refused=refused, expired=reserved.expired)
        if refused:
            raise InsufficientBalance(needed=estimate_tokens, available=reserved.available_tokens)
        if reserved.outcome == "reused":
            raise RequestIdReused
        if reserved.reservation is None:
            raise NotFound
        return reserved.reservation

    def count_hold(self, *, held: bool, refused: bool, expired: int) -> None:
        """Count what became of a wish to hold, and the overdue holds it settled; also when another room's SQL held."""
        if held:
            self._meters.count_reservations("reserved")
        if refused:
            self._meters.count_reservations("refused")
        self._expired(expired)

    def count_settled(self, status: str | None, expired: int) -> None:
        """Count what a settlement made of its hold (None: nothing new), and the overdue ones it settled."""
        if status is not None:
            self._meters.count_reservations(status)
        self._expired(expired)

    @property
    def hold_seconds(self) -> int:
        """Return how long a hold lasts, by the database's clock."""
        return self._ttl_seconds

    async def finalize(self, reservation_id: UUID, actual_tokens: int, request_id: UUID) -> Receipt:
        """Charge min(actual, 2 x estimate, what can be paid), give the rest of the hold back, write the rest off.

        The same request again returns the first receipt. Raises ReservationExpired after `expires_at` on the
        database's clock, ReservationFinalized or ReservationReleased after a first settlement, RequestIdReused,
        NotFound.
        """
        return await self._unfinished.settle(self._finalize(reservation_id, actual_tokens, _request(request_id)))

    async def release(self, reservation_id: UUID, request_id: UUID) -> Receipt:
        """Give a hold back whole; answers and refuses as `finalize` does."""
        return await self._unfinished.settle(self._release(reservation_id, _request(request_id)))

    async def delivered(self, connection: Connection, reservation_id: UUID, tokens: int) -> None:
        """Record how many tokens have reached the user so far in all, in the transaction that makes it durable.

        This is what expiry charges after a crash. Raises ReservationExpired (and its siblings) when nobody holds
        the tokens any more, so that nothing more is delivered.
        """
        outcome = await self._store.deliver(connection, reservation_id, tokens)
        if outcome != "recorded":
            raise ENDED[outcome]

    @asynccontextmanager
    async def hold(self, user_id: UUID, estimate_tokens: int, purpose: str, request_id: UUID) -> AsyncIterator[Hold]:
        """Hold tokens for the length of the block and settle on every way out of it: end, error, cancel, deadline.

        Charges what `Hold.spend` said last; when it said nothing, what `delivered` recorded. Refuses as `reserve`
        does, and when the request's reservation has ended before.
        """
        work = self.reserve(user_id, estimate_tokens, purpose, request_id)
        reservation = await self._unfinished.finish(work, undo=lambda made: self._settle(Hold(made)))
        if reservation.status is not Status.HELD:
            raise ENDED[reservation.status]
        hold = Hold(reservation)
        try:
            yield hold
        finally:
            hold.receipt = await self._unfinished.settle(self._settle(hold))

    async def expire_overdue(self) -> int:
        """Settle every overdue hold; returns how many. For the sweeper, every minute."""
        expired = charged = 0
        while (batch := await self._expire_some())[0]:
            expired, charged = expired + batch[0], charged + batch[1]
        log.info("wallet_swept", expired=expired, charged_tokens=charged)
        return expired

    async def show_holds(self) -> None:
        """Show how many reservations hold tokens, whichever processes made them."""
        async with self._database.transaction() as connection:
            active, stale = await self._store.open_holds(connection)
        self._meters.set_active(active)
        self._meters.set_stale(stale)

    # What an owner sees

    async def balance(self, user_id: UUID | None = None) -> Balance:
        """Return a balance: the caller's own, or anyone's for services and admins. Raises NotFound without a wallet."""
        async with self._database.transaction() as connection:
            return await self._balance(connection, _whose(user_id))

    async def reservation(self, reservation_id: UUID) -> Reservation:
        """Return a reservation of the caller's (any, for services and admins)."""
        async with self._database.transaction() as connection:
            reservation = await self._store.reservation(connection, reservation_id)
        if reservation is None:
            raise NotFound
        return reservation

    async def reservations(
        self, user_id: UUID | None, status: Status | None, *, size: int, page_token: str
    ) -> Page[Reservation]:
        """List reservations, newest first. Raises NotFound without a wallet."""
        whose, size = _whose(user_id), page_size(size)
        filters = ("reservations", whose, status)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.reservations(connection, whose, status or "", after, size + 1)
            if not rows:
                await self._balance(connection, whose)
        return cut(rows, size, filters, lambda row: (row.created_at, row.id))

    async def entries(self, user_id: UUID | None, *, size: int, page_token: str) -> Page[Entry]:
        """List ledger entries, newest first. Raises NotFound without a wallet."""
        whose, size = _whose(user_id), page_size(size)
        filters = ("entries", whose)
        after = position(page_token, filters, int)
        async with self._database.transaction() as connection:
            rows = await self._store.entries(connection, whose, after, size + 1)
            if not rows:
                await self._balance(connection, whose)
        return cut(rows, size, filters, lambda row: (row.sequence,))

    async def caused_entries(self, request_id: UUID) -> list[Entry]:
        """Return the ledger entries that a request_id or an x-request-id led to, in order, for traces."""
        async with self._database.transaction() as connection:
            return await self._store.caused_entries(connection, request_id)

    # Proof

    async def verify(self, user_id: UUID | None = None) -> Report:
        """Check one wallet's books: every check by name, nothing repaired."""
        whose = _whose(user_id)
        async with self._database.transaction() as connection:
            checks = await self._store.checks(connection, whose)
        if not checks:
            raise NotFound
        return report(checks, datetime.now(UTC), {}, "")

    async def reconcile(self) -> Report:
        """Check all books, ours and the other rooms' against ours; never repairs.

        For services and admins; Forbidden for others.
        """
        async with self._database.transaction() as connection:
            checks = await self._store.checks(connection, None)
            if not checks:
                raise Forbidden
            accounts, head = await self._store.totals(connection)
            foreign = [await check(connection) for check in self._foreign_checks]
        found = report((*checks, *foreign), datetime.now(UTC), accounts, head)
        log.info(
            "wallets_reconciled", ok=found.ok, failed=[check.name for check in found.checks if not check.ok], head=head
        )
        return found

    async def _balance(self, connection: Connection, user_id: UUID) -> Balance:
        balance = await self._store.balance(connection, user_id)
        if balance is None:
            raise NotFound
        return balance

    # How holds end

    async def _expire_some(self) -> tuple[int, int]:
        async with self._database.session() as session:
            expired, charged = await self._store.expire(session, WALLETS_PER_SWEEP, current().request_id)
        self._expired(expired)
        return expired, charged

    async def _settle(self, hold: Hold) -> Receipt | None:
        """Settle for the holder; None when the store cannot be reached, and expiry will do it."""
        call = Request(None, None, current().request_id)
        for pause_seconds in (*self._pauses_seconds, None):
            try:
                async with self._database.session() as session:
                    settled = await self._store.finalize(session, hold.reservation.id, hold.actual_tokens, call)
            except (StoreUnavailable, Conflict) as error:
                if pause_seconds is None:
                    log.error(
                        "wallet_settlement_left_to_expiry", reservation_id=str(hold.reservation.id), reason=error.reason
                    )
                    return None
                await asyncio.sleep(pause_seconds)
            else:
                break
        self._seen(settled)
        if settled.outcome != "settled":
            log.warning("wallet_hold_ended_before", reservation_id=str(hold.reservation.id), status=settled.outcome)
        return settled.receipt

    async def _finalize(self, reservation_id: UUID, actual_tokens: int, request: Request) -> Receipt:
        async with self._database.session() as session:
            return self._receipt(await self._store.finalize(session, reservation_id, actual_tokens, request))

    async def _release(self, reservation_id: UUID, request: Request) -> Receipt:
        async with self._database.session() as session:
            return self._receipt(await self._store.release(session, reservation_id, request))

    def _receipt(self, settled: Settled) -> Receipt:
        self._seen(settled)
        if settled.outcome != "settled" or settled.receipt is None:
            raise ENDED[settled.outcome]
        return settled.receipt

    def _seen(self, settled: Settled) -> None:
        new = settled.outcome == "settled" and not settled.replayed
        self.count_settled(settled.status if new else None, settled.expired)

    def _expired(self, holds: int) -> None:
        if holds:
            self._meters.count_reservations("expired", holds)


def _request(request_id: UUID) -> Request:
    caller = current()
    return Request(request_id, caller.user_id or NOBODY, caller.request_id)


def _may_use(user_id: UUID) -> bool:
    caller = current()
    return caller.role in (Role.ADMIN, Role.SERVICE) or caller.user_id == user_id


def _whose(user_id: UUID | None) -> UUID:
    """Return whose wallet is meant; NotFound when it is not the caller's to see."""
    whose = user_id or current().user_id
    if whose is None or not _may_use(whose):
        raise NotFound
    return whose
