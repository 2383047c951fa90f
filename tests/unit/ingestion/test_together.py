"""Two steps at once: both results, or the first failure as it is and nothing left running."""

import asyncio

import pytest

from server.ingestion.pipeline.run import Superseded
from server.ingestion.pipeline.together import together


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
