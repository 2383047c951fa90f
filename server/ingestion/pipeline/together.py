"""Two steps of a run at once: one computes in a thread while a store works for the other."""

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")
U = TypeVar("U")


async def together(one: Coroutine[Any, Any, T], other: Coroutine[Any, Any, U]) -> tuple[T, U]:
    """Return both results. When one fails, the other is stopped first and then the failure raised as it is."""
    try:
        async with asyncio.TaskGroup() as group:
            tasks = group.create_task(one), group.create_task(other)
    except BaseExceptionGroup as failures:
        raise failures.exceptions[0] from None
    return tasks[0].result(), tasks[1].result()


async def in_step(
    batches: AsyncIterable[T],
    make: Callable[[T], Coroutine[Any, Any, U]],
    store: Callable[[U], Coroutine[Any, Any, None]],
) -> None:
    """Make something of each batch while the one before is stored; they are stored in order, one at a time."""
    waiting: list[U] = []
    async for batch in batches:
        if not waiting:
            waiting.append(await make(batch))
        else:
            _, made = await together(store(waiting.pop()), make(batch))
            waiting.append(made)
    for made in waiting:
        await store(made)
