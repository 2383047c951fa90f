"""Where the wallet reports what it does: plain functions, handed in by the composition root."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class CountReservations(Protocol):
    """Counts reservations by what became of them."""

    def __call__(self, status: str, count: int = 1) -> None:
        """Count `reserved`, `finalized`, `released`, `expired` or `refused`."""
        ...


def _uncounted(status: str, count: int = 1) -> None:
    """Count nothing."""


def _unseen(count: int) -> None:
    """Show nothing."""


@dataclass(frozen=True, slots=True)
class Meters:
    """`wallet_reservation_total`, `active_reservations` and `stale_reservations`."""

    count_reservations: CountReservations = _uncounted
    set_active: Callable[[int], None] = _unseen
    set_stale: Callable[[int], None] = _unseen
