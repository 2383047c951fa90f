"""Making a quiz: what is asked, what is shown, and what it costs."""

import asyncio
from dataclasses import replace
from itertools import pairwise

import pytest

from server.caller import acting_as
from server.quiz.events import Asked, Completed, Started, StepDegraded
from server.quiz.making import QUOTED
from server.refusal import (
    InsufficientBalance,
    ModelUnavailable,
    NoPassages,
    QuotaExceeded,
    RequestIdReused,
    ShuttingDown,
)
from server.retrieval.store import TraceStore
from tests.service.quiz.conftest import BOILS, FREEZES, UNBACKED, request

TOKENS = 20_000


@pytest.fixture
def student(make_user):
    return make_user(tokens=TOKENS)


async def story_of(database, id):
    async with database.transaction() as connection:
        return await TraceStore().story(connection, id)


def uses(owner, student):
    """What a student's quizzes used, what of it is owed and what was charged, in tokens."""
    return owner.execute(
        "SELECT u.used_tokens, u.owed_tokens, r.charged_tokens FROM model_usage u"
        " JOIN reservation r ON r.id = u.reservation_id WHERE u.user_id = %s AND u.purpose = 'quiz'",
        [student.user_id],
    ).fetchall()


async def test_a_quiz_holds_only_questions_whose_key_is_backed(room, student):
    with acting_as(student):
        events = await room.generate(request())
    asked = [event.question.stem for event in events if isinstance(event, Asked)]
    assert asked == [BOILS.stem, FREEZES.stem]
    assert events[-1].dropped_questions == 1


async def test_the_title_of_a_quiz_is_one_line_that_turns_nothing_around(room, student):
    with acting_as(student):
        events = await room.generate(request(topic="L'eau\u202e\n bout"))
        assert (await room.service.quiz(events[0].quiz_id)).title == "L'eau bout"


async def test_no_key_is_in_what_a_student_receives(room, student):
    with acting_as(student):
        events = await room.generate(request())
        quiz = await room.service.quiz(events[0].quiz_id)
    assert [event.question.key for event in events if isinstance(event, Asked)] == [None, None]
    assert [question.key for question in quiz.questions] == [None, None]


async def test_a_teacher_sees_the_keys_of_an_own_quiz(room, make_user):
    teacher = make_user(role="teacher", tokens=TOKENS)
    with acting_as(teacher):
        events = await room.generate(request())
        quiz = await room.service.quiz(events[0].quiz_id)
    assert [question.key.evidence.quote for question in quiz.questions] == [BOILS.quote, FREEZES.quote]


async def test_the_charge_is_what_was_used_and_within_the_quote(room, student):
    with acting_as(student):
        events = await room.generate(request())
    started, completed = events[0], events[-1]
    assert isinstance(started, Started)
    assert 0 < completed.receipt.charged_tokens <= started.max_charge_tokens
    assert await room.balance(student) == TOKENS - completed.receipt.charged_tokens


async def test_a_quiz_has_a_story_with_its_steps_and_their_times(room, student, database):
    asked = request()
    with acting_as(student):
        completed = (await room.generate(asked))[-1]
        told = await story_of(database, asked.request_id)
        assert await story_of(database, student.request_id) == told
    assert (told.user_id, told.method) == (student.user_id, "GenerateQuiz")
    assert told.steps["search"] == {"picked": "asked for", "chunks": 1}
    assert told.steps["drafts"] == {"kept": 2, "dropped": {"its quote does not stand in the source": 1}}
    assert [call["model"] for call in told.steps["model_calls"]] == [room.model.name]
    assert told.steps["receipt"]["charged_tokens"] == completed.receipt.charged_tokens
    work = [told.spans[step] for step in ("price", "search", "prompt", "model_calls", "receipt")]
    assert all(span.took > 0 for span in work)
    assert all(one.started_after + one.took <= then.started_after for one, then in pairwise(work))


async def test_the_story_of_a_quiz_that_failed_says_why(room, student, database):
    room.model.drafts, asked = (UNBACKED,), request()
    with acting_as(student):
        with pytest.raises(NoPassages):
            await room.generate(asked)
        told = await story_of(database, asked.request_id)
    assert told.steps["refusal"] == NoPassages.reason
    assert told.steps["receipt"]["charged_tokens"] == 0


async def test_the_story_of_a_quiz_tells_of_the_model_that_failed(room, student, database):
    room.model.broken, asked = {"quiz"}, request()
    with acting_as(student):
        await room.generate(asked)
        told = await story_of(database, asked.request_id)
    assert [(call["model"], bool(call["error"])) for call in told.steps["model_calls"]] == [
        (room.model.name, True),
        (room.quoting.name, False),
    ]
    assert told.steps["degraded"] == [["model", QUOTED]]


@pytest.mark.parametrize("broken", [set(), {"quiz_midway"}])
async def test_what_a_quiz_used_is_recorded_beside_its_charge(room, student, owner, broken):
    room.model.broken = broken
    with acting_as(student):
        try:
            await room.generate(request())
        except ModelUnavailable:
            assert broken
    [(used, owed, charged)] = uses(owner, student)
    assert used >= owed == charged > 0


@pytest.mark.parametrize(
    ("drafts", "ends"),
    [
        ((UNBACKED,), NoPassages),
        ((UNBACKED, BOILS), ModelUnavailable),
        ((BOILS, UNBACKED, UNBACKED), ModelUnavailable),
    ],
    ids=["nothing holds", "fails before a question", "fails after a question"],
)
async def test_what_was_used_for_nothing_is_counted_and_not_charged(room, student, owner, database, drafts, ends):
    room.model.drafts = drafts
    room.model.broken = {"quiz_midway"} if ends is ModelUnavailable else set()
    asked = request()
    with acting_as(student):
        with pytest.raises(ends):
            await room.generate(asked)
        told = await story_of(database, asked.request_id)
    [(used, owed, charged)] = uses(owner, student)
    assert used > owed == charged
    assert sum(call["prompt_tokens"] + call["completion_tokens"] for call in told.steps["model_calls"]) == used


async def test_a_quiz_that_has_its_questions_early_tells_what_it_used(room, student, owner, database):
    asked = request(question_count=1)
    with acting_as(student):
        await room.generate(asked)
        told = await story_of(database, asked.request_id)
    [call] = told.steps["model_calls"]
    [(used, owed, charged)] = uses(owner, student)
    assert used == owed == charged == call["prompt_tokens"] + call["completion_tokens"]
    assert call["counted_here"]


class Gate(asyncio.Event):
    """A gate that tells when somebody stands before it."""

    def __init__(self):
        super().__init__()
        self.reached = asyncio.Event()

    async def wait(self):
        self.reached.set()
        return await super().wait()


async def test_a_quiz_whose_process_ends_has_its_use_counted(room, student, owner):
    room.model.gate, room.model.drafts = Gate(), (UNBACKED, BOILS)
    with acting_as(student):
        stream = room.service.generate(request())
        await anext(stream)
        await room.model.gate.reached.wait()
        await stream.aclose()
        [making] = [task for task in asyncio.all_tasks() if task.get_name().startswith("quiz-")]
        making.cancel()
        await asyncio.wait([making])
    [(used, owed, charged)] = uses(owner, student)
    assert used > owed == charged == 0


async def test_the_same_request_gives_the_same_quiz_and_one_charge(room, student):
    asked = request()
    with acting_as(student):
        first, again, third = await asyncio.gather(*(room.generate(asked) for _ in range(3)))
    assert first == again == third
    assert room.model.asked["quiz"] == 1
    assert await room.balance(student) == TOKENS - first[-1].receipt.charged_tokens


async def test_a_request_id_with_another_payload_is_refused(room, student):
    asked = request()
    with acting_as(student):
        await room.generate(asked)
        with pytest.raises(RequestIdReused):
            await room.generate(replace(asked, question_count=1))


async def test_an_empty_wallet_is_refused_and_the_request_may_be_tried_again(room, make_user):
    poor = make_user(tokens=10)
    asked = request()
    with acting_as(poor):
        with pytest.raises(InsufficientBalance):
            await room.generate(asked)
        await room.top_up(poor, TOKENS)
        events = await room.generate(asked)
    assert isinstance(events[-1], Completed)


async def test_a_quiz_without_any_backed_question_costs_nothing(room, student):
    room.model.drafts = (UNBACKED,)
    with acting_as(student), pytest.raises(NoPassages):
        await room.generate(request())
    assert await room.balance(student) == TOKENS


async def test_without_any_model_the_pages_are_quizzed_free_of_charge_and_it_is_said(room, student):
    room.model.broken = {"quiz"}
    with acting_as(student):
        events = await room.generate(request())
    assert [event.question.stem for event in events if isinstance(event, Asked)] == [BOILS.stem, FREEZES.stem]
    assert [event.step for event in events if isinstance(event, StepDegraded)] == ["model"]
    assert (events[-1].receipt.charged_tokens, await room.balance(student)) == (0, TOKENS)


async def test_nothing_is_charged_when_nothing_can_be_drafted(room, student):
    room.model.broken = room.quoting.broken = {"quiz"}
    with acting_as(student), pytest.raises(ModelUnavailable):
        await room.generate(request())
    assert await room.balance(student) == TOKENS


async def test_a_model_that_fails_midway_is_paid_for_what_was_delivered_and_no_other_goes_on(room, student):
    room.model.broken = {"quiz_midway"}
    with acting_as(student), pytest.raises(ModelUnavailable):
        await room.generate(request())
    assert room.quoting.quizzes == []
    assert 0 < TOKENS - await room.balance(student) < 2_000


async def test_a_reader_who_leaves_neither_stops_nor_repeats_the_quiz(room, student):
    room.model.gate = asyncio.Event()
    asked = request()
    with acting_as(student):
        stream = room.service.generate(asked)
        seen = [await anext(stream) for _ in range(4)]
        await stream.aclose()
        room.model.gate.set()
        events = await room.generate(asked)
    assert [event for _, event in seen] == events[:4]
    assert room.model.asked["quiz"] == 1


async def test_unfinished_quizzes_are_limited(room, student):
    room.model.gate = asyncio.Event()
    with acting_as(student):
        streams = [room.service.generate(request()) for _ in range(3)]
        await anext(streams[0])
        await anext(streams[1])
        with pytest.raises(QuotaExceeded):
            await anext(streams[2])
        for stream in streams:
            await stream.aclose()


async def test_an_unknown_chunk_gives_no_quiz(room, student):
    with acting_as(student), pytest.raises(NoPassages):
        await room.generate(request(chunk_ids=("f" * 64,)))


async def test_a_quiz_whose_process_died_is_closed_for_its_readers(room, student, owner):
    room.model.gate = asyncio.Event()
    asked = request()
    with acting_as(student):
        stream = room.service.generate(asked)
        for _ in range(4):
            await anext(stream)
        owner.execute(
            "UPDATE quiz SET heartbeat_at = now() - interval '5 minutes' WHERE owner_id = %s", [student.user_id]
        )
        assert await room.maker.recover() == 1
        with pytest.raises(ModelUnavailable):
            async for _ in stream:
                pass


async def test_a_draining_server_takes_no_new_quiz(room, student):
    await room.maker.close()
    with acting_as(student), pytest.raises(ShuttingDown):
        await room.generate(request())
