"""Promises of an answer's journal: durable before it is seen, whole, in few writes."""

import asyncio
from collections.abc import Sequence
from uuid import UUID

import pytest

from server.refusal import StoreUnavailable
from server.retrieval.events import Completed, Delta, Ending, Event, Heartbeat, Progress, Stage, Started, Validation
from server.retrieval.journal import Journal, Lost
from server.text.language import Language

STARTED = Event(1, Started(UUID(int=1), UUID(int=2), UUID(int=3), 100, Language.FRENCH))
END = Completed(Ending.STOP, (), Validation(0), None, "model")


class Disk:
    """Keeps batches; refuses or loses them on command, and can be held."""

    def __init__(self) -> None:
        self.batches: list[Sequence[Event]] = []
        self.failures = 0
        self.lost = False
        self.free = asyncio.Event()
        self.free.set()

    async def write(self, batch: Sequence[Event]) -> None:
        await self.free.wait()
        if self.lost:
            raise Lost
        if self.failures:
            self.failures -= 1
            raise StoreUnavailable
        self.batches.append(batch)

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]


@pytest.fixture
def disk() -> Disk:
    return Disk()


@pytest.fixture
def journal(disk: Disk) -> Journal:
    return Journal([STARTED], disk.write)


async def finish(journal: Journal) -> None:
    journal.stop()
    await journal.keep()
    journal.end(journal.last(END))


async def seen(journal: Journal, after: int = 0) -> list[Event]:
    return [event async for event in journal.follow(after)]


async def test_followers_see_what_was_written_and_nothing_else(journal: Journal, disk: Disk) -> None:
    journal.append(Progress(Stage.ANSWERING))
    journal.add_text("un ")
    journal.add_text("mot")
    await finish(journal)
    events = await seen(journal)
    assert events[1:-1] == disk.events == [Event(2, Progress(Stage.ANSWERING)), Event(3, Delta("un mot"))]
    assert events[-1] == Event(4, END)


async def test_nothing_is_shown_before_it_is_durable(journal: Journal, disk: Disk) -> None:
    disk.free.clear()
    keeper = asyncio.create_task(journal.keep())
    journal.add_text("texte")
    stream = journal.follow(1)
    waiting = asyncio.ensure_future(anext(stream))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    disk.free.set()
    assert await waiting == Event(2, Delta("texte"))
    journal.stop()
    await keeper
    await stream.aclose()


async def test_text_that_comes_during_a_write_becomes_one_event(journal: Journal, disk: Disk) -> None:
    disk.free.clear()
    keeper = asyncio.create_task(journal.keep())
    journal.add_text("a")
    for _ in range(20):
        await asyncio.sleep(0)
    for letter in "bcdefgh":
        journal.add_text(letter)
    disk.free.set()
    journal.stop()
    await keeper
    assert disk.events == [Event(2, Delta("a")), Event(3, Delta("bcdefgh"))]
    assert journal.text == "abcdefgh"


async def test_events_before_the_first_text_are_written_with_it(journal: Journal, disk: Disk) -> None:
    keeper = asyncio.create_task(journal.keep())
    journal.append(Progress(Stage.ANSWERING))
    await asyncio.sleep(0)
    journal.add_text("texte")
    stream = journal.follow(1)
    await anext(stream)
    assert len(disk.batches) == 1
    journal.stop()
    await keeper
    await stream.aclose()


async def test_what_follows_the_last_text_is_stored_with_the_end_and_costs_no_write(
    journal: Journal, disk: Disk
) -> None:
    keeper = asyncio.create_task(journal.keep())
    journal.add_text("texte")
    stream = journal.follow(1)
    await anext(stream)
    journal.append(Progress(Stage.CHECKING))
    journal.stop()
    await keeper
    assert disk.events == [Event(2, Delta("texte"))]
    assert journal.last(END) == [Event(3, Progress(Stage.CHECKING)), Event(4, END)]
    await stream.aclose()


async def test_a_short_outage_is_waited_out(journal: Journal, disk: Disk) -> None:
    disk.failures = 2
    journal.add_text("texte")
    await finish(journal)
    assert disk.events == [Event(2, Delta("texte"))]


async def test_an_answer_that_is_lost_sends_its_followers_to_the_store(journal: Journal, disk: Disk) -> None:
    disk.lost = True
    journal.add_text("texte")
    following = asyncio.create_task(seen(journal))
    with pytest.raises(Lost):
        await journal.keep()
    assert await following == [STARTED]


async def test_a_silent_answer_writes_heartbeats(disk: Disk) -> None:
    journal = Journal([STARTED], disk.write, heartbeat_seconds=0.01)
    keeper = asyncio.create_task(journal.keep())
    stream = journal.follow(1)
    assert [(await anext(stream)).payload for _ in range(2)] == [Heartbeat(), Heartbeat()]
    journal.stop()
    await keeper
    await stream.aclose()


async def test_a_follower_may_begin_anywhere_and_leave_at_any_time(journal: Journal) -> None:
    journal.add_text("texte")
    await finish(journal)
    whole = await seen(journal)
    for after in range(len(whole)):
        stream = journal.follow(after)
        assert await anext(stream) == whole[after]
        await stream.aclose()
    assert await seen(journal, 2) == whole[2:]
