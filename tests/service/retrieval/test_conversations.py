"""Promises of conversations, kept answers, ratings and traces."""

import asyncio
import json
from itertools import pairwise
from time import perf_counter
from uuid import uuid4

import pytest

from server.caller import Caller, Role, acting_as, system
from server.corpus.passage import CorpusFilter
from server.refusal import ModelUnavailable, NoPassages, NotFound, RequestIdReused
from server.retrieval import searching
from server.retrieval.answer import Rating, State
from server.retrieval.events import Ending
from server.retrieval.trace import STORY_BYTES
from tests.service.retrieval.retrieving import ANSWER, Process, ask, events_of, question, text_of

FIRST = "Qu'est-ce que la force d'un corps ?"
FOLLOW_UP = "Et son accélération ?"


async def test_a_follow_up_question_sees_the_earlier_turns(process: Process, student: Caller) -> None:
    started = (await ask(process, student, question(FIRST)))[0].payload
    process.model.stands_alone = "Quelle est l'accélération d'un corps soumis à une force ?"
    await ask(process, student, question(FOLLOW_UP, conversation_id=started.conversation_id))
    task = process.model.tasks[-1]
    assert [(turn.question, turn.answer) for turn in task.history] == [(FIRST, "".join(ANSWER))]
    assert task.question == process.model.stands_alone


async def test_a_follow_up_that_cannot_be_rewritten_is_searched_with_the_question_before(
    process: Process, student: Caller
) -> None:
    started = (await ask(process, student, question(FIRST)))[0].payload
    process.model.broken.add("standalone")
    events = await ask(process, student, question(FOLLOW_UP, conversation_id=started.conversation_id))
    assert "conversation" in {getattr(getattr(event.payload, "degraded", None), "step", "") for event in events}
    assert events[-1].payload.ending is Ending.STOP


async def test_a_repeated_follow_up_is_the_same_answer_without_another_model_call(
    process: Process, student: Caller
) -> None:
    started = (await ask(process, student, question(FIRST)))[0].payload
    asked = question(FOLLOW_UP, conversation_id=started.conversation_id)
    first = await ask(process, student, asked)
    calls = process.model.asked.copy()
    assert await ask(process, student, asked) == first
    assert process.model.asked == calls


async def test_another_persons_conversation_is_not_found(process: Process, student: Caller, make_user) -> None:
    started = (await ask(process, student, question(FIRST)))[0].payload
    with pytest.raises(NotFound):
        await ask(process, make_user(), question(FOLLOW_UP, conversation_id=started.conversation_id))


async def test_a_kept_answer_tells_what_the_stream_told(process: Process, student: Caller) -> None:
    events = await ask(process, student, question(FIRST))
    completed = events[-1].payload
    with acting_as(student):
        answer = await process.room.conversations.get_answer(events[0].payload.answer_id)
    assert (answer.question, answer.content, answer.state) == (FIRST, text_of(events), State.COMPLETED)
    assert (answer.ending, answer.citations, answer.validation, answer.receipt, answer.model, answer.last_sequence) == (
        completed.ending,
        completed.citations,
        completed.validation,
        completed.receipt,
        completed.model,
        events[-1].sequence,
    )


async def test_a_kept_answer_tells_why_it_failed(process: Process, student: Caller) -> None:
    process.model.broken.add("answer")
    process.quoting.broken.add("answer")
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        with pytest.raises(ModelUnavailable):
            _ = [event async for event in process.room.answers.follow(answer_id)]
        answer = await process.room.conversations.get_answer(answer_id)
    assert (answer.ending, answer.refusal) == (Ending.FAILED, ModelUnavailable.reason)


async def test_an_unfinished_answer_shows_its_text_so_far(process: Process, student: Caller) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        async for event in process.room.answers.follow(answer_id):
            if text_of([event]):
                break
        answer = await process.room.conversations.get_answer(answer_id)
    assert (answer.state, answer.content, answer.ending) == (State.RUNNING, "".join(ANSWER[:2]), None)


async def test_answers_are_listed_newest_first_in_pages(process: Process, student: Caller) -> None:
    ids = [(await ask(process, student))[0].payload.answer_id for _ in range(5)]
    with acting_as(student):
        first = await process.room.conversations.list_answers(None, 2, "")
        await ask(process, student)
        second = await process.room.conversations.list_answers(None, 3, first.next_page_token)
    assert [answer.id for answer in (*first.items, *second.items)] == ids[::-1]
    assert second.next_page_token == ""


async def test_conversations_are_listed_last_used_first(process: Process, student: Caller) -> None:
    threads = [(await ask(process, student, question(FIRST)))[0].payload.conversation_id for _ in range(3)]
    await ask(process, student, question(FOLLOW_UP, conversation_id=threads[0]))
    with acting_as(student):
        page = await process.room.conversations.list_conversations(0, "")
        [kept] = (await process.room.conversations.list_answers(threads[1], 0, "")).items
    assert [thread.id for thread in page.items] == [threads[0], threads[2], threads[1]]
    assert (page.items[0].title, page.items[0].answer_count) == (FIRST, 2)
    assert kept.conversation_id == threads[1]


async def test_the_title_of_a_conversation_is_one_line_that_turns_nothing_around(
    process: Process, student: Caller
) -> None:
    await ask(process, student, question("Qu'est-ce que\n la force\u202e d'un corps ?"))
    with acting_as(student):
        page = await process.room.conversations.list_conversations(0, "")
    assert page.items[0].title == "Qu'est-ce que la force d'un corps ?"


async def test_a_deleted_conversation_takes_its_answers_and_leaves_the_ledger(
    process: Process, student: Caller, owner
) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    with acting_as(student):
        answer_id = await process.room.answers.ask(question(FIRST))
        async for event in process.room.answers.follow(answer_id):
            if text_of([event]):
                break
        thread = (await process.room.conversations.get_answer(answer_id)).conversation_id
        await process.room.conversations.delete_conversation(thread)
        with pytest.raises(NotFound):
            await process.room.conversations.get_answer(answer_id)
        with pytest.raises(NotFound):
            await process.room.conversations.delete_conversation(thread)
    for table in ("answer_event", "answer_citation"):
        assert owner.execute(f"SELECT count(*) FROM {table} WHERE answer_id = %s", [answer_id]).fetchone() == (0,)
    query = "SELECT count(*) FROM ledger_entry WHERE user_id = %s AND kind = 'charge'"
    assert owner.execute(query, [student.user_id]).fetchone() == (1,)


async def test_a_deletion_under_a_used_request_id_stops_no_answer(process: Process, student: Caller) -> None:
    deleted = (await ask(process, student))[0].payload.conversation_id
    used = uuid4()
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    with acting_as(student):
        await process.room.conversations.delete_conversation(deleted, used)
        answer_id = await process.room.answers.ask(question(FIRST))
        thread = (await process.room.conversations.get_answer(answer_id)).conversation_id
        with pytest.raises(RequestIdReused):
            await process.room.conversations.delete_conversation(thread, used)
        await process.room.conversations.delete_conversation(deleted, used)
        process.model.gate.set()
        events = [event async for event in process.room.answers.follow(answer_id)]
    assert events[-1].payload.ending is Ending.STOP


async def test_nobody_deletes_or_rates_for_another(process: Process, student: Caller, make_user) -> None:
    started = (await ask(process, student))[0].payload
    with acting_as(make_user(role="admin")):
        with pytest.raises(NotFound):
            await process.room.conversations.delete_conversation(started.conversation_id)
        with pytest.raises(NotFound):
            await process.room.conversations.rate_answer(started.answer_id, Rating.HELPFUL, "")


async def test_a_rating_can_be_changed_and_taken_back(process: Process, student: Caller) -> None:
    answer_id = (await ask(process, student))[0].payload.answer_id
    with acting_as(student):
        rate = process.room.conversations.rate_answer
        given = [(await rate(answer_id, rating, "clair")).rating for rating in (Rating.HELPFUL, Rating.UNHELPFUL, None)]
    assert given == [Rating.HELPFUL, Rating.UNHELPFUL, None]


async def test_erasing_a_person_erases_what_was_asked_and_answered(
    process: Process, student: Caller, database, owner
) -> None:
    await ask(process, student)
    with acting_as(student):
        async with database.transaction() as connection:
            await process.room.conversations.erase(connection, student.user_id)
    for table in ("conversation", "answer", "answer_event", "answer_citation", "rating", "trace"):
        query = f"SELECT count(*) FROM {table} WHERE user_id = %s"
        assert owner.execute(query, [student.user_id]).fetchone() == (0,), table


async def test_a_trace_tells_the_story_of_a_question(process: Process, student: Caller) -> None:
    asked = question(FIRST)
    events = await ask(process, student, asked)
    with acting_as(Caller(user_id=uuid4(), role=Role.ADMIN)):
        story = (await process.room.conversations.trace(asked.request_id)).steps
        assert (await process.room.conversations.trace(student.request_id)).steps == story
    assert story["search"]["language"] == "fr"
    assert story["search"]["ranked"]
    assert story["price"]["reservation_id"] == str(events[0].payload.reservation_id)
    assert story["model_calls"][0]["model"] == "scripted"
    assert story["receipt"]["charged_tokens"] == events[-1].payload.receipt.charged_tokens
    assert len(json.dumps(story).encode()) <= STORY_BYTES


async def test_a_trace_tells_when_each_step_began_and_how_long_it_took(process: Process, student: Caller) -> None:
    asked = question(FIRST)
    began = perf_counter()
    await ask(process, student, asked)
    seconds = perf_counter() - began
    with acting_as(student):
        told = await process.room.conversations.trace(asked.request_id)
    lasting = ["price", "search", "prompt", "model_calls", "check", "receipt"]
    ends = [(told.spans[step].started_after, told.spans[step].took) for step in lasting]
    assert set(told.steps) - {"stages_ms"} <= set(told.spans) | {"degraded"}
    assert all(start >= 0 and took > 0 and start + took <= seconds for start, took in ends)
    work = [told.spans[step] for step in ("search", "prompt", "model_calls", "check", "receipt")]
    assert all(one.started_after + one.took <= then.started_after for one, then in pairwise(work))


async def test_a_search_tells_how_long_it_took(process: Process, student: Caller) -> None:
    with acting_as(student):
        await process.room.searches.search("La force et la masse", CorpusFilter(), 0)
    with acting_as(system()):
        await process.room.searches.keep_stories()
    with acting_as(student):
        span = (await process.room.conversations.trace(student.request_id)).spans["search"]
    assert span.started_after >= 0
    assert span.took > 0


async def test_a_trace_is_for_its_owner_and_operators(process: Process, student: Caller, make_user) -> None:
    asked = question(FIRST)
    await ask(process, student, asked)
    with acting_as(system()):
        assert await process.room.conversations.trace(asked.request_id)
    with pytest.raises(NotFound), acting_as(make_user()):
        await process.room.conversations.trace(asked.request_id)
    with pytest.raises(NotFound), acting_as(student):
        await process.room.conversations.trace(uuid4())


async def test_a_search_has_a_story_under_the_id_of_its_call(process: Process, student: Caller) -> None:
    with acting_as(student):
        await process.room.searches.search("La force et la masse", CorpusFilter(), 0)
    with acting_as(system()):
        assert await process.room.searches.keep_stories() == 1
    with acting_as(student):
        story = (await process.room.conversations.trace(student.request_id)).steps
    assert story["search"]["query"] == "La force et la masse"
    assert story["search"]["ranked"]


async def test_a_search_that_finds_nothing_has_a_story_too(start_process, student: Caller) -> None:
    async with start_process(texts=()) as empty:
        with acting_as(student):
            found = await empty.room.searches.search("La force", CorpusFilter(), 0)
        with acting_as(system()):
            await empty.room.searches.keep_stories()
        with acting_as(student):
            told = await empty.room.conversations.trace(student.request_id)
    assert not found.passages
    assert told.steps["refusal"] == NoPassages.reason
    assert (told.user_id, told.method) == (student.user_id, "Search")


async def test_stories_of_searches_are_bounded(
    process: Process, student: Caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(searching, "MOST_WAITING", 2)
    with acting_as(student):
        for _ in range(5):
            await process.room.searches.search("La force", CorpusFilter(), 0)
    with acting_as(system()):
        assert [await process.room.searches.keep_stories() for _ in range(2)] == [2, 0]


async def test_old_stories_are_forgotten(process: Process, student: Caller, owner) -> None:
    asked = question()
    await ask(process, student, asked)
    owner.execute("UPDATE trace SET created_at = now() - interval '31 days' WHERE request_id = %s", [asked.request_id])
    await process.room.recovery.forget()
    with acting_as(student), pytest.raises(NotFound):
        await process.room.conversations.trace(asked.request_id)


async def test_a_long_story_is_shortened_not_lost(start_process, student: Caller) -> None:
    texts = [f"La force numéro {number} et l'accélération du corps." for number in range(60)]
    async with start_process(texts) as process:
        asked = question("force " * 300)
        await ask(process, student, asked)
        with acting_as(student):
            story = (await process.room.conversations.trace(asked.request_id)).steps
    assert story["receipt"]
    assert len(json.dumps(story).encode()) <= STORY_BYTES


async def test_an_answer_is_replayed_after_its_process_is_gone(start_process, student: Caller) -> None:
    async with start_process() as before:
        events = await ask(before, student)
    async with start_process() as after:
        assert await events_of(after, student, events[0].payload.answer_id) == events
        assert await events_of(after, student, events[0].payload.answer_id, 3) == events[3:]
