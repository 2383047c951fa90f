"""What a store lets others do around its calls: measure them, and leave it alone while it fails."""

from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Observe(Protocol):
    """Called after each read or write of rows, for metrics."""

    def __call__(self, operation: str, namespace: str, seconds: float, rows: int) -> None:
        """Take one measurement; `operation` is `search` or `upsert`."""


class Guard(Protocol):
    """Makes a call on behalf of a service name, or refuses to while that service keeps failing."""

    async def __call__(self, service: str, call: Callable[[], Awaitable[T]]) -> T:
        """Return what the call returns. Raises what it raises, or StoreUnavailable without making it."""


def unobserved(operation: str, namespace: str, seconds: float, rows: int) -> None:
    """Measure nothing."""


async def unguarded(service: str, call: Callable[[], Awaitable[T]]) -> T:
    """Make every call."""
    return await call()
