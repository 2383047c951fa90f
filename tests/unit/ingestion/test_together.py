"""Two steps at once: both results, or the first failure as it is and nothing left running."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from server.ingestion.pipeline.run import Superseded
from server.ingestion.pipeline.together import in_step, together


async def giving(value: int) -> int:
    return value


async def test_both_results_come_in_order() -> None:
    assert await together(giving(1), giving(2)) == (1, 2)


async def test_a_failure_ends_the_other_and_is_raised_as_it_is() -> None:
    ended = asyncio.Event()

    async def lasting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def failing() -> None:
        raise Superseded

    with pytest.raises(Superseded):
        await together(lasting(), failing())
    assert ended.is_set()


async def test_a_cancel_ends_both() -> None:
    begun = asyncio.Barrier(3)
    ended: list[int] = []

    async def lasting(number: int) -> None:
        await begun.wait()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(number)

    both = asyncio.create_task(together(lasting(1), lasting(2)))
    await begun.wait()
    both.cancel()
    with pytest.raises(asyncio.CancelledError):
        await both
    assert sorted(ended) == [1, 2]


async def numbers(count: int) -> AsyncIterator[int]:
    for number in range(1, count + 1):
        yield number


@pytest.mark.parametrize("count", [0, 1, 2, 5])
async def test_batches_are_stored_in_order_each_once(count: int) -> None:
    stored: list[int] = []

    async def store(number: int) -> None:
        stored.append(number)

    await in_step(numbers(count), giving, store)
    assert stored == list(range(1, count + 1))


async def test_a_batch_is_made_while_the_one_before_is_stored() -> None:
    made: dict[int, asyncio.Event] = {number: asyncio.Event() for number in range(1, 5)}
    made[4].set()  # nothing comes after the last

    async def make(number: int) -> int:
        made[number].set()
        return number

    async def store(number: int) -> None:
        await made[min(number + 1, 4)].wait()

    await asyncio.wait_for(in_step(numbers(4), make, store), timeout=5)


async def test_what_cannot_be_stored_ends_the_making() -> None:
    made: list[int] = []

    async def make(number: int) -> int:
        made.append(number)
        return number

    async def store(number: int) -> None:
        raise Superseded

    with pytest.raises(Superseded):
        await in_step(numbers(5), make, store)
    assert set(made) <= {1, 2}
