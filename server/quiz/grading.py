"""Points for answers. Pure: the same answer to the same question always earns the same."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from uuid import UUID

from server.models.port import QuestionKind
from server.quiz.question import Key, Question
from server.text.fold import canonical

FULL_SCORE = 1.0

_ARTICLES = re.compile(r"^(?:l'|d'|(?:le|la|les|un|une|des|du|de|the|a|an)\s+|(?:ال)(?=\w{3}))")
_EDGES = re.compile(r"^[\s.,;:!?،؛؟\"'«»()]+|[\s.,;:!?،؛؟\"'«»()]+$")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a student gave for one question."""

    question_id: UUID
    chosen: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """How one question went; `score` is from 0 to FULL_SCORE."""

    question: Question
    answer: Answer
    correct: bool
    score: float


def grade(questions: Sequence[Question], answers: Sequence[Answer]) -> list[Result]:
    """Grade every question of a quiz; one that was not answered earns nothing. Of two answers the last counts."""
    given = {answer.question_id: answer for answer in answers}
    return [_graded(question, given.get(question.id, Answer(question.id))) for question in questions]


def _graded(question: Question, answer: Answer) -> Result:
    if question.key is None:
        raise ValueError("a question without its key cannot be graded")
    if question.kind in (QuestionKind.CLOZE, QuestionKind.SHORT_ANSWER):
        score = FULL_SCORE if any(same_text(answer.text, text) for text in question.key.accepted) else 0.0
    else:
        score = _choice_score(question.key, answer.chosen)
    return Result(question, answer, score == FULL_SCORE, score)


def _choice_score(key: Key, chosen: Sequence[int]) -> float:
    """Right choices less wrong ones, as a share of the right ones; ticking everything earns nothing."""
    right = len(set(chosen) & set(key.correct))
    wrong = len(set(chosen) - set(key.correct))
    return max(0.0, (right - wrong) / len(key.correct)) * FULL_SCORE


def same_text(given: str, accepted: str) -> bool:
    """Say whether two short answers mean the same: folded, without article, or equal as numbers (3,5 = ٣٫٥ = 3.50)."""
    left, right = _bare(given), _bare(accepted)
    if not left:
        return False
    numbers = _number(left), _number(right)
    if None not in numbers:
        return numbers[0] == numbers[1]
    return left == right


def _bare(text: str) -> str:
    folded = _EDGES.sub("", " ".join(canonical(text).split()))
    return _ARTICLES.sub("", folded).strip()


def _number(text: str) -> Decimal | None:
    try:
        value = Decimal(re.sub(r"\s", "", text).replace("٫", ".").replace(",", "."))
    except InvalidOperation:
        return None
    return value if value.is_finite() else None
