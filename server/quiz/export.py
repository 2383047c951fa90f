"""A quiz as a file: Moodle GIFT, Moodle XML, or JSON."""

import json
import re
from dataclasses import dataclass
from enum import StrEnum
from xml.etree.ElementTree import Element, SubElement, tostring

from server.models.port import QuestionKind
from server.quiz.question import Key, Question, Quiz

_GIFT_SPECIAL = re.compile(r"([~=#{}:\\])")
_MOODLE_TYPES = {
    QuestionKind.SINGLE_CHOICE: "multichoice",
    QuestionKind.MULTIPLE_CHOICE: "multichoice",
    QuestionKind.TRUE_FALSE: "truefalse",
    QuestionKind.CLOZE: "shortanswer",
    QuestionKind.SHORT_ANSWER: "shortanswer",
}
_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Format(StrEnum):
    """File formats."""

    GIFT = "gift"
    MOODLE_XML = "moodle_xml"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class QuizFile:
    """A file to download."""

    filename: str
    content_type: str
    content: bytes


def export(quiz: Quiz, format: Format) -> QuizFile:
    """Write a quiz with its keys."""
    name = f"quiz-{quiz.id}"
    if format is Format.GIFT:
        return QuizFile(f"{name}.gift.txt", "text/plain; charset=utf-8", _gift(quiz).encode())
    if format is Format.MOODLE_XML:
        return QuizFile(f"{name}.xml", "application/xml", _moodle_xml(quiz))
    return QuizFile(f"{name}.json", "application/json", _json(quiz).encode())


def _keyed(quiz: Quiz) -> list[tuple[Question, Key]]:
    return [(question, question.key) for question in quiz.questions if question.key is not None]


def _gift(quiz: Quiz) -> str:
    blocks = [f"// {_line(quiz.title)}"]
    for question, key in _keyed(quiz):
        title = f"::{_escaped(f'{question.number}')}:: "
        blocks.append(f"{title}{_escaped(question.stem)} {{\n{_gift_answers(question, key)}\n}}")
    return "\n\n".join(blocks) + "\n"


def _gift_answers(question: Question, key: Key) -> str:
    feedback = f"\t####{_escaped(key.explanation)}" if key.explanation else ""
    if question.kind is QuestionKind.TRUE_FALSE:
        return ("\tTRUE" if key.correct == (0,) else "\tFALSE") + (f"\n{feedback}" if feedback else "")
    if question.kind is QuestionKind.MULTIPLE_CHOICE:
        right, wrong = 100 / len(key.correct), -100 / (len(question.options) - len(key.correct))
        lines = [
            f"\t~%{right if place in key.correct else wrong:.5f}%{_escaped(option)}"
            for place, option in enumerate(question.options)
        ]
    elif question.kind is QuestionKind.SINGLE_CHOICE:
        lines = [
            f"\t{'=' if place in key.correct else '~'}{_escaped(option)}"
            for place, option in enumerate(question.options)
        ]
    else:
        lines = [f"\t={_escaped(text)}" for text in key.accepted]
    return "\n".join([*lines, feedback] if feedback else lines)


def _escaped(text: str) -> str:
    return _GIFT_SPECIAL.sub(r"\\\1", _line(text))


def _line(text: str) -> str:
    return " ".join(text.split())


def _moodle_xml(quiz: Quiz) -> bytes:
    root = Element("quiz")
    for question, key in _keyed(quiz):
        element = SubElement(root, "question", type=_MOODLE_TYPES[question.kind])
        _text(SubElement(element, "name"), f"{question.number}")
        _text(SubElement(element, "questiontext", format="plain_text"), question.stem)
        _text(SubElement(element, "generalfeedback", format="plain_text"), key.explanation)
        if question.kind in (QuestionKind.SINGLE_CHOICE, QuestionKind.MULTIPLE_CHOICE):
            single = question.kind is QuestionKind.SINGLE_CHOICE
            SubElement(element, "single").text = "true" if single else "false"
        for text, fraction in _fractions(question, key):
            _text(SubElement(element, "answer", fraction=f"{fraction:g}", format="plain_text"), text)
    content: bytes = tostring(root, encoding="utf-8", xml_declaration=True)
    return content


def _fractions(question: Question, key: Key) -> list[tuple[str, float]]:
    """Return each answer with its share of the points in percent, as Moodle counts them."""
    if question.kind is QuestionKind.TRUE_FALSE:
        return [("true", 100.0 * (key.correct == (0,))), ("false", 100.0 * (key.correct == (1,)))]
    if question.kind in (QuestionKind.CLOZE, QuestionKind.SHORT_ANSWER):
        return [(text, 100.0) for text in key.accepted]
    right = 100.0 / len(key.correct)
    wrong = -100.0 / max(1, len(question.options) - len(key.correct))
    if question.kind is QuestionKind.SINGLE_CHOICE:
        wrong = 0.0
    return [(option, right if place in key.correct else wrong) for place, option in enumerate(question.options)]


def _text(parent: Element, text: str) -> None:
    SubElement(parent, "text").text = _NOT_IN_XML.sub("", text)


def _json(quiz: Quiz) -> str:
    questions = [
        {
            "number": question.number,
            "kind": question.kind.value,
            "stem": question.stem,
            "options": question.options,
            "correct": key.correct,
            "accepted": key.accepted,
            "explanation": key.explanation,
            "evidence": {
                "document": key.evidence.document_title,
                "page": key.evidence.page,
                "quote": key.evidence.quote,
            },
        }
        for question, key in _keyed(quiz)
    ]
    whole = {"title": quiz.title, "language": quiz.language.value, "subject": quiz.subject, "questions": questions}
    return json.dumps(whole, ensure_ascii=False, indent=2)
