"""What the wallet tells other rooms: balances, reservations and receipts. The unit is the token, a whole number."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class Status(StrEnum):
    """Where a reservation stands. Everything but `HELD` is final."""

    HELD = "held"
    FINALIZED = "finalized"
    RELEASED = "released"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Balance:
    """A wallet's two accounts. Overdue holds count as released, but for what they delivered."""

    available_tokens: int
    held_tokens: int

    @property
    def posted_tokens(self) -> int:
        """Available and held together."""
        return self.available_tokens + self.held_tokens


@dataclass(frozen=True, slots=True)
class Reservation:
    """A hold on a wallet, as it stands now. `charged_tokens` is 0 while it is held."""

    id: UUID
    user_id: UUID
    status: Status
    estimate_tokens: int
    charged_tokens: int
    purpose: str
    created_at: datetime
    expires_at: datetime
    resolved_at: datetime | None
    request_id: UUID


@dataclass(frozen=True, slots=True)
class Receipt:
    """What a resolved reservation cost. `balance_tokens` is what was available right after."""

    reserved_tokens: int
    charged_tokens: int
    refunded_tokens: int
    written_off_tokens: int
    balance_tokens: int
    request_id: UUID
    reservation_id: UUID
