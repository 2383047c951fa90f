"""Points for answers."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.models.port import QuestionKind
from server.quiz.attempt import Tally, progress
from server.quiz.grading import Answer, grade, same_text
from server.quiz.question import Evidence, Key, Question
from server.quiz.reviews import Recall, retrievability, review

EVIDENCE = Evidence("0" * 64, uuid4(), "Cours", 1, "…", 0, 1)
NOW = datetime(2027, 5, 1, tzinfo=UTC)


def question(kind, *, correct=(), accepted=(), options=("a", "b", "c", "d")):
    return Question(uuid4(), 1, kind, "?", options, "t", Key(tuple(correct), tuple(accepted), "", EVIDENCE))


def score(asked, **answer):
    return grade([asked], [Answer(asked.id, **answer)])[0].score


def test_the_right_option_earns_the_point():
    assert score(question(QuestionKind.SINGLE_CHOICE, correct=[2]), chosen=(2,)) == 1.0


def test_ticking_everything_earns_nothing():
    assert score(question(QuestionKind.MULTIPLE_CHOICE, correct=[0, 1]), chosen=(0, 1, 2, 3)) == 0.0


def test_half_of_the_right_options_earns_half():
    assert score(question(QuestionKind.MULTIPLE_CHOICE, correct=[0, 1]), chosen=(1,)) == 0.5


def test_an_unanswered_question_earns_nothing():
    assert grade([question(QuestionKind.SINGLE_CHOICE, correct=[0])], [])[0].score == 0.0


@given(st.sets(st.integers(0, 3), min_size=1, max_size=3), st.sets(st.integers(0, 9)))
def test_a_score_is_never_outside_of_nothing_and_full(correct, chosen):
    assert 0.0 <= score(question(QuestionKind.MULTIPLE_CHOICE, correct=sorted(correct)), chosen=tuple(chosen)) <= 1.0


@pytest.mark.parametrize(
    ("given_text", "accepted"),
    [
        ("Le dioxygène", "dioxygene"),
        ("  l'énergie cinétique. ", "énergie cinétique"),
        ("3,5", "3.50"),
        ("٣٫٥", "3,5"),
        ("-2", "-2,0"),
        ("الحِكْمَة", "الحكمه"),
        ("حكمة", "الحكمة"),
    ],
)
def test_two_spellings_of_one_answer_are_the_same(given_text, accepted):
    assert same_text(given_text, accepted)


@pytest.mark.parametrize(
    ("given_text", "accepted"), [("", ""), ("le", "la"), ("2", "-2"), ("NaN", "nan "), ("35", "3,5")]
)
def test_other_answers_are_not_the_same(given_text, accepted):
    assert same_text(given_text, accepted) is (given_text == "NaN")


def test_a_remembered_question_comes_back_later_than_a_forgotten_one():
    known, forgotten = review(None, Recall.EASY, NOW), review(None, Recall.AGAIN, NOW)
    assert known.due_at > forgotten.due_at


def test_a_memory_fades():
    memory = review(None, Recall.GOOD, NOW)
    assert retrievability(memory, NOW + timedelta(days=30)) < retrievability(memory, NOW + timedelta(days=1))


def test_a_topic_never_answered_right_is_the_weakest():
    memory = review(None, Recall.GOOD, NOW)
    topics = progress([Tally("p", "known", 3, 3, memory), Tally("p", "unknown", 3, 0, memory)], NOW)
    assert [(topic.topic, topic.mastery > 0) for topic in topics] == [("unknown", False), ("known", True)]
