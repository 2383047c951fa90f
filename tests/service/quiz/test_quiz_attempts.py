"""Attempts, reviews and mastery."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import pytest_asyncio

from server.caller import acting_as
from server.quiz.export import Format
from server.quiz.grading import Answer
from server.quiz.reviews import Recall
from server.refusal import Forbidden, IllegalState, Invalid, NotFound, RequestIdReused
from tests.service.quiz.conftest import request


@pytest_asyncio.fixture
async def student(make_user):
    return make_user(tokens=20_000)


@pytest_asyncio.fixture
async def quiz_id(room, student):
    with acting_as(student):
        return (await room.generate(request()))[0].quiz_id


def right(questions):
    return [Answer(question.id, chosen=(0,)) for question in questions]


async def test_a_submitted_attempt_is_graded_with_its_evidence(room, student, quiz_id):
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        graded = await room.service.submit_attempt(attempt.id, [Answer(questions[0].id, chosen=(0,))], uuid4())
    assert (graded.attempt.score, graded.attempt.max_score) == (1.0, 2.0)
    assert [result.correct for result in graded.results] == [True, False]
    assert all(result.question.key.evidence.quote for result in graded.results)


async def test_the_same_start_request_finds_the_same_attempt(room, student, quiz_id):
    request_id = uuid4()
    with acting_as(student):
        first, again = await asyncio.gather(*(room.service.start_attempt(quiz_id, request_id) for _ in range(2)))
    assert first[0].id == again[0].id


async def test_a_start_request_with_another_quiz_is_refused_before_the_quiz_is_looked_for(room, student, quiz_id):
    request_id = uuid4()
    with acting_as(student):
        await room.service.start_attempt(quiz_id, request_id)
        with pytest.raises(RequestIdReused):
            await room.service.start_attempt(uuid4(), request_id)


async def test_the_same_submission_twice_counts_once(room, student, quiz_id):
    request_id = uuid4()
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        first = await room.service.submit_attempt(attempt.id, right(questions), request_id)
        again = await room.service.submit_attempt(attempt.id, right(questions), request_id)
        progress = await room.service.progress("")
    assert first == again
    assert sum(topic.answered for topic in progress) == 2


async def test_a_submission_with_other_answers_under_the_same_request_is_refused(room, student, quiz_id):
    request_id = uuid4()
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        await room.service.submit_attempt(attempt.id, right(questions), request_id)
        with pytest.raises(RequestIdReused):
            await room.service.submit_attempt(attempt.id, [], request_id)


async def test_an_attempt_is_graded_once(room, student, quiz_id):
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        await room.service.submit_attempt(attempt.id, [], uuid4())
        with pytest.raises(IllegalState):
            await room.service.submit_attempt(attempt.id, right(questions), uuid4())


async def test_an_answer_to_a_strange_question_is_refused(room, student, quiz_id):
    with acting_as(student):
        attempt, _ = await room.service.start_attempt(quiz_id, uuid4())
        with pytest.raises(Invalid):
            await room.service.submit_attempt(attempt.id, [Answer(uuid4())], uuid4())


async def test_two_answers_to_one_question_are_refused_and_the_attempt_stays_open(room, student, quiz_id):
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        with pytest.raises(Invalid):
            await room.service.submit_attempt(attempt.id, right(questions) * 2, uuid4())
        graded = await room.service.submit_attempt(attempt.id, right(questions), uuid4())
    assert graded.attempt.score == graded.attempt.max_score


async def test_a_wrong_answer_comes_back_for_review_and_a_good_recall_moves_it_away(room, student, quiz_id):
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        await room.service.submit_attempt(attempt.id, [], uuid4())
        reviewed = await room.service.review_question(questions[0].id, Recall.EASY, uuid4())
        due = await room.service.due_reviews(size=0, page_token="")
    assert reviewed.memory.due_at > datetime.now(UTC) + timedelta(hours=12)
    assert questions[0].id not in [item.question.id for item in due.items]


async def test_other_people_find_neither_quiz_nor_attempt(room, student, quiz_id, make_user):
    with acting_as(student):
        attempt, _ = await room.service.start_attempt(quiz_id, uuid4())
    with acting_as(make_user()):
        for call in (
            room.service.quiz(quiz_id),
            room.service.start_attempt(quiz_id, uuid4()),
            room.service.submit_attempt(attempt.id, [], uuid4()),
            room.service.delete(quiz_id),
        ):
            with pytest.raises(NotFound):
                await call


async def test_a_published_quiz_is_open_to_everybody_without_its_keys(room, make_user):
    teacher, student = make_user(role="teacher", tokens=20_000), make_user()
    with acting_as(teacher):
        quiz_id = (await room.generate(request()))[0].quiz_id
        await room.service.publish(quiz_id, published=True)
    with acting_as(student):
        quiz = await room.service.quiz(quiz_id)
        listed = await room.service.quizzes("", mine=False, size=0, page_token="")
        with pytest.raises(Forbidden):
            await room.service.export(quiz_id, Format.JSON)
        with pytest.raises(NotFound):
            await room.service.publish(quiz_id, published=False)
    assert quiz_id in [item.id for item in listed.items]
    assert all(question.key is None for question in quiz.questions)


async def test_pages_of_quizzes_hold_each_once(room, student):
    with acting_as(student):
        made = {(await room.generate(request()))[0].quiz_id for _ in range(3)}
        seen, token = [], ""
        while True:
            page = await room.service.quizzes("", mine=True, size=1, page_token=token)
            seen += [quiz.id for quiz in page.items]
            token = page.next_page_token
            if not token:
                break
    assert sorted(seen) == sorted(made)


async def test_a_deleted_quiz_is_gone_and_its_grades_stay(room, student, quiz_id):
    with acting_as(student):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        await room.service.submit_attempt(attempt.id, right(questions), uuid4())
        await room.service.delete(quiz_id)
        with pytest.raises(NotFound):
            await room.service.quiz(quiz_id)
        attempts = await room.service.attempts(None, size=0, page_token="")
    assert [item.score for item in attempts.items] == [2.0]


@pytest_asyncio.fixture
async def taught(room, make_user):
    """A published quiz and the teacher who owns it."""
    teacher = make_user(role="teacher", tokens=20_000)
    with acting_as(teacher):
        quiz_id = (await room.generate(request()))[0].quiz_id
        await room.service.publish(quiz_id, published=True)
    return teacher, quiz_id


async def attempt_of(room, who, quiz_id, chosen):
    with acting_as(who):
        attempt, questions = await room.service.start_attempt(quiz_id, uuid4())
        given = [Answer(question.id, chosen=(chosen,)) for question in questions]
        await room.service.submit_attempt(attempt.id, given, uuid4())


async def test_a_teacher_sees_how_a_group_fared_by_first_attempts_alone(room, make_user, taught):
    teacher, quiz_id = taught
    people = [make_user() for _ in range(5)]
    for place, who in enumerate(people):
        await attempt_of(room, who, quiz_id, chosen=0 if place else 1)
    await attempt_of(room, people[0], quiz_id, chosen=0)
    await attempt_of(room, teacher, quiz_id, chosen=0)
    with acting_as(teacher):
        found = await room.service.statistics(quiz_id)
    assert (found.people, found.mean_score) == (5, 0.8)
    assert [each.chosen for each in found.questions] == [(4, 1, 0), (4, 1, 0)]


async def test_a_group_of_four_is_not_told_of(room, make_user, taught):
    teacher, quiz_id = taught
    for _ in range(4):
        await attempt_of(room, make_user(), quiz_id, chosen=0)
    with acting_as(teacher):
        assert (await room.service.statistics(quiz_id)).people == 0


async def test_how_a_group_fared_is_for_its_teacher_and_operators(room, make_user, taught):
    _, quiz_id = taught
    for who in (make_user(), make_user(role="teacher")):
        with acting_as(who), pytest.raises(Forbidden):
            await room.service.statistics(quiz_id)
    with acting_as(make_user(role="admin")):
        assert (await room.service.statistics(quiz_id)).people == 0
        with pytest.raises(NotFound):
            await room.service.statistics(uuid4())
