"""Quizzes made of the sources' own sentences: gaps, choices, true or false, short answers, each with its evidence.

The same task and seed give the same quiz. Every right answer stands in the quoted sentence; every wrong one comes from
the same texts, from the glossary of the same subject, or is the right number altered.
"""

import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from server.models.local.distractors import distractors
from server.models.local.evidence import evidence, question
from server.models.local.evidence import sentence as analysed
from server.models.local.keyterms import Key, KeyKind, keys
from server.models.local.phrases import Phrases, phrases
from server.models.port import DraftQuestion, QuestionKind, QuizTask, Source
from server.text.detection import detect
from server.text.fold import canonical
from server.text.language import Language
from server.text.sentences import is_complete, spans

GAP: Final = "_____"
DOTS: Final = "…"
OPTIONS: Final = 4
SHORTEST_CHARACTERS: Final = 40
LONGEST_CHARACTERS: Final = 260
FEWEST_WORDS: Final = 6
LANGUAGE_SAMPLE_CHARACTERS: Final = 400
SOURCE_RANK_WEIGHT: Final = 0.8
"""What the first source counts beside a sentence's own nearness to the topic, the second half of it, and so on: the
search has read whole passages. So 13 of 100 French topics more get a question from the passage that answers them."""

_LEANS_BACK: Final = re.compile(
    r"^(?:il|elle|ils|elles|cela|ceci|ce|c'|cet|cette|ces|celui|celle|ceux|mais|donc|or|et|car|ainsi|de plus|en effet"
    r"|وهو|وهي|هذا|هذه|ذلك|تلك|لكن|ولكن|كما|حيث|ثم|لذلك|وقد|بينما|اما)\b"
)
_INSTRUCTS: Final = re.compile(
    r"^(?:\W|\d)*(?:exercice|question|calcul|defin|expliqu|determin|montr|demontr|trouv|complet|justifi|enonc|trac"
    r"|تمرين|سوال|احسب|عرف|اشرح|اوجد|حدد|بين|اكمل|علل)"
)


@dataclass(frozen=True, slots=True)
class Fact:
    """A sentence that can be asked about, where it stands, and its keys, best first."""

    source: Source
    start: int
    text: str
    language: Language
    keys: tuple[Key, ...]
    relevance: float


_Maker = Callable[[Fact, random.Random], DraftQuestion | None]


def write(task: QuizTask) -> Iterator[DraftQuestion]:
    """Yield up to `question_count` drafts, the kinds in turn, no sentence asked twice in the same way."""
    rng = random.Random(f"{task.seed}|{task.topic}|{task.difficulty}")
    facts = _facts(task)
    others = [key for fact in facts for key in fact.keys]
    frames = phrases(task.language)
    makers: dict[QuestionKind, _Maker] = {
        QuestionKind.CLOZE: partial(_cloze, frames, task),
        QuestionKind.SHORT_ANSWER: partial(_short_answer, frames, task),
        QuestionKind.SINGLE_CHOICE: partial(_single_choice, frames, task, others),
        QuestionKind.TRUE_FALSE: partial(_true_false, frames, task, others),
        QuestionKind.MULTIPLE_CHOICE: partial(_multiple_choice, frames, task, others, facts),
    }
    kinds = task.kinds or tuple(makers)
    written = 0
    waiting: dict[QuestionKind, list[Fact]] = {kind: list(facts) for kind in kinds}
    used: dict[int, int] = {}
    while written < task.question_count and any(waiting.values()):
        for kind in kinds:
            draft = _next(waiting[kind], used, makers[kind], rng)
            if draft is not None and written < task.question_count:
                written += 1
                yield draft


def _next(waiting: list[Fact], used: dict[int, int], make: _Maker, rng: random.Random) -> DraftQuestion | None:
    """Make one question of the least used fact that allows it; facts that do not are dropped for this kind."""
    while waiting:
        waiting.sort(key=lambda fact: used.get(id(fact), 0))
        fact = waiting.pop(0)
        draft = make(fact, rng)
        if draft is not None:
            used[id(fact)] = used.get(id(fact), 0) + 1
            return draft
    return None


def _facts(task: QuizTask) -> list[Fact]:
    """Return the askable sentences, those nearest to the topic first; sources in the quiz's language go first."""
    found: list[Fact] = []
    for source in task.sources:
        language = detect(source.text[:LANGUAGE_SAMPLE_CHARACTERS]).language
        for start, end in spans(source.text):
            text = source.text[start:end]
            if is_complete(text) and _askable(text) and (found_keys := keys(text, language)):
                found.append(Fact(source, start, text, language, tuple(found_keys), 0.0))
    if found and task.topic.strip():
        rows = evidence(question(task.topic), [analysed(fact.text) for fact in found])
        relevance = rows[:, :3].sum(axis=1) + [SOURCE_RANK_WEIGHT / fact.source.number for fact in found]
        found = [
            Fact(fact.source, fact.start, fact.text, fact.language, fact.keys, float(value))
            for fact, value in zip(found, relevance, strict=True)
        ]
    kin = _kin(task.language)
    hard = task.difficulty == "hard"
    return sorted(found, key=lambda fact: (fact.language not in kin, -fact.relevance - _difficulty(fact, hard=hard)))


def _kin(language: Language) -> tuple[Language, ...]:
    return (Language.ARABIC, Language.HASSANIYA) if language is not Language.FRENCH else (Language.FRENCH,)


def _difficulty(fact: Fact, *, hard: bool) -> float:
    """Prefer long sentences with many keys for hard quizzes, short and plain ones otherwise."""
    size = min(1.0, len(fact.text) / LONGEST_CHARACTERS)
    return 0.3 * (size if hard else 1 - size) + 0.1 * fact.keys[0].worth


def _askable(text: str) -> bool:
    folded = canonical(text)
    return (
        SHORTEST_CHARACTERS <= len(text) <= LONGEST_CHARACTERS
        and len(text.split()) >= FEWEST_WORDS
        and not text.endswith(("?", "؟", ":"))
        and GAP not in text
        and text.count("(") == text.count(")")
        and not _LEANS_BACK.match(folded)
        and not _INSTRUCTS.match(folded)
    )


def _with(fact: Fact, key: Key, instead: str) -> str:
    return " ".join(f"{fact.text[: key.start]}{instead}{fact.text[key.end :]}".split())


def _draft(
    frames: Phrases,
    task: QuizTask,
    fact: Fact,
    kind: QuestionKind,
    stem: str,
    **parts: tuple[str, ...] | tuple[int, ...],
) -> DraftQuestion:
    options, correct, accepted = (parts.get(name, ()) for name in ("options", "correct", "accepted"))
    return DraftQuestion(
        kind,
        stem,
        tuple(map(str, options)),
        tuple(map(int, correct)),
        tuple(map(str, accepted)),
        frames.the_text_says.replace("{quote}", " ".join(fact.text.split())),
        fact.source.number,
        fact.text,
        task.topic or fact.source.title,
    )


def _cloze(frames: Phrases, task: QuizTask, fact: Fact, rng: random.Random) -> DraftQuestion:
    key = fact.keys[0]
    stem = frames.fill_gap.replace("{text}", _with(fact, key, GAP))
    return _draft(frames, task, fact, QuestionKind.CLOZE, stem, accepted=_accepted(key))


def _short_answer(frames: Phrases, task: QuizTask, fact: Fact, rng: random.Random) -> DraftQuestion:
    key = fact.keys[min(1, len(fact.keys) - 1)]
    frame = frames.give_number if key.kind is KeyKind.NUMBER else frames.name_it
    stem = frame.replace("{text}", _with(fact, key, DOTS))
    return _draft(frames, task, fact, QuestionKind.SHORT_ANSWER, stem, accepted=_accepted(key))


def _accepted(key: Key) -> tuple[str, ...]:
    """Return the key and the form without the Arabic article, which a student may well leave out."""
    bare = key.text.removeprefix("ال")
    return (key.text, bare) if bare != key.text and len(bare) > 2 else (key.text,)


def _single_choice(
    frames: Phrases, task: QuizTask, others: Sequence[Key], fact: Fact, rng: random.Random
) -> DraftQuestion | None:
    for key in fact.keys[:3]:
        wrong = distractors(key, fact.text, others, fact.language, OPTIONS - 1, rng)
        if len(wrong) == OPTIONS - 1:
            options = [key.text, *wrong]
            rng.shuffle(options)
            stem = frames.choose.replace("{text}", _with(fact, key, GAP))
            right = (options.index(key.text),)
            return _draft(frames, task, fact, QuestionKind.SINGLE_CHOICE, stem, options=tuple(options), correct=right)
    return None


def _true_false(
    frames: Phrases, task: QuizTask, others: Sequence[Key], fact: Fact, rng: random.Random
) -> DraftQuestion | None:
    false = _falsified(fact, others, task.sources, rng) if rng.random() < 0.5 else None
    stem = frames.is_true.replace("{text}", false or " ".join(fact.text.split()))
    right = (1,) if false else (0,)
    options = (frames.true, frames.false)
    return _draft(frames, task, fact, QuestionKind.TRUE_FALSE, stem, options=options, correct=right)


def _falsified(fact: Fact, others: Sequence[Key], sources: Sequence[Source], rng: random.Random) -> str | None:
    """Return the sentence with one key exchanged, unless some source says just that."""
    for key in fact.keys[:3]:
        for wrong in distractors(key, fact.text, others, fact.language, 1, rng):
            statement = _with(fact, key, wrong)
            if not any(canonical(statement) in canonical(source.text) for source in sources):
                return statement
    return None


def _multiple_choice(
    frames: Phrases, task: QuizTask, others: Sequence[Key], facts: Sequence[Fact], fact: Fact, rng: random.Random
) -> DraftQuestion | None:
    """Ask which of four statements are true: this sentence and its neighbour are, two falsified others are not."""
    following = next((each for each in facts if _follows(fact, each)), None)
    true = [fact] if following is None else [fact, following]
    right = [" ".join(each.text.split()) for each in true]
    options = {canonical(statement): statement for statement in right}
    for other in facts:
        statement = _falsified(other, others, task.sources, rng) if other not in true else None
        if statement is not None and len(options) < OPTIONS:
            options.setdefault(canonical(statement), statement)
    if len(options) < len(true) + 2:
        return None
    shuffled = list(options.values())
    rng.shuffle(shuffled)
    last = true[-1]
    quote = fact.source.text[fact.start : last.start + len(last.text)]
    whole = Fact(fact.source, fact.start, quote, fact.language, fact.keys, fact.relevance)
    correct = tuple(sorted(map(shuffled.index, right)))
    return _draft(
        frames, task, whole, QuestionKind.MULTIPLE_CHOICE, frames.choose_all, options=tuple(shuffled), correct=correct
    )


def _follows(fact: Fact, other: Fact) -> bool:
    """Say whether another fact is the next sentence of the same source."""
    gap = other.start - (fact.start + len(fact.text))
    same = other.source.number == fact.source.number
    return same and 0 <= gap <= 2 and not fact.source.text[fact.start + len(fact.text) : other.start].strip()
