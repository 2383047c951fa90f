"""Trying a provider again: twice at most, within the time that is left, and through its breaker."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_exponential_jitter

from server import caller, refusal
from server.models.breakers import Breakers, Passage
from server.models.port import ProviderFailure

T = TypeVar("T")

TRIES: Final = 2
LONGEST_PAUSE_SECONDS: Final = 2.0
"""A provider that wants a longer pause is passed over when another one can serve."""
LONGEST_LAST_PAUSE_SECONDS: Final = 20.0
"""The same for the last provider."""
_BACKOFF: Final = wait_exponential_jitter(multiplier=0.1, max=LONGEST_PAUSE_SECONDS, jitter=0.1)


def worth_waiting(wanted_seconds: float, remaining_seconds: float | None, *, is_last: bool) -> bool:
    """Say whether a pause fits into the time that is left and is worth it beside asking the next provider."""
    if remaining_seconds is not None and wanted_seconds >= remaining_seconds:
        return False
    return wanted_seconds <= (LONGEST_LAST_PAUSE_SECONDS if is_last else LONGEST_PAUSE_SECONDS)


async def within_deadline(call: Awaitable[T]) -> T:
    """Await something until the running call's deadline. Raises DeadlineExceeded."""
    deadline_at = caller.current().deadline_at
    if deadline_at is None:
        return await call
    limit = asyncio.timeout_at(deadline_at)
    try:
        async with limit:
            return await call
    except TimeoutError:
        if limit.expired():
            raise refusal.DeadlineExceeded from None
        raise


async def attempted(
    breakers: Breakers, service: str, call: Callable[[], Awaitable[T]], *, is_last: bool
) -> tuple[T, Passage]:
    """Return what a call of a service brings, and its passage, which the caller ends with the outcome.

    Raises Open when the service is left alone, ProviderFailure when it failed, DeadlineExceeded.
    """

    async def once() -> tuple[T, Passage]:
        passage = breakers.enter(service)
        try:
            return await within_deadline(call()), passage
        except BaseException as error:
            passage.end(error)
            raise

    retrying = AsyncRetrying(
        stop=stop_after_attempt(TRIES),
        retry=retry_if_exception(lambda error: _may_succeed_later(error, is_last=is_last)),
        wait=_pause_seconds,
        reraise=True,
    )
    return await retrying(once)


def _may_succeed_later(error: BaseException, *, is_last: bool) -> bool:
    if not isinstance(error, ProviderFailure) or not error.transient:
        return False
    deadline_at = caller.current().deadline_at
    remaining = None if deadline_at is None else deadline_at - asyncio.get_running_loop().time()
    return worth_waiting(error.retry_after_seconds or 0.0, remaining, is_last=is_last)


def _pause_seconds(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    wanted = error.retry_after_seconds if isinstance(error, ProviderFailure) else None
    return _BACKOFF(state) if wanted is None else wanted
