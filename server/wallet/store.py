"""SQL of wallets, reservations, ledger, vouchers and top-ups: calls of the functions of 0003_wallet*.sql, and reads."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy.exc
from psycopg.errors import UniqueViolation
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.pages import KeyPart
from server.database.session import Session
from server.refusal import RequestIdReused
from server.wallet.ledger import Entry, Kind
from server.wallet.report import Check
from server.wallet.reservation import Balance, Receipt, Reservation, Status
from server.wallet.topup import Payment

Connection = AsyncConnection
"""An open transaction, for rooms that must not know SQLAlchemy."""

REQUEST_KEYS = (
    "reservation_request",
    "reservation_resolve_request",
    "ledger_entry_once_per_request",
)
"""Unique keys that a request_id violates only when it is used for a second thing."""

# The hot path: one round trip each.
RESERVE = (
    "SELECT outcome, replayed, expired, available, (r).id, (r).user_id, (r).status, (r).estimate_tokens,"
    " (r).charged_tokens, (r).purpose, (r).created_at, (r).expires_at, (r).resolved_at, (r).request_id"
    " FROM wallet_reserve($1, $2, $3, $4, $5, $6, $7)"
)
_RECEIPT = (
    "SELECT outcome, replayed, expired, (r).status, (r).estimate_tokens, (r).charged_tokens, (r).written_off_tokens,"
    " (r).balance_after_tokens, coalesce((r).resolve_request_id, (r).request_id), (r).id"
)
FINALIZE = f"{_RECEIPT} FROM wallet_finalize($1, $2, $3, $4, $5)"
RELEASE = f"{_RECEIPT} FROM wallet_release($1, $2, $3, $4)"
EXPIRE = "SELECT expired, charged_tokens FROM wallet_expire($1, $2)"
GUESS = "SELECT outcome, retry_after_seconds FROM wallet_guess_voucher($1, $2, $3, $4, $5, $6, $7)"

OPEN = text("SELECT wallet_open(:user_id, :tokens, :request_id, :call_id)")
DELIVER = text("SELECT wallet_deliver(:reservation_id, :tokens)")
# What an overdue hold delivered will be charged, so it does not count as released.
BALANCE = text(
    "SELECT w.available_tokens, w.available_tokens + w.held_tokens AS posted_tokens,"
    " greatest(0, w.available_tokens + coalesce("
    "  (SELECT sum(r.estimate_tokens - least(r.delivered_tokens, 2 * r.estimate_tokens)) FROM reservation r"
    "   WHERE r.user_id = w.user_id AND r.status = 'held' AND r.expires_at <= clock_timestamp()), 0)) AS spendable"
    " FROM wallet w WHERE w.user_id = :user_id"
)
# An overdue hold shows as what it is, whether or not the sweeper has come.
_RESERVATION = (
    "SELECT id, user_id, status, estimate_tokens, charged_tokens, purpose, created_at, expires_at, resolved_at,"
    " request_id FROM (SELECT r.id, r.user_id, r.estimate_tokens, r.charged_tokens, r.purpose, r.created_at,"
    "  r.expires_at, r.resolved_at, r.request_id,"
    "  CASE WHEN r.status = 'held' AND r.expires_at <= clock_timestamp() THEN 'expired' ELSE r.status END AS status"
    "  FROM reservation r) seen"
)
RESERVATION = text(f"{_RESERVATION} WHERE id = :id")
RESERVATIONS = text(
    f"{_RESERVATION} WHERE user_id = :user_id AND (:status = '' OR status = :status)"
    " AND (CAST(:created_at AS timestamptz) IS NULL OR (created_at, id) < (:created_at, CAST(:id AS uuid)))"
    " ORDER BY created_at DESC, id DESC LIMIT :rows"
)
OPEN_HOLDS = text(
    "SELECT count(*) AS active, count(*) FILTER (WHERE created_at < clock_timestamp() - interval '5 minutes') AS stale"
    " FROM reservation WHERE status = 'held'"
)
_ENTRY = (
    "SELECT user_id, sequence, kind, debit_account, credit_account, amount_tokens, balance_after_tokens,"
    " reservation_id, request_id, call_id, reason, created_at, previous_hash, hash FROM ledger_entry"
)
ENTRY = text(f"{_ENTRY} WHERE user_id = :user_id AND sequence = :sequence")
ENTRIES = text(
    f"{_ENTRY} WHERE user_id = :user_id AND (CAST(:sequence AS bigint) IS NULL OR sequence < :sequence)"
    " ORDER BY sequence DESC LIMIT :rows"
)
CAUSED_ENTRIES = text(
    f"{_ENTRY} WHERE reservation_id IN ("
    "  SELECT id FROM reservation WHERE request_id = :id"
    "  UNION SELECT id FROM reservation WHERE resolve_request_id = :id"
    "  UNION SELECT id FROM reservation WHERE call_id = :id)"
    " OR (reservation_id IS NULL AND request_id = :id) OR (reservation_id IS NULL AND call_id = :id)"
    " ORDER BY created_at, sequence"
)
ADJUST = text(
    "SELECT outcome, available, entry_sequence FROM wallet_adjust(:user_id, :delta, :reason, :request_id, :call_id)"
)
TOP_UP = text(
    "SELECT outcome, available FROM wallet_top_up(:user_id, :provider, :reference, :tokens, :request_id, :call_id)"
)
ISSUE = text(
    "SELECT outcome, batch FROM wallet_issue_vouchers(:batch_id, :tokens, :expires_at, :hashes, :request_id, :note)"
)
REDEEM = text("SELECT outcome, tokens, available FROM wallet_redeem(:user_id, :code_hash, :request_id, :call_id)")
VERIFY = text("SELECT name, problems, detail FROM wallet_verify(:user_id)")
RECONCILE = text("SELECT name, problems, detail FROM wallet_reconcile()")
TOTALS = text("SELECT accounts, head FROM wallet_totals()")


@dataclass(frozen=True, slots=True)
class Request:
    """Which request a movement is for: the client's id, whose id it is, and the x-request-id of the call.

    Without an id of its own the holder settles under the request that made the reservation.
    """

    id: UUID | None
    caller_id: UUID | None
    call_id: UUID


@dataclass(frozen=True, slots=True)
class Reserved:
    """`outcome`: reserved, insufficient, reused, no_wallet. `expired` overdue holds were settled on the way."""

    outcome: str
    replayed: bool
    expired: int
    available_tokens: int
    reservation: Reservation | None


@dataclass(frozen=True, slots=True)
class Settled:
    """`outcome`: settled, finalized, released, expired, reused, unknown; all but the last two come with a receipt.

    `status` is what the reservation has become.
    """

    outcome: str
    replayed: bool
    expired: int
    status: str
    receipt: Receipt | None


@dataclass(frozen=True, slots=True)
class Credited:
    """`outcome`: adjusted, credited, known, redeemed, or why not. `tokens` is a voucher's worth."""

    outcome: str
    available_tokens: int
    tokens: int = 0
    entry_sequence: int = 0


class Store:
    """Reads and moves tokens. Methods on a session commit by themselves; the others join the open transaction."""

    async def reserve(
        self,
        session: Session,
        user_id: UUID,
        estimate_tokens: int,
        purpose: str,
        ttl_seconds: int,
        request: Request,
    ) -> Reserved:
        """Hold tokens; the first result again for a request that was served before."""
        asked = (user_id, estimate_tokens, purpose, ttl_seconds, request.id, request.caller_id, request.call_id)
        with _one_use_per_request():
            outcome, replayed, expired, available, *row = await session.call(RESERVE, asked)
        return Reserved(outcome, replayed, expired, available or 0, _reservation(row) if row[0] else None)

    async def finalize(
        self, session: Session, reservation_id: UUID, actual_tokens: int | None, request: Request
    ) -> Settled:
        """Charge a hold; without `actual_tokens` as the holder, what was durably delivered."""
        asked = (reservation_id, actual_tokens, request.id, request.caller_id, request.call_id)
        with _one_use_per_request():
            return _settled(await session.call(FINALIZE, asked))

    async def release(self, session: Session, reservation_id: UUID, request: Request) -> Settled:
        """Give a hold back whole."""
        with _one_use_per_request():
            return _settled(
                await session.call(RELEASE, (reservation_id, request.id, request.caller_id, request.call_id))
            )

    async def expire(self, session: Session, wallets: int, call_id: UUID) -> tuple[int, int]:
        """Settle overdue holds of up to so many wallets; returns how many holds, and the tokens they were charged."""
        expired, charged = await session.call(EXPIRE, (wallets, call_id))
        return int(expired), int(charged)

    async def guess(
        self,
        session: Session,
        user_id: UUID,
        address: str,
        code_hash: bytes,
        request_id: UUID,
        limits: tuple[int, int, int],
    ) -> tuple[str, float]:
        """Judge a voucher code (known, unknown, locked) and count an unknown one; returns the seconds to wait too.

        `limits` are unknown codes per user, per address, and the window in seconds.
        """
        outcome, wait = await session.call(GUESS, (user_id, address, code_hash, request_id, *limits))
        return str(outcome), float(wait or 0.0)

    async def open(self, connection: AsyncConnection, user_id: UUID, tokens: int, call_id: UUID) -> None:
        """Open a wallet with a welcome grant."""
        asked = {"user_id": user_id, "tokens": tokens, "request_id": call_id, "call_id": call_id}
        await connection.execute(OPEN, asked)

    async def deliver(self, connection: AsyncConnection, reservation_id: UUID, tokens: int) -> str:
        """Record what has reached the user; returns recorded, unknown, or how the reservation ended."""
        asked = {"reservation_id": reservation_id, "tokens": tokens}
        return str((await connection.execute(DELIVER, asked)).scalar_one())

    async def balance(self, connection: AsyncConnection, user_id: UUID) -> Balance | None:
        """Return a balance, or None when there is no wallet or it is not the caller's to see."""
        row = (await connection.execute(BALANCE, {"user_id": user_id})).one_or_none()
        return Balance(int(row.spendable), int(row.posted_tokens - row.spendable)) if row else None

    async def reservation(self, connection: AsyncConnection, reservation_id: UUID) -> Reservation | None:
        """Return a reservation the caller may see."""
        row = (await connection.execute(RESERVATION, {"id": reservation_id})).one_or_none()
        return _reservation(row) if row else None

    async def reservations(
        self, connection: AsyncConnection, user_id: UUID, status: str, after: Sequence[KeyPart], rows: int
    ) -> list[Reservation]:
        """Return reservations, newest first, after (created_at, id)."""
        created_at, last_id = after or (None, None)
        asked = {"user_id": user_id, "status": status, "created_at": created_at, "id": last_id, "rows": rows}
        return [_reservation(row) for row in await connection.execute(RESERVATIONS, asked)]

    async def open_holds(self, connection: AsyncConnection) -> tuple[int, int]:
        """Return how many reservations hold tokens, and how many of them are older than five minutes."""
        row = (await connection.execute(OPEN_HOLDS)).one()
        return int(row.active), int(row.stale)

    async def entry(self, connection: AsyncConnection, user_id: UUID, sequence: int) -> Entry:
        """Return one ledger entry."""
        return _entry((await connection.execute(ENTRY, {"user_id": user_id, "sequence": sequence})).one())

    async def entries(
        self, connection: AsyncConnection, user_id: UUID, after: Sequence[KeyPart], rows: int
    ) -> list[Entry]:
        """Return ledger entries, newest first, after a sequence number."""
        asked = {"user_id": user_id, "sequence": after[0] if after else None, "rows": rows}
        return [_entry(row) for row in await connection.execute(ENTRIES, asked)]

    async def caused_entries(self, connection: AsyncConnection, id: UUID) -> list[Entry]:
        """Return the entries that a request_id or x-request-id led to, in order."""
        return [_entry(row) for row in await connection.execute(CAUSED_ENTRIES, {"id": id})]

    async def adjust(
        self, connection: AsyncConnection, user_id: UUID, delta_tokens: int, reason: str, request: Request
    ) -> Credited:
        """Correct a balance."""
        asked = {"user_id": user_id, "delta": delta_tokens, "reason": reason}
        row = await self._credit(connection, ADJUST, asked, request)
        return Credited(row.outcome, row.available or 0, entry_sequence=row.entry_sequence or 0)

    async def top_up(self, connection: AsyncConnection, payment: Payment, request: Request) -> Credited:
        """Credit a payment once."""
        asked = {
            "user_id": payment.user_id,
            "provider": payment.provider,
            "reference": payment.reference,
            "tokens": payment.tokens,
        }
        row = await self._credit(connection, TOP_UP, asked, request)
        return Credited(row.outcome, row.available or 0)

    async def issue(
        self,
        connection: AsyncConnection,
        batch_id: UUID,
        tokens: int,
        expires_at: datetime | None,
        code_hashes: Sequence[bytes],
        request_id: UUID,
        note: str,
    ) -> tuple[str, UUID]:
        """Store a batch of voucher codes; returns issued, known, reused or forbidden, and the id of the batch."""
        asked = {
            "batch_id": batch_id,
            "tokens": tokens,
            "expires_at": expires_at,
            "hashes": list(code_hashes),
            "request_id": request_id,
            "note": note,
        }
        row = (await connection.execute(ISSUE, asked)).one()
        return row.outcome, row.batch

    async def redeem(self, connection: AsyncConnection, user_id: UUID, code_hash: bytes, request: Request) -> Credited:
        """Redeem a voucher code."""
        row = await self._credit(connection, REDEEM, {"user_id": user_id, "code_hash": code_hash}, request)
        return Credited(row.outcome, row.available or 0, tokens=row.tokens or 0)

    async def checks(self, connection: AsyncConnection, user_id: UUID | None) -> tuple[Check, ...]:
        """Run every check over one wallet or (None) all; none at all when the caller has no right to it."""
        rows = await connection.execute(
            RECONCILE if user_id is None else VERIFY, {"user_id": user_id} if user_id else {}
        )
        return tuple(Check(row.name, row.problems == 0, row.detail, row.problems) for row in rows)

    async def totals(self, connection: AsyncConnection) -> tuple[dict[str, int], str]:
        """Return the net of every account, and one hash (hex) over the heads of all chains."""
        row = (await connection.execute(TOTALS)).one()
        return {account: int(net) for account, net in (row.accounts or {}).items()}, row.head or ""

    async def _credit(
        self, connection: AsyncConnection, statement: Any, asked: dict[str, object], request: Request
    ) -> Row[Any]:
        with _one_use_per_request():
            ids = {"request_id": request.id, "call_id": request.call_id}
            return (await connection.execute(statement, asked | ids)).one()


@contextmanager
def _one_use_per_request() -> Iterator[None]:
    """Raise RequestIdReused where two requests with one id met at a unique key."""
    try:
        yield
    except (UniqueViolation, sqlalchemy.exc.IntegrityError) as error:
        cause = error.orig if isinstance(error, sqlalchemy.exc.IntegrityError) else error
        if isinstance(cause, UniqueViolation) and cause.diag.constraint_name in REQUEST_KEYS:
            raise RequestIdReused from None
        raise


def _reservation(row: Sequence[Any]) -> Reservation:
    reservation_id, user_id, status, *rest = row
    return Reservation(reservation_id, user_id, Status(status), *rest)


def _settled(row: Sequence[Any]) -> Settled:
    outcome, replayed, expired, status, reserved, charged, written_off, balance, request_id, reservation_id = row
    if reservation_id is None or outcome == "reused":
        return Settled(outcome, replayed, expired, status or "", None)
    refunded = max(reserved - charged, 0)
    receipt = Receipt(reserved, charged, refunded, written_off, balance, request_id, reservation_id)
    return Settled(outcome, replayed, expired, status, receipt)


def _entry(row: Row[Any]) -> Entry:
    facts = row._asdict()
    hashes = {name: bytes(facts[name]).hex() for name in ("previous_hash", "hash")}
    return Entry(**facts | hashes | {"kind": Kind(row.kind)})
