"""Cancellations that are not lost: before Python 3.12 both connection pools may swallow one while they wait.

They wait by `asyncio.wait_for`, which returns the connection and forgets the cancellation when both come at once
(https://github.com/python/cpython/issues/86296). A loop that never ends by itself asks `is_cancelled` in each round.
"""

import asyncio

CANCEL_AGAIN_SECONDS = 15.0


def is_cancelled() -> bool:
    """Say whether the current task was asked to end, even if what it waited for has swallowed that."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def cancelled(task: asyncio.Task[None]) -> None:
    """End a task and wait until it has ended."""
    while not task.done():
        task.cancel()
        await asyncio.wait({task}, timeout=CANCEL_AGAIN_SECONDS)
