"""Holds as a block: what is held is settled on every way out, and no cancel or deadline cuts the settlement."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import structlog

from server.wallet.reservation import Receipt, Reservation

T = TypeVar("T")

log = structlog.get_logger(__name__)


class Hold:
    """Tokens held for the length of a block (`WalletService.hold`)."""

    __slots__ = ("actual_tokens", "receipt", "reservation")

    def __init__(self, reservation: Reservation) -> None:
        """Start with nothing spent."""
        self.reservation = reservation
        self.actual_tokens: int | None = None
        self.receipt: Receipt | None = None
        """What it cost, after the block; None when the store could not be reached, and expiry will settle."""

    def spend(self, actual_tokens: int) -> None:
        """Say what has been used so far in all; leaving the block charges it.

        A block that never says charges what `WalletService.delivered` recorded: nothing before the first token.
        """
        self.actual_tokens = actual_tokens


class Unfinished:
    """Work that must come to its end whatever happens to who waits for it."""

    def __init__(self) -> None:
        """Start with none."""
        self._tasks: set[asyncio.Task[Any]] = set()

    async def finish(self, work: Coroutine[Any, Any, T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> T:
        """Return what `work` returns. When the waiter is cancelled, it ends all the same and `undo` takes it back."""
        task = self._start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            self._start(self._take_back(task, undo))
            raise

    async def settle(self, work: Coroutine[Any, Any, T]) -> T:
        """Return what `work` returns; when the waiter is cancelled, it ends all the same."""
        task = self._start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_log_failure)
            raise

    async def drain(self) -> None:
        """Wait until nothing is left, also of what was started meanwhile."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _take_back(self, task: asyncio.Task[T], undo: Callable[[T], Coroutine[Any, Any, object]]) -> None:
        await asyncio.wait([task])
        if not task.cancelled() and task.exception() is None:
            await undo(task.result())


def _log_failure(task: asyncio.Task[Any]) -> None:
    """Say that work failed which nobody waits for any more."""
    if not task.cancelled() and (error := task.exception()) is not None:
        log.warning("wallet_work_failed", error=type(error).__name__)
