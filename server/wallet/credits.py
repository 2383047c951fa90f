"""Where tokens come from: vouchers, payments and corrections. Each request credits once."""

import hashlib
import time
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address, ip_network
from typing import Protocol
from uuid import UUID, uuid4

import structlog

from server.caller import acting_as, current, system
from server.database.once import Once
from server.database.pool import Database
from server.refusal import (
    Forbidden,
    InsufficientBalance,
    Invalid,
    NotFound,
    Refusal,
    RequestIdReused,
    TooManyAttempts,
    Violation,
    VoucherExpired,
    VoucherUnknown,
    VoucherUsed,
)
from server.wallet import voucher
from server.wallet.ledger import Entry
from server.wallet.store import Connection, Credited, Request, Store
from server.wallet.topup import CallbackReader, Payment, TopUp

UNKNOWN_CODES_PER_USER = 5
UNKNOWN_CODES_PER_ADDRESS = 50
"""A school shares one address."""
GUESS_WINDOW_SECONDS = 900
"""Wrong codes are counted over this moving window. At 75 bits a code, even without it nobody would find one."""
REFUSED: dict[str, type[Refusal]] = {
    "no_wallet": NotFound,
    "forbidden": Forbidden,
    "reused": RequestIdReused,
    "unknown": VoucherUnknown,
    "used": VoucherUsed,
    "expired": VoucherExpired,
}


log = structlog.get_logger(__name__)


class Audit(Protocol):
    """Adds a change to the audit trail, in the transaction that makes it."""

    def __call__(
        self, connection: Connection, action: str, object: str, before: object, after: object
    ) -> Awaitable[None]:
        """Record what changed, from what to what."""
        ...


@dataclass(frozen=True, slots=True)
class VoucherBatch:
    """Issued vouchers; `codes` is empty a day after they were issued, or when the server's secret has changed since."""

    batch_id: UUID
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Redemption:
    """What a voucher was worth, and what is available afterwards."""

    tokens: int
    balance_tokens: int


@dataclass(frozen=True, slots=True)
class _Issued:
    """What is stored of an issue: no codes, but a hash that tells whether they can, and may, be made again."""

    batch_id: UUID
    codes_digest: str


class CreditService:
    """Vouchers for students, corrections for admins, payments for providers."""

    def __init__(
        self,
        database: Database,
        once: Once,
        *,
        audit: Audit,
        voucher_key: bytes,
        callbacks: Mapping[str, CallbackReader] | None = None,
    ) -> None:
        """Derive voucher codes from `voucher_key` (32 secret bytes); read payments with `callbacks` by provider."""
        if len(voucher_key) < 32:
            raise ValueError("the voucher key must have at least 32 bytes")
        self._database = database
        self._once = once
        self._store = Store()
        self._audit = audit
        self._voucher_key = voucher_key
        self._callbacks = dict(callbacks or {})

    async def redeem(self, code: str, request_id: UUID) -> Redemption:
        """Add a voucher's tokens to the caller's wallet.

        Raises VoucherUnknown, VoucherUsed, VoucherExpired, and TooManyAttempts (with the time to wait) after five
        unknown codes of one user or fifty of one address within 15 minutes.
        """
        user_id = current().user_id
        if user_id is None:
            raise Forbidden("Only an account of its own can redeem vouchers.")
        canonical = voucher.canonical(code)
        code_hash = voucher.code_hash(canonical or "")
        await self._count_guess(user_id, code_hash, request_id)

        async def effect(connection: Connection) -> Redemption:
            redeemed = await self._store.redeem(connection, user_id, code_hash, _request(request_id))
            _ensure("redeemed", redeemed)
            return Redemption(redeemed.tokens, redeemed.available_tokens)

        return await self._once.run("WalletService.RedeemVoucher", request_id, code_hash.hex(), Redemption, effect)

    async def issue_vouchers(
        self, count: int, tokens: int, expires_at: datetime | None, request_id: UUID, note: str = ""
    ) -> VoucherBatch:
        """Make `count` voucher codes worth `tokens` each, `note` says for whom; only hashes are stored. For admins.

        The same request again makes nothing: for a day it returns the same codes, later the batch's id without them.
        Raises Invalid for vouchers that nobody could redeem any more.
        """
        asked = {"count": count, "tokens": tokens, "expires_at": expires_at, "note": note}

        async def effect(connection: Connection) -> _Issued:
            new_id = uuid4()
            codes = self._codes(new_id, count)
            hashes = [_hash_of(code) for code in codes]
            outcome, batch_id = await self._store.issue(
                connection, new_id, tokens, expires_at, hashes, request_id, note
            )
            if outcome == "known":
                return _Issued(batch_id, "")
            _ensure("issued", Credited(outcome, 0))
            # Only now: a request that is repeated may be so after its vouchers ran out.
            if expires_at is not None and expires_at <= datetime.now(UTC):
                raise Invalid(violations=[Violation("expires_at", "is in the past", "timestamp.gt_now")])
            await self._audit(connection, "voucher.issue", f"voucher_batch/{batch_id}", None, asked)
            return _Issued(batch_id, _digest(codes))

        issued = await self._once.run("AdminService.IssueVouchers", request_id, asked, _Issued, effect)
        codes = self._codes(issued.batch_id, count)
        return VoucherBatch(issued.batch_id, codes if _digest(codes) == issued.codes_digest else ())

    async def adjust(self, user_id: UUID, delta_tokens: int, reason: str, request_id: UUID) -> Entry:
        """Correct a balance by a new, audited entry; below zero takes away what is available at most. For admins.

        Raises InsufficientBalance (needed, available), NotFound.
        """
        request = _request(request_id)

        async def effect(connection: Connection) -> Entry:
            adjusted = await self._store.adjust(connection, user_id, delta_tokens, reason, request)
            if adjusted.outcome == "insufficient":
                raise InsufficientBalance(needed=-delta_tokens, available=adjusted.available_tokens)
            _ensure("adjusted", adjusted)
            entry = await self._store.entry(connection, user_id, adjusted.entry_sequence)
            before = {"available_tokens": adjusted.available_tokens - delta_tokens}
            after = {"available_tokens": adjusted.available_tokens, "delta_tokens": delta_tokens, "reason": reason}
            await self._audit(connection, "wallet.adjust", f"wallet/{user_id}", before, after)
            return entry

        asked = {"user_id": user_id, "delta_tokens": delta_tokens, "reason": reason}
        return await self._once.run("AdminService.AdjustBalance", request_id, asked, Entry, effect)

    async def top_up(self, payment: Payment) -> TopUp:
        """Credit a payment once, however often its provider reports it. For services and admins.

        Raises RequestIdReused when the reference was credited to another user or with another amount, NotFound.
        """
        request = Request(payment.request_id, None, current().request_id)
        async with self._database.transaction() as connection:
            credited = await self._store.top_up(connection, payment, request)
            if credited.outcome not in ("credited", "known"):
                raise REFUSED[credited.outcome]
        return TopUp(credited.outcome == "credited", credited.available_tokens)

    async def accept_callback(self, provider: str, body: bytes, *, signature: str, sent_at: str) -> TopUp:
        """Credit the payment that a provider's signed callback reports; the signature is its right to do so.

        Raises NotFound for a provider without a reader, NotSignedIn for a wrong signature or time, Invalid for its
        content, and what `top_up` raises.
        """
        reader = self._callbacks.get(provider)
        if reader is None:
            raise NotFound("No such provider is set up.")
        reference = ""
        try:
            payment = reader.read(body, signature, sent_at, time.time())
            reference = payment.reference
            with acting_as(system(current().request_id)):
                topped_up = await self.top_up(payment)
        except Refusal as refusal:
            # A payment that was made and not credited: somebody has to look into it.
            log.warning("top_up_refused", provider=provider, reference=reference, reason=refusal.reason)
            raise
        log.info("top_up_accepted", provider=provider, reference=reference, credited=topped_up.credited)
        return topped_up

    async def _count_guess(self, user_id: UUID, code_hash: bytes, request_id: UUID) -> None:
        limits = (UNKNOWN_CODES_PER_USER, UNKNOWN_CODES_PER_ADDRESS, GUESS_WINDOW_SECONDS)
        async with self._database.session() as session:
            outcome, wait_seconds = await self._store.guess(
                session, user_id, _network(current().address), code_hash, request_id, limits
            )
        if outcome == "locked":
            raise TooManyAttempts(retry_after_seconds=wait_seconds)
        if outcome == "unknown":
            raise VoucherUnknown

    def _codes(self, batch_id: UUID, count: int) -> tuple[str, ...]:
        return tuple(voucher.make_code(self._voucher_key, batch_id, position) for position in range(1, count + 1))


def _request(request_id: UUID) -> Request:
    return Request(request_id, current().user_id, current().request_id)


def _network(address: str) -> str:
    """Return what one subscriber can choose addresses from: the address itself, or its /64 in IPv6."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address
    return address if parsed.version == 4 else str(ip_network((parsed.packed, 64), strict=False))


def _ensure(outcome: str, credited: Credited) -> None:
    if credited.outcome != outcome:
        raise REFUSED[credited.outcome]


def _hash_of(code: str) -> bytes:
    canonical = voucher.canonical(code)
    if canonical is None:
        raise ValueError("a code that does not pass its own check")
    return voucher.code_hash(canonical)


def _digest(codes: tuple[str, ...]) -> str:
    return hashlib.sha256(" ".join(codes).encode()).hexdigest()
