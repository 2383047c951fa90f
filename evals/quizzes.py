"""The rubric of a quiz, on the local writer's: keys backed, on the topic, in its language, one right answer, no twins.

A topic is a question of the development data; its sources are the passages that a search gives it, as for a real quiz.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from evals.answers import sources_of
from evals.corpora import Pool, pool
from evals.ranking import Pipeline
from evals.report import Better, Row
from server.models.local.quizwriter import write
from server.models.port import DraftQuestion, QuestionKind, QuizTask, Source
from server.quiz.validation import CHOICE, Backed, signature, validate
from server.text.detection import detect
from server.text.fold import canonical
from server.text.language import Language

TOPICS = 60
WANTED = 5
DRAFTS = 2 * WANTED
"""As many drafts for each question wanted as a real quiz asks for."""
MAX_TOKENS = 4_000


@dataclass
class _Marks:
    """Right and wrong by criterion."""

    given: dict[str, list[bool]] = field(default_factory=dict)

    def mark(self, criterion: str, right: bool) -> None:
        self.given.setdefault(criterion, []).append(right)

    def rows(self, name: str, limits: dict[str, float]) -> Iterator[Row]:
        for criterion, marks in self.given.items():
            yield Row(f"{name}: {criterion}", sum(marks) / len(marks), limits.get(criterion), note=f"of {len(marks)}")


LIMITS = {
    "drafts whose key is backed by their quote": 0.98,
    "quizzes with as many questions as wanted": 0.95,
    "wrong options that do not stand in the quote": 0.98,
    "questions in the language of the quiz": 0.95,
    "quizzes with a question from the answering passage": 0.7,
}


def _rows(questions: Pool, language: Language) -> Iterator[Row]:
    pipeline, marks, twins = Pipeline(questions.paragraphs), _Marks(), 0
    for place in range(0, len(questions.questions), max(1, len(questions.questions) // TOPICS)):
        topic, gold = questions.questions[place], questions.paragraphs[questions.gold[place]]
        sources = sources_of(pipeline, topic)
        task = QuizTask(topic, sources, language, DRAFTS, tuple(QuestionKind), "medium", MAX_TOKENS, seed=place)
        asked: dict[str, DraftQuestion] = {}
        for draft in write(task):
            backed = isinstance(validate(draft, sources[draft.source_number - 1].text, asked), Backed)
            marks.mark("drafts whose key is backed by their quote", backed)
            if backed and len(asked) < WANTED:
                asked[signature(draft)] = draft
        marks.mark("quizzes with as many questions as wanted", len(asked) == WANTED)
        twins += len(asked) - len({canonical(draft.stem) for draft in asked.values()})
        for draft in asked.values():
            _judge(draft, language, marks)
        if any(source.text == gold for source in sources) and asked:
            from_gold = [_text(sources, draft) == gold for draft in asked.values()]
            marks.mark("quizzes with a question from the answering passage", any(from_gold))
            marks.mark("first questions from that passage", from_gold[0])
    yield from marks.rows(questions.name, LIMITS)
    yield Row(f"{questions.name}: questions with the stem of another one", twins, 0, Better.LOWER)


def _judge(draft: DraftQuestion, language: Language, marks: _Marks) -> None:
    stem = detect(draft.stem).language
    marks.mark("questions in the language of the quiz", stem is language)
    if draft.kind in CHOICE and draft.kind is not QuestionKind.TRUE_FALSE:
        wrong = [option for place, option in enumerate(draft.options) if place not in draft.correct]
        for option in wrong:
            held = f" {canonical(option)} " in f" {canonical(draft.quote)} "
            marks.mark("wrong options that do not stand in the quote", not held)


def _text(sources: tuple[Source, ...], draft: DraftQuestion) -> str:
    return sources[draft.source_number - 1].text


def report(data: Path) -> list[Row]:
    """Make a quiz about every so many-th question of each set."""
    sets = (("xquad_ar", Language.ARABIC), ("arcd_ar", Language.ARABIC), ("piaf_fr", Language.FRENCH))
    return [row for name, language in sets for row in _rows(pool(data, name), language)]
