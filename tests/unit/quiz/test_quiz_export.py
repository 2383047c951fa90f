"""Quizzes as files."""

import json
from datetime import UTC, datetime
from uuid import uuid4
from xml.etree import ElementTree

from server.models.port import QuestionKind
from server.quiz.export import Format, export
from server.quiz.question import Difficulty, Evidence, Key, Question, Quiz
from server.text.language import Language

EVIDENCE = Evidence("0" * 64, uuid4(), "Cours", 1, "f(x) = {2}", 0, 10)


def quiz_of(*questions):
    return Quiz(
        uuid4(),
        uuid4(),
        "Suites // et {limites}",
        Language.FRENCH,
        Difficulty.EASY,
        "math",
        False,
        datetime(2027, 1, 1, tzinfo=UTC),
        questions,
    )


def asked(number, kind, options=(), correct=(), accepted=()):
    stem = f"Que vaut {{f}} : a=b ~ c # {number} ?"
    return Question(uuid4(), number, kind, stem, options, "t", Key(correct, accepted, "Parce que \u0001.", EVIDENCE))


QUIZ = quiz_of(
    asked(1, QuestionKind.SINGLE_CHOICE, ("=2", "~3"), (0,)),
    asked(2, QuestionKind.MULTIPLE_CHOICE, ("a", "b", "c"), (0, 1)),
    asked(3, QuestionKind.TRUE_FALSE, ("Vrai", "Faux"), (1,)),
    asked(4, QuestionKind.SHORT_ANSWER, accepted=("deux", "2")),
)


def test_gift_escapes_its_own_signs():
    text = export(QUIZ, Format.GIFT).content.decode()
    assert r"Que vaut \{f\} \: a\=b \~ c \# 1 ?" in text
    assert "\t=\\=2\n\t~\\~3" in text


def test_gift_marks_what_is_right():
    text = export(QUIZ, Format.GIFT).content.decode()
    assert "\t~%50.00000%a\n\t~%50.00000%b\n\t~%-100.00000%c" in text
    assert "\tFALSE" in text
    assert "\t=deux\n\t=2" in text


def test_moodle_xml_parses_and_its_right_fractions_add_up():
    root = ElementTree.fromstring(export(QUIZ, Format.MOODLE_XML).content)
    sums = [
        sum(
            float(answer.get("fraction", 0))
            for answer in question.iter("answer")
            if float(answer.get("fraction", 0)) > 0
        )
        for question in root.iter("question")
    ]
    assert [question.get("type") for question in root] == ["multichoice", "multichoice", "truefalse", "shortanswer"]
    assert sums[:3] == [100.0, 100.0, 100.0]


def test_json_holds_keys_and_evidence():
    questions = json.loads(export(QUIZ, Format.JSON).content)["questions"]
    assert (questions[0]["correct"], questions[0]["evidence"]["quote"]) == ([0], "f(x) = {2}")
