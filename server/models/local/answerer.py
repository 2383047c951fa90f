"""Answers made of the sources' own sentences: the ones that say most of the question, quoted and cited.

Nothing is written that no source says. Where the passages cover only part of the question, or are in another language,
the answer says so.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from server.models.local.evidence import FEATURES, Question, evidence, passage, question, sentence
from server.models.local.phrases import Phrases, phrases
from server.models.local.reranker import WEIGHTS
from server.models.port import AnswerTask, Source
from server.text.analysis import terms
from server.text.detection import detect
from server.text.fold import canonical
from server.text.glossary import Rendering, render
from server.text.language import Language
from server.text.nearduplicate import jaccard, shingles
from server.text.sentences import sentences
from server.text.stopwords import STOP_WORDS
from server.text.tokens import count

QUOTES: Final = 4
QUOTES_OF_SMALL_PLAN: Final = 2
LONGEST_QUOTE_CHARACTERS: Final = 380
SHORTEST_SENTENCE_TERMS: Final = 3
WORTH_QUOTING: Final = 0.55
"""Share of the best sentence's score that a further sentence must reach."""

DIRECT_COVERAGE: Final = 0.3
"""Below this share of the question's weight a sentence is only the nearest one, not an answer."""

SAME_STATEMENT_JACCARD: Final = 0.6
SOURCE_BONUS: Final = 1.0
"""How much more a sentence of the best source counts than one of a source that says nothing of the question."""

DEFINITION_BONUS: Final = 0.2
MISSING_WEIGHT: Final = 0.6
MOST_MISSING_WORDS: Final = 3
LANGUAGE_SAMPLE_CHARACTERS: Final = 400

_SENTENCE_WEIGHTS: Final = np.array(
    [0.0 if name in ("length", "begins_late", "cosine") else WEIGHTS[name] for name in FEATURES]
)
_SCALE: Final = float(_SENTENCE_WEIGHTS.sum())
_COVERAGE: Final = FEATURES.index("coverage")
_FINAL_STOP: Final = re.compile(r"""(?:\s*[.!?؟۔…]+["'»”’)\]]*)+\Z""")
_ASKS_DEFINITION: Final = re.compile(r"qu'est|\bdefini|c'est quoi|que signifie|\bما (?:هو|هي|معني)|\bعرف|شنه[وي]|chn|chen")
_DEFINES: Final = re.compile(r"\b(?:est|sont|designe|consiste|s'appelle|on appelle|هو|هي|يسمي|تسمي|تعرف|يعرف|عباره)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a source that may be quoted, its worth, and the share of the question it covers."""

    text: str
    numbers: tuple[int, ...]
    language: Language
    score: float
    coverage: float


def answer(task: AnswerTask) -> Iterator[str]:
    """Yield the sentences of the answer, each with its citation, within `task.max_tokens`."""
    frames = phrases(task.language)
    chosen = _choose(task)
    if not chosen:
        yield frames.nothing
        return
    missing = _missing(task.question, task.sources)
    left = task.max_tokens
    for place, statement in enumerate(chosen):
        tail = missing if place == len(chosen) - 1 else ""
        lead = _lead(frames, task, statement) if place == 0 else frames.more
        text = ("" if place == 0 else "\n") + _fill(lead, statement, tail and frames.missing.format(words=tail))
        left -= count(text)
        if left < 0 and place:
            return
        yield text


def _lead(frames: Phrases, task: AnswerTask, best: Statement) -> str:
    """Return the first sentence's frame: plain, only the nearest passage, or passages in another language."""
    foreign = {task.language, best.language} not in ({Language.ARABIC, Language.HASSANIYA}, {best.language})
    if foreign and best.language is not Language.OTHER:
        pairs = rendering.pairs if (rendering := _bridge(task.question, best.language)) else ()
        terms_said = ", ".join(f"{pair.said} : {pair.means}" for pair in pairs[:3])
        language = frames.language_names[best.language]
        known = {"language": language, "terms": f" ({terms_said})" if terms_said else ""}
        return frames.lead_foreign.replace("{language}", known["language"]).replace("{terms}", known["terms"])
    return frames.lead if best.coverage >= DIRECT_COVERAGE else frames.lead_closest


def _fill(frame: str, statement: Statement, tail: str) -> str:
    quote = statement.text
    quoted = f"“{quote}”" if "«" in quote or "»" in quote else f"« {quote} »"
    numbers = "][".join(map(str, statement.numbers))
    return frame.replace("{quote}", quoted).replace("{number}", numbers).replace("{tail}", tail)


def _choose(task: AnswerTask) -> list[Statement]:
    """Return the best sentences, best first; one said by several sources cites them all."""
    found = sorted(_statements(task), key=lambda statement: -statement.score)
    limit = QUOTES_OF_SMALL_PLAN if task.small else QUOTES
    chosen: list[Statement] = []
    for statement in found:
        if chosen and statement.score < WORTH_QUOTING * chosen[0].score:
            break
        twin = _twin(statement, chosen)
        if twin is not None:
            numbers = tuple(dict.fromkeys((*chosen[twin].numbers, *statement.numbers)))
            chosen[twin] = replace(chosen[twin], numbers=numbers)
        elif len(chosen) < limit:
            chosen.append(statement)
    return chosen


def _twin(statement: Statement, chosen: Sequence[Statement]) -> int | None:
    grams = shingles(statement.text)
    for place, other in enumerate(chosen):
        if jaccard(grams, shingles(other.text)) >= SAME_STATEMENT_JACCARD:
            return place
    return None


def _bridge(asked: str, language: Language) -> Rendering | None:
    return render(asked, detect(asked).language, language)


def _statements(task: AnswerTask) -> Iterator[Statement]:
    """Yield every usable sentence; sources of one language are compared with the question carried into it."""
    by_language: dict[Language, list[Source]] = {}
    for source in task.sources:
        language = detect(source.text[:LANGUAGE_SAMPLE_CHARACTERS]).language
        by_language.setdefault(language, []).append(source)
    for language, sources in by_language.items():
        bridge = _bridge(task.question, language)
        asked = question(f"{task.question} {bridge.search}" if bridge else task.question)
        asks_definition = bool(_ASKS_DEFINITION.search(canonical(task.question)))
        yield from _scored(asked, language, sources, asks_definition=asks_definition)


def _scored(
    asked: Question, language: Language, sources: Sequence[Source], *, asks_definition: bool
) -> Iterator[Statement]:
    standing = evidence(asked, [passage(source.text) for source in sources]) @ _SENTENCE_WEIGHTS
    standing /= max(float(standing.max()), 1e-9)
    pieces = [
        (place, source.number, piece)
        for place, source in enumerate(sources)
        for piece in sentences(source.text)
        if not piece.endswith(("?", "؟"))
    ]
    analysed = [sentence(piece) for _, _, piece in pieces]
    for (place, number, piece), found, row in zip(pieces, analysed, evidence(asked, analysed), strict=True):
        if found.length < SHORTEST_SENTENCE_TERMS:
            continue
        score = float(row @ _SENTENCE_WEIGHTS) / _SCALE
        if asks_definition and _begins_definition(piece, asked):
            score += DEFINITION_BONUS
        score *= 1 + SOURCE_BONUS * float(standing[place])
        yield Statement(_quotable(piece), (number,), language, score, float(row[_COVERAGE]))


def _begins_definition(text: str, asked: Question) -> bool:
    head = " ".join(text.split()[:8])
    return bool(_DEFINES.search(canonical(head))) and any(stem in asked.weights for stem in terms(head)[:2])


def _quotable(text: str) -> str:
    """Return a sentence as it is quoted: on one line, without its final full stop, cut at a word when very long."""
    line = _FINAL_STOP.sub("", " ".join(text.split()))
    if len(line) <= LONGEST_QUOTE_CHARACTERS:
        return line
    return line[:LONGEST_QUOTE_CHARACTERS].rsplit(" ", 1)[0].rstrip(" ,;،؛:.…!?؟")


def _missing(asked: str, sources: Sequence[Source]) -> str:
    """Return the weighty words of the question that no source holds, as they were written, or nothing."""
    analysed = question(asked)
    language = detect(asked).language
    held: set[str] = set()
    for source in sources:
        held.update(terms(source.text))
    unsaid: list[str] = []
    for word in re.findall(r"[^\W_]+", asked):
        stems = [stem for stem in terms(word) if canonical(word) not in STOP_WORDS]
        if not stems or any(stem in held for stem in stems) or analysed.weights.get(stems[0], 0.0) < MISSING_WEIGHT:
            continue
        if not any(_means_held(word, language, target, held) for target in (Language.FRENCH, Language.ARABIC)):
            unsaid.append(word)
    content = len(analysed.weights)
    return ", ".join(unsaid[:MOST_MISSING_WORDS]) if unsaid and len(unsaid) < content else ""


def _means_held(word: str, source: Language, target: Language, held: set[str]) -> bool:
    rendering = render(word, source, target)
    return rendering is not None and any(stem in held for stem in terms(rendering.search))
