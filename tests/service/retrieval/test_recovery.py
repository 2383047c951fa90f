"""Promises after a crash: what was delivered stands and is charged, the rest is given back, once."""

import asyncio
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from uuid import UUID

import pytest

from server.caller import Caller, acting_as
from server.refusal import EventsGone, ModelUnavailable
from server.retrieval.events import Ending, Event, Progress, Stage
from tests.service.retrieval.retrieving import ANSWER, Process, events_of, question, text_of


async def stuck(process: Process, who: Caller, after_words: int) -> tuple[UUID, list[Event]]:
    """Begin an answer that gets no further than this many words; returns it with the events that were shown."""
    process.model.gate, process.model.free_words = asyncio.Event(), after_words
    shown = []
    with acting_as(who):
        answer_id = await process.room.answers.ask(question())
        async for event in process.room.answers.follow(answer_id):
            shown.append(event)
            # Only then nothing is being written, and its row can be taken.
            answering = Progress(Stage.ANSWERING) in [each.payload for each in shown]
            if answering and text_of(shown) == "".join(ANSWER[:after_words]):
                break
    return answer_id, shown


def settlements(owner, who: Caller) -> list[tuple[str, int]]:
    query = "SELECT kind, amount_tokens FROM ledger_entry WHERE user_id = %s AND kind IN ('charge', 'refund', 'expiry')"
    return owner.execute(query, [who.user_id]).fetchall()


async def test_what_a_dead_process_delivered_is_charged_once_and_stands(start_process, student: Caller, owner) -> None:
    async with start_process() as dead, start_process() as alive:
        answer_id, shown = await stuck(dead, student, 2)
        assert await alive.room.recovery.recover(others_are_dead=True) == 1
        events = await events_of(alive, student, answer_id)
    assert events[: len(shown)] == shown
    assert text_of(events) == "".join(ANSWER[:2])
    assert events[-1].payload.ending is Ending.INTERRUPTED
    [(kind, charged), *_] = settlements(owner, student)
    assert (kind, charged) == ("charge", events[-1].payload.receipt.charged_tokens)


async def test_a_process_that_was_taken_for_dead_changes_nothing_any_more(
    start_process, student: Caller, owner
) -> None:
    async with start_process() as stalled, start_process() as alive:
        answer_id, _ = await stuck(stalled, student, 2)
        await alive.room.recovery.recover(answer_id, others_are_dead=True)
        closed, settled = await events_of(alive, student, answer_id), settlements(owner, student)
        stalled.model.gate.set()
        assert await events_of(stalled, student, answer_id) == closed
        await stalled.room.answers.close(5)
        assert await events_of(alive, student, answer_id) == closed
    assert settlements(owner, student) == settled


async def test_an_answer_that_died_before_its_first_word_is_free(start_process, student: Caller, owner) -> None:
    async with start_process() as dead, start_process() as alive:
        answer_id, _ = await stuck(dead, student, 0)
        await alive.room.recovery.recover(answer_id, others_are_dead=True)
        with pytest.raises(ModelUnavailable):
            await events_of(alive, student, answer_id)
    assert [kind for kind, _ in settlements(owner, student)] == ["refund"]


async def test_what_a_process_took_over_and_could_not_close_it_closes_later(
    start_process, student: Caller, owner
) -> None:
    async with start_process() as dead, start_process() as alive:
        answer_id, _ = await stuck(dead, student, 2)
        owner.execute(
            "UPDATE answer SET process_id = %s, lease_expires_at = now() WHERE id = %s",
            [alive.room.recovery.process_id, answer_id],
        )
        assert (await events_of(alive, student, answer_id))[-1].payload.ending is Ending.INTERRUPTED
    assert len([kind for kind, _ in settlements(owner, student) if kind == "charge"]) == 1


async def test_a_follower_closes_the_answer_it_waits_for(start_process, student: Caller) -> None:
    async with start_process(lease_seconds=0.3) as dead, start_process() as alive:
        answer_id, _ = await stuck(dead, student, 2)
        events = await events_of(alive, student, answer_id)
    assert events[-1].payload.ending is Ending.INTERRUPTED


async def test_an_answer_that_is_being_made_is_not_taken_over(start_process, student: Caller) -> None:
    async with start_process() as busy, start_process() as other:
        answer_id, _ = await stuck(busy, student, 2)
        assert await other.room.recovery.recover() == 0
        busy.model.gate.set()
        assert (await events_of(other, student, answer_id))[-1].payload.ending is Ending.STOP


async def test_recovering_twice_at_once_closes_once(start_process, student: Caller, owner) -> None:
    async with start_process() as dead, start_process() as one, start_process() as two:
        answer_id, _ = await stuck(dead, student, 2)
        closed = await asyncio.gather(
            one.room.recovery.recover(answer_id, others_are_dead=True),
            two.room.recovery.recover(answer_id, others_are_dead=True),
        )
        events = await events_of(one, student, answer_id)
    assert sum(closed) >= 1
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert len([kind for kind, _ in settlements(owner, student) if kind == "charge"]) == 1


async def test_a_citation_of_a_cut_answer_is_checked_too(start_process, student: Caller) -> None:
    async with start_process() as dead, start_process() as alive:
        dead.model.words = ("La force est égale à la masse multipliée par l'accélération du corps [1]. ", "Et puis")
        dead.model.gate, dead.model.free_words = asyncio.Event(), 1
        with acting_as(student):
            answer_id = await dead.room.answers.ask(question())
            async for event in dead.room.answers.follow(answer_id):
                if text_of([event]):
                    break
        await alive.room.recovery.recover(answer_id, others_are_dead=True)
        events = await events_of(alive, student, answer_id)
    assert [citation.number for citation in events[-1].payload.citations] == [1]


async def test_forgotten_events_are_said_to_be_gone(process: Process, student: Caller, owner) -> None:
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
    events = await events_of(process, student, answer_id)
    owner.execute("UPDATE answer_event SET created_at = now() - interval '31 days' WHERE answer_id = %s", [answer_id])
    assert await process.room.recovery.forget() >= len(events)
    with pytest.raises(EventsGone):
        await events_of(process, student, answer_id)
    with acting_as(student):
        assert (await process.room.conversations.get_answer(answer_id)).content == "".join(ANSWER)


async def test_killing_the_server_mid_answer_keeps_the_text_and_charges_once(
    start_process, student: Caller, addresses, owner
) -> None:
    root = Path(__file__).parents[3]
    arguments = [str(Path(__file__).with_name("answer_and_hang.py")), addresses.url, str(student.user_id)]
    server = await asyncio.create_subprocess_exec(
        sys.executable, *arguments, cwd=root, env={"PYTHONPATH": f"{root}:{root / 'clients/python'}"}, stdout=PIPE
    )
    assert server.stdout is not None
    answer_id = UUID((await server.stdout.readline()).decode().strip())
    sequence, _, shown = (await server.stdout.readline()).decode().rstrip("\n").partition(" ")
    server.kill()
    await server.wait()
    async with start_process() as alive:
        resumed = await events_of(alive, student, answer_id, int(sequence))
        whole = await events_of(alive, student, answer_id)
    assert whole[int(sequence) :] == resumed
    assert text_of(whole[: int(sequence)]) == shown
    assert text_of(whole) == "".join(ANSWER[:2])
    assert whole[-1].payload.ending is Ending.INTERRUPTED
    charged = [amount for kind, amount in settlements(owner, student) if kind == "charge"]
    assert charged == [whole[-1].payload.receipt.charged_tokens]
