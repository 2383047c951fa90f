"""Work that nobody may cut short."""

import asyncio

import pytest

from server.wallet.hold import Unfinished


class Work:
    """Something that starts, waits for a sign and ends; it can be taken back."""

    def __init__(self):
        self.started, self.go = asyncio.Event(), asyncio.Event()
        self.ended = False
        self.taken_back = []

    async def run(self):
        self.started.set()
        await self.go.wait()
        self.ended = True
        return "done"

    async def undo(self, result):
        self.taken_back.append(result)


async def test_settling_work_ends_although_its_waiter_is_cancelled():
    unfinished, work = Unfinished(), Work()
    waiter = asyncio.create_task(unfinished.settle(work.run()))
    await work.started.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    work.go.set()
    await unfinished.drain()
    assert work.ended


async def test_finished_work_is_taken_back_when_its_waiter_is_gone():
    unfinished, work = Unfinished(), Work()
    waiter = asyncio.create_task(unfinished.finish(work.run(), work.undo))
    await work.started.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    work.go.set()
    await unfinished.drain()
    assert work.taken_back == ["done"]


async def test_finished_work_that_was_waited_for_stays():
    unfinished, work = Unfinished(), Work()
    work.go.set()
    assert await unfinished.finish(work.run(), work.undo) == "done"
    await unfinished.drain()
    assert work.taken_back == []


async def test_failed_work_is_not_taken_back():
    unfinished, work = Unfinished(), Work()

    async def fail():
        work.started.set()
        await work.go.wait()
        raise LookupError

    waiter = asyncio.create_task(unfinished.finish(fail(), work.undo))
    await work.started.wait()
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    work.go.set()
    await unfinished.drain()
    assert work.taken_back == []


async def test_errors_reach_the_waiter():
    async def fail():
        raise LookupError

    with pytest.raises(LookupError):
        await Unfinished().settle(fail())


async def test_draining_nothing_is_done_at_once():
    await Unfinished().drain()
