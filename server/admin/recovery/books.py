"""The proof that an exported ledger is whole: every chain from its first entry to the head that the wallets name."""

import hashlib
import json
from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from server.refusal import ExportInvalid
from server.wallet.ledger import GENESIS, Entry, Kind, chained_hash


class Books:
    """Takes the ledger's rows, then the wallets', each ordered by user; holds no more than one row of them."""

    def __init__(self) -> None:
        self._chains = _Heads()
        self._wallets, self._started = _Heads(), _Heads()
        self._user: UUID | None = None
        self._sequence, self._hash = 0, GENESIS

    def add_entries(self, lines: Iterable[bytes]) -> None:
        """Take ledger entries. Raises ExportInvalid at the first that does not follow from the one before it."""
        for line in lines:
            entry = _entry(json.loads(line))
            if entry.user_id != self._user:
                self._end_chain()
                self._user, self._sequence, self._hash = entry.user_id, 0, GENESIS
            expected = chained_hash(self._hash, entry)
            if (entry.sequence, entry.previous_hash, entry.hash) != (self._sequence + 1, self._hash, expected):
                raise ExportInvalid("The ledger of the export was changed: its chain of hashes is broken.")
            self._sequence, self._hash = entry.sequence, entry.hash

    def add_wallets(self, lines: Iterable[bytes]) -> None:
        """Take wallets."""
        for line in lines:
            row = json.loads(line)
            head = UUID(row["user_id"]), row["sequence"], _hex(row["head_hash"])
            self._wallets.add(*head)
            if row["sequence"]:
                self._started.add(*head)

    def prove(self, head: str) -> None:
        """Raise ExportInvalid unless the chains end where the wallets say, and the wallets make this head."""
        self._end_chain()
        if self._started.hex() != self._chains.hex() or self._wallets.hex() != head:
            raise ExportInvalid("The ledger of the export was changed: it does not end where its wallets say.")

    def _end_chain(self) -> None:
        if self._user is not None:
            self._chains.add(self._user, self._sequence, self._hash)
            self._user = None


class _Heads:
    """One hash over the heads of chains, made as SQL's `wallet_totals` makes it."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()

    def add(self, user_id: UUID, sequence: int, head: str) -> None:
        self._digest.update(user_id.bytes + sequence.to_bytes(8, "big") + bytes.fromhex(head))

    def hex(self) -> str:
        return self._digest.hexdigest()


def _entry(row: dict[str, object]) -> Entry:
    reservation = row["reservation_id"]
    return Entry(
        user_id=UUID(str(row["user_id"])),
        sequence=int(str(row["sequence"])),
        kind=Kind(str(row["kind"])),
        debit_account=str(row["debit_account"]),
        credit_account=str(row["credit_account"]),
        amount_tokens=int(str(row["amount_tokens"])),
        balance_after_tokens=int(str(row["balance_after_tokens"])),
        reservation_id=UUID(str(reservation)) if reservation else None,
        request_id=UUID(str(row["request_id"])),
        call_id=UUID(str(row["call_id"])),
        reason=str(row["reason"]),
        created_at=datetime.fromisoformat(str(row["created_at"])),
        previous_hash=_hex(row["previous_hash"]),
        hash=_hex(row["hash"]),
    )


def _hex(value: object) -> str:
    r"""Return a bytea's hex digits from PostgreSQL's `\x…`."""
    return str(value).removeprefix("\\x")
