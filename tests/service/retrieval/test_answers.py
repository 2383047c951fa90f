"""Promises of answers: one charge, stored events, endings."""

import asyncio
from uuid import uuid4

import psycopg
import pytest

from server.caller import Caller, acting_as
from server.models.port import Usage
from server.refusal import (
    InsufficientBalance,
    ModelUnavailable,
    NoPassages,
    NotFound,
    QuotaExceeded,
    RateLimited,
    RequestIdReused,
    ShuttingDown,
    StoreUnavailable,
)
from server.retrieval import pricing
from server.retrieval.events import Completed, Ending, PassagesFound, Started, StepDegraded
from server.retrieval.passage import Step
from server.telemetry.metrics.families import REGISTRY
from server.text.language import Language
from tests.service.retrieval.retrieving import ANSWER, LESSONS, Process, ask, events_of, question, text_of


def charges(owner: psycopg.Connection, who: Caller) -> list[int]:
    rows = owner.execute("SELECT amount_tokens FROM ledger_entry WHERE user_id = %s AND kind = 'charge'", [who.user_id])
    return [row[0] for row in rows]


def held(owner: psycopg.Connection, who: Caller) -> int:
    [(tokens,)] = owner.execute("SELECT held_tokens FROM wallet WHERE user_id = %s", [who.user_id]).fetchall()
    return tokens


def first_texts() -> float:
    return REGISTRY.get_sample_value("time_to_first_token_seconds_count", {"method": "Ask"}) or 0.0


async def test_an_answer_is_cited_and_charged_once(process: Process, student: Caller, owner) -> None:
    events = await ask(process, student)
    started, completed = events[0].payload, events[-1].payload
    assert isinstance(started, Started)
    assert isinstance(completed, Completed)
    assert [event.sequence for event in events] == list(range(1, len(events) + 1))
    assert text_of(events) == "".join(ANSWER)
    assert completed.citations[0].quote == "La force est égale à la masse multipliée par l'accélération du corps"
    assert charges(owner, student) == [completed.receipt.charged_tokens]
    assert 0 < completed.receipt.charged_tokens <= started.max_charge_tokens
    assert held(owner, student) == 0


async def test_the_time_to_the_first_text_is_measured_once_per_answer(process: Process, student: Caller) -> None:
    before = first_texts()
    await ask(process, student)
    assert first_texts() == before + 1


async def test_a_replay_is_identical(process: Process, student: Caller) -> None:
    events = await ask(process, student)
    assert await events_of(process, student, events[0].payload.answer_id) == events


async def test_the_same_request_is_the_same_answer_and_one_charge(process: Process, student: Caller, owner) -> None:
    asked = question()
    first = await ask(process, student, asked)
    assert await ask(process, student, asked) == first
    assert len(charges(owner, student)) == 1


async def test_requests_at_the_same_time_are_one_answer(start_process, student: Caller, owner) -> None:
    asked = question()
    async with start_process() as here, start_process() as there:
        answers = await asyncio.gather(*(ask(process, student, asked) for process in (here, here, there, there)))
    assert all(answer == answers[0] for answer in answers)
    assert len(charges(owner, student)) == 1
    assert held(owner, student) == 0


async def test_a_request_id_with_another_question_is_refused(process: Process, student: Caller) -> None:
    asked = question()
    await ask(process, student, asked)
    with pytest.raises(RequestIdReused):
        await ask(process, student, question("Une autre question ?", request_id=asked.request_id))


async def test_a_request_id_with_another_question_is_refused_also_when_that_one_cannot_be_asked(
    process: Process, student: Caller
) -> None:
    asked = question()
    await ask(process, student, asked)
    with pytest.raises(RequestIdReused):
        await ask(process, student, question(request_id=asked.request_id, conversation_id=uuid4()))


async def test_a_repeated_request_is_the_same_answer_when_no_other_can_be_begun(start_process, student: Caller) -> None:
    asked = question()
    async with start_process(running_answers=1) as process:
        first = await ask(process, student, asked)
        process.model.gate = asyncio.Event()
        with acting_as(student):
            await process.room.answers.ask(question())
            with pytest.raises(RateLimited):
                await process.room.answers.ask(question())
        assert await ask(process, student, asked) == first


async def test_a_repeated_request_needs_no_tokens(process: Process, make_user, owner) -> None:
    with pytest.raises(InsufficientBalance) as refused:
        await ask(process, make_user(tokens=10))
    poor, asked = make_user(tokens=int(refused.value.metadata["needed"])), question()
    process.model.usage = Usage(1_000_000, 1_000_000)
    first = await ask(process, poor, asked)
    with pytest.raises(InsufficientBalance):
        await ask(process, poor)
    assert await ask(process, poor, asked) == first
    assert len(charges(owner, poor)) == 1


async def test_two_questions_racing_for_one_request_id_leave_one_answer_and_one_hold(
    start_process, student: Caller, owner
) -> None:
    asked = question()
    other = question("Une autre question sur la force ?", request_id=asked.request_id)
    async with start_process() as here, start_process() as there:
        ended = await asyncio.gather(
            ask(here, student, asked), ask(there, student, other), ask(there, student, asked), return_exceptions=True
        )
    answers = [each for each in ended if not isinstance(each, BaseException)]
    refused = [each for each in ended if isinstance(each, BaseException)]
    assert answers
    assert all(isinstance(each, RequestIdReused) for each in refused)
    assert len(refused) in (1, 2)
    assert answers[0][-1].payload.ending is Ending.STOP
    assert charges(owner, student) == [answers[0][-1].payload.receipt.charged_tokens]
    assert held(owner, student) == 0


async def test_a_caller_that_leaves_does_not_stop_the_answer(process: Process, student: Caller, owner) -> None:
    process.model.gate = asyncio.Event()
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        stream = process.room.answers.follow(answer_id)
        await anext(stream)
        await stream.aclose()
    process.model.gate.set()
    events = await events_of(process, student, answer_id)
    assert text_of(events) == "".join(ANSWER)
    assert len(charges(owner, student)) == 1


async def test_a_stream_dropped_a_hundred_times_is_whole(process: Process, student: Caller, owner) -> None:
    process.model.words = tuple(f"mot{number} " for number in range(200))
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        received = []
        for _ in range(100):
            stream = process.room.answers.follow(answer_id, len(received))
            async for event in stream:
                received.append(event)
                break
            await stream.aclose()
    received += await events_of(process, student, answer_id, len(received))
    assert received == await events_of(process, student, answer_id)
    assert text_of(received) == "".join(process.model.words)
    assert len(charges(owner, student)) == 1


async def test_an_answer_can_be_followed_from_another_process(start_process, student: Caller) -> None:
    async with start_process() as here, start_process() as there:
        here.model.gate, here.model.free_words = asyncio.Event(), 2
        with acting_as(student):
            answer_id = await here.room.answers.ask(question())
        reading = asyncio.create_task(events_of(there, student, answer_id))
        await asyncio.sleep(0)
        here.model.gate.set()
        assert await reading == await events_of(here, student, answer_id)


async def test_cancelling_charges_the_prompt_and_what_was_written(process: Process, student: Caller, owner) -> None:
    process.model.gate, process.model.free_words = asyncio.Event(), 2
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
        async for event in process.room.answers.follow(answer_id):
            if text_of([event]):
                break
        await process.room.answers.cancel(answer_id)
    events = await events_of(process, student, answer_id)
    completed = events[-1].payload
    assert completed.ending is Ending.CANCELLED
    assert text_of(events) == "".join(ANSWER[:2])
    assert charges(owner, student) == [completed.receipt.charged_tokens]
    assert completed.receipt.charged_tokens > process.model.prompt_tokens(process.model.tasks[0]) - 1


async def test_an_answer_can_be_cancelled_from_another_process(start_process, student: Caller) -> None:
    async with start_process() as here, start_process() as there:
        here.model.gate, here.model.free_words = asyncio.Event(), 2
        with acting_as(student):
            answer_id = await here.room.answers.ask(question())
            await there.room.answers.cancel(answer_id)
        events = await events_of(here, student, answer_id)
    assert events[-1].payload.ending is Ending.CANCELLED


async def test_cancelling_a_completed_answer_changes_nothing(process: Process, student: Caller) -> None:
    events = await ask(process, student)
    with acting_as(student):
        await process.room.answers.cancel(events[0].payload.answer_id)
    assert await events_of(process, student, events[0].payload.answer_id) == events


async def test_when_no_model_answers_passages_are_quoted_for_nothing(process: Process, student: Caller, owner) -> None:
    process.model.broken.add("answer")
    events = await ask(process, student)
    completed = events[-1].payload
    assert completed.ending is Ending.QUOTED
    assert [citation.number for citation in completed.citations] == [1]
    assert Step.MODEL in {event.payload.degraded.step for event in events if isinstance(event.payload, StepDegraded)}
    assert completed.receipt.charged_tokens == 0
    assert charges(owner, student) == []
    assert held(owner, student) == 0


async def test_a_model_that_breaks_midway_is_charged_for_what_it_wrote(
    process: Process, student: Caller, owner
) -> None:
    process.model.broken.add("answer_midway")
    events = await ask(process, student)
    completed = events[-1].payload
    assert completed.ending is Ending.INTERRUPTED
    assert text_of(events) == ANSWER[0]
    assert charges(owner, student) == [completed.receipt.charged_tokens]


async def test_when_nothing_can_answer_the_refusal_comes_after_a_receipt_of_zero(
    process: Process, student: Caller, owner
) -> None:
    process.model.broken.add("answer")
    process.quoting.broken.add("answer")
    received = []
    with pytest.raises(ModelUnavailable), acting_as(student):
        async for event in process.room.answers.follow(await process.room.answers.ask(question())):
            received.append(event)
    assert received[-1].payload.ending is Ending.FAILED
    assert received[-1].payload.receipt.charged_tokens == 0
    assert held(owner, student) == 0


async def test_a_question_that_no_page_answers_is_refused_and_free(start_process, student: Caller, owner) -> None:
    async with start_process(texts=()) as process:
        asked = question()
        for _ in range(2):
            with pytest.raises(NoPassages):
                await ask(process, student, asked)
    assert charges(owner, student) == []
    assert held(owner, student) == 0


async def test_without_any_store_to_search_the_question_is_refused_and_free(
    process: Process, student: Caller, owner
) -> None:
    process.library.broken.add("full_text")
    process.vectors.broken.add("dense")
    with pytest.raises(StoreUnavailable):
        await ask(process, student)
    assert held(owner, student) == 0


async def test_usage_above_the_quote_is_not_charged(process: Process, student: Caller) -> None:
    process.model.usage = Usage(1_000_000, 1_000_000)
    events = await ask(process, student)
    assert events[-1].payload.receipt.charged_tokens == events[0].payload.max_charge_tokens


async def test_an_empty_wallet_is_told_what_is_needed(process: Process, make_user, owner) -> None:
    poor = make_user(tokens=10)
    with pytest.raises(InsufficientBalance) as refused:
        await ask(process, poor)
    assert int(refused.value.metadata["needed"]) > 10
    assert refused.value.metadata["available"] == "10"


async def test_a_quarter_of_the_price_buys_a_cheaper_answer(start_process, make_user) -> None:
    texts = [
        f"{LESSONS[0]} Exemple {number} : {'la masse du corps vaut deux kilogrammes. ' * 12}" for number in range(8)
    ]
    async with start_process(texts) as process:
        with acting_as(make_user(tokens=20_000)):
            full = await process.room.answers.estimate(question())
        poor = make_user(tokens=full.likely_tokens // 4)
        events = await ask(process, poor)
        assert process.model.tasks[-1].small
    degraded = [event.payload.degraded.step for event in events if isinstance(event.payload, StepDegraded)]
    assert Step.PLAN in degraded
    assert events[-1].payload.citations


async def test_an_estimate_holds_for_the_charge(process: Process, student: Caller) -> None:
    with acting_as(student):
        estimate = await process.room.answers.estimate(question())
    events = await ask(process, student)
    assert estimate.affordable
    assert not estimate.cheaper_plan
    assert estimate.min_tokens <= estimate.likely_tokens <= estimate.max_tokens
    assert events[0].payload.max_charge_tokens <= estimate.max_tokens
    assert events[-1].payload.receipt.charged_tokens <= estimate.max_tokens


async def test_unfinished_answers_of_a_user_are_bounded(process: Process, student: Caller, owner) -> None:
    process.model.gate = asyncio.Event()
    with acting_as(student):
        for _ in range(3):
            await process.room.answers.ask(question())
        before = held(owner, student)
        with pytest.raises(QuotaExceeded):
            await process.room.answers.ask(question())
    assert held(owner, student) == before


async def test_a_question_refused_for_too_many_may_be_asked_again(process: Process, student: Caller) -> None:
    process.model.gate, asked = asyncio.Event(), question()
    with acting_as(student):
        others = [await process.room.answers.ask(question()) for _ in range(3)]
        with pytest.raises(QuotaExceeded):
            await process.room.answers.ask(asked)
        process.model.gate.set()
        for answer_id in others:
            await events_of(process, student, answer_id)
    assert text_of(await ask(process, student, asked)) == "".join(ANSWER)


async def test_an_answer_is_its_owners_alone(process: Process, student: Caller, make_user) -> None:
    process.model.gate = asyncio.Event()
    with acting_as(student):
        answer_id = await process.room.answers.ask(question())
    for other in (make_user(), make_user(role="admin"), make_user(role="service")):
        with pytest.raises(NotFound):
            await events_of(process, other, answer_id)
        with pytest.raises(NotFound), acting_as(other):
            await process.room.answers.cancel(answer_id)
        with pytest.raises(NotFound), acting_as(other):
            await process.room.conversations.get_answer(answer_id)
    process.model.gate.set()
    await events_of(process, student, answer_id)
    with pytest.raises(NotFound):
        await events_of(process, make_user(role="admin"), answer_id)


async def test_the_passages_shown_are_those_the_model_was_given(process: Process, student: Caller) -> None:
    events = await ask(process, student)
    [found] = [event.payload for event in events if isinstance(event.payload, PassagesFound)]
    assert [passage.text for passage in found.passages] == [source.text for source in process.model.tasks[-1].sources]
    assert process.model.tasks[-1].max_tokens <= pricing.FULL.max_answer_tokens


async def test_a_closing_server_settles_what_it_stops(start_process, student: Caller, owner) -> None:
    async with start_process() as process:
        process.model.gate, process.model.free_words = asyncio.Event(), 2
        with acting_as(student):
            answer_id = await process.room.answers.ask(question())
            async for event in process.room.answers.follow(answer_id):
                if text_of([event]):
                    break
        await process.room.answers.close(0)
        with pytest.raises(ShuttingDown), acting_as(student):
            await process.room.answers.ask(question())
        events = await events_of(process, student, answer_id)
    assert events[-1].payload.ending is Ending.INTERRUPTED
    assert len(charges(owner, student)) == 1


async def test_the_answer_follows_the_language_that_was_asked_for(process: Process, student: Caller) -> None:
    await ask(process, student, question(answer_language=Language.ARABIC))
    assert process.model.tasks[-1].language is Language.ARABIC
    await ask(process, student, question())
    assert process.model.tasks[-1].language is Language.FRENCH


async def test_unknown_answers_are_not_found(process: Process, student: Caller) -> None:
    with pytest.raises(NotFound):
        await events_of(process, student, uuid4())
