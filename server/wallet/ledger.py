"""The ledger's entries, and the proof that nobody changed them: each hash covers its entry and the hash before it."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

GENESIS = "00" * 32
"""Stands before the first entry of every wallet."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Kind(StrEnum):
    """What kind of movement an entry is; each kind moves between fixed accounts (see 0003_wallet.sql)."""

    GRANT = "grant"
    VOUCHER = "voucher"
    TOP_UP = "top_up"
    ADJUSTMENT = "adjustment"
    HOLD = "hold"
    OVERAGE = "overage"
    CHARGE = "charge"
    REFUND = "refund"
    EXPIRY = "expiry"
    WRITE_OFF = "write_off"


@dataclass(frozen=True, slots=True)
class Entry:
    """One balanced transfer from `debit_account` to `credit_account`, above zero. Hashes are hex.

    `balance_after_tokens` is what `user:available` holds afterwards; `request_id` is the client's, `call_id` the
    x-request-id of the call.
    """

    user_id: UUID
    sequence: int
    kind: Kind
    debit_account: str
    credit_account: str
    amount_tokens: int
    balance_after_tokens: int
    reservation_id: UUID | None
    request_id: UUID
    call_id: UUID
    reason: str
    created_at: datetime
    previous_hash: str
    hash: str

    @property
    def id(self) -> UUID:
        """A name for the entry, made from its hash (UUID version 8: custom)."""
        named = bytearray.fromhex(self.hash)[:16]
        named[6] = named[6] & 0x0F | 0x80
        named[8] = named[8] & 0x3F | 0x80
        return UUID(bytes=bytes(named))


def chained_hash(previous_hash: str, entry: Entry) -> str:
    """Return the hash that `entry` must carry after `previous_hash`; the same text as SQL's `ledger_hash`."""
    parts = (
        entry.user_id,
        entry.sequence,
        entry.kind.value,
        entry.debit_account,
        entry.credit_account,
        entry.amount_tokens,
        entry.balance_after_tokens,
        entry.reservation_id or "",
        entry.request_id,
        entry.call_id,
        (entry.created_at - _EPOCH) // _MICROSECOND,
        entry.reason,
    )
    content = "|".join(str(part) for part in parts)
    return hashlib.sha256(bytes.fromhex(previous_hash) + content.encode()).hexdigest()


def first_break(entries: Iterable[Entry]) -> int | None:
    """Return the place (from 1) of the first entry that does not follow from those before it, or None.

    Takes one wallet's entries in order, as an export carries them. A missing tail shows only against the wallet's
    own head, which the export's manifest keeps.
    """
    previous = GENESIS
    for place, entry in enumerate(entries, 1):
        expected = chained_hash(previous, entry)
        if (entry.sequence, entry.previous_hash, entry.hash) != (place, previous, expected):
            return place
        previous = entry.hash
    return None
