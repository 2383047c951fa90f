"""How a group fared with a quiz, question by question. Pure; of a group too small to hide in, nothing is told."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import StatisticsError, correlation, fmean

from server.quiz.grading import FULL_SCORE, Answer, Result, grade
from server.quiz.question import Question

FEWEST_PEOPLE = 5
"""Of a smaller group a teacher could tell who answered what."""


@dataclass(frozen=True, slots=True)
class QuestionStatistics:
    """How people fared with a question.

    `facility` is the mean score, 0 to 1; `discrimination` the correlation of its score with that of all other
    questions, None where all scored alike; `chosen` how many chose each option.
    """

    question: Question
    facility: float
    discrimination: float | None
    chosen: tuple[int, ...]
    unanswered: int


@dataclass(frozen=True, slots=True)
class QuizStatistics:
    """How people fared with a quiz; `mean_score` is a share of the points. Nobody and nothing for a small group."""

    people: int = 0
    mean_score: float = 0.0
    questions: tuple[QuestionStatistics, ...] = ()


def statistics_of(questions: Sequence[Question], given: Sequence[Sequence[Answer]]) -> QuizStatistics:
    """Return the statistics of a quiz from what each person answered."""
    if len(given) < FEWEST_PEOPLE or not questions:
        return QuizStatistics()
    graded = [grade(questions, answers) for answers in given]
    totals = [sum(result.score for result in results) for results in graded]
    return QuizStatistics(
        people=len(given),
        mean_score=fmean(totals) / (FULL_SCORE * len(questions)),
        questions=tuple(
            _of_question([results[place] for results in graded], totals) for place in range(len(questions))
        ),
    )


def _of_question(results: Sequence[Result], totals: Sequence[float]) -> QuestionStatistics:
    question = results[0].question
    scores = [result.score for result in results]
    chosen = Counter(option for result in results for option in set(result.answer.chosen))
    return QuestionStatistics(
        question=question,
        facility=fmean(scores) / FULL_SCORE,
        discrimination=_correlation(scores, [total - score for total, score in zip(totals, scores, strict=True)]),
        chosen=tuple(chosen[place] for place in range(len(question.options))),
        unanswered=sum(not result.answer.chosen and not result.answer.text.strip() for result in results),
    )


def _correlation(scores: Sequence[float], others: Sequence[float]) -> float | None:
    try:
        return correlation(scores, others)
    except StatisticsError:
        return None
