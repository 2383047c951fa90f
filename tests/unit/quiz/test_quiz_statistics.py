"""What a teacher learns of a group: how hard each question was, whether it tells, and nothing of a few people."""

from uuid import uuid4

import pytest

from server.models.port import QuestionKind
from server.quiz.grading import Answer
from server.quiz.question import Evidence, Key, Question
from server.quiz.statistics import FEWEST_PEOPLE, QuizStatistics, statistics_of


def question(number: int, correct: int = 0) -> Question:
    evidence = Evidence("0" * 64, uuid4(), "Livre", 1, "quote", 0, 5)
    key = Key((correct,), (), "", evidence)
    return Question(uuid4(), number, QuestionKind.SINGLE_CHOICE, "?", ("a", "b", "c"), "", key)


FIRST, SECOND, THIRD = QUESTIONS = (question(1), question(2), question(3))


def answers(*chosen: int | None) -> list[Answer]:
    pairs = zip(QUESTIONS, chosen, strict=True)
    return [Answer(asked.id, (option,)) for asked, option in pairs if option is not None]


KNOWING, GUESSING = answers(0, 0, 1), answers(1, 2, 0)


def test_each_question_tells_how_hard_it_was_and_what_was_chosen() -> None:
    found = statistics_of(QUESTIONS, [KNOWING] * 3 + [GUESSING] + [answers(None, 0, 0)])
    assert found.people == 5
    assert found.mean_score == pytest.approx((3 * 2 + 1 + 2) / 15)
    first, second, third = found.questions
    assert (first.facility, second.facility, third.facility) == (0.6, 0.8, 0.4)
    assert [each.chosen for each in found.questions] == [(3, 1, 0), (4, 0, 1), (2, 3, 0)]
    assert [each.unanswered for each in found.questions] == [1, 0, 0]


def test_a_question_that_those_who_know_more_miss_stands_out() -> None:
    *_, third = statistics_of(QUESTIONS, [KNOWING] * 3 + [GUESSING] * 3).questions
    assert third.facility == 0.5
    assert third.discrimination == pytest.approx(-1.0)


def test_a_question_on_which_all_scored_alike_tells_nothing() -> None:
    first, *_ = statistics_of(QUESTIONS, [answers(0, 0, 1), answers(0, 1, 1)] * 3).questions
    assert first.discrimination is None


@pytest.mark.parametrize("people", range(FEWEST_PEOPLE))
def test_nothing_is_told_of_a_few_people(people: int) -> None:
    assert statistics_of(QUESTIONS, [KNOWING] * people) == QuizStatistics()
