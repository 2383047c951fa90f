"""Which sentences of the sources answer a question best.

A sentence is judged by its own words, by the words of the sentence before it (names that it replaces with "he"), and by
its source as a whole. The weights come from `evals/train_answerer.py`: softmax over a question's sentences, the right
ones being those that hold the known answer.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.evidence import FEATURES, Passage, Question, evidence, passage, question, sentence
from server.models.local.reranker import WEIGHTS
from server.models.port import Source
from server.text.analysis import terms
from server.text.detection import detect
from server.text.fold import canonical
from server.text.glossary import Rendering, render
from server.text.language import Language
from server.text.nearduplicate import jaccard, shingles
from server.text.sentences import is_complete, sentences

SENTENCE_WEIGHTS: Final = {
    "pool_bm25": 0.95,
    "coverage": 1.98,
    "pool_coverage": 1.25,
    "share_of_terms": 2.10,
    "parts_of_words": 6.51,
    "within_10": 0.54,
    "length": 1.41,
    "number_wanted": 1.20,
    "source": 2.90,
    "sentence_before": 2.58,
    "rest_of_source": 0.89,
}
CONTEXT_FEATURES: Final = ("source", "sentence_before", "rest_of_source")
"""How the source ranks among the sources, and what share of the question stands around the sentence, not in it."""

STANDING_SOFTNESS: Final = 3.0
"""By how much the reranker's sum must fall for a source to stand at 1/e of the best one."""

SHORTEST_SENTENCE_TERMS: Final = 3
WORTH_QUOTING: Final = 0.75
"""Share of the best sentence's score that a further sentence must reach."""

SAME_STATEMENT_JACCARD: Final = 0.6
DEFINITION_BONUS: Final = 0.1
LANGUAGE_SAMPLE_CHARACTERS: Final = 400

_OWN: Final = [FEATURES.index(name) for name in SENTENCE_WEIGHTS if name not in CONTEXT_FEATURES]
_COVERAGE: Final = FEATURES.index("coverage")
_VECTOR: Final = np.array(list(SENTENCE_WEIGHTS.values()))
_PASSAGE_VECTOR: Final = np.array([WEIGHTS[name] for name in FEATURES])
_ASKS_DEFINITION: Final = re.compile(
    r"qu'est|\bdefini|c'est quoi|que signifie|\bما (?:هو|هي|معني)|\bعرف|شنه[وي]|\bche?n[ho]"
)
_DEFINES: Final = re.compile(r"\b(?:est|sont|designe|consiste|s'appelle|on appelle|هو|هي|يسمي|تسمي|تعرف|يعرف|عباره)\b")


@dataclass(frozen=True, slots=True)
class Statement:
    """A sentence of a source: the sources that say it, its worth (about 0 to 1) and the question's share it covers."""

    text: str
    numbers: tuple[int, ...]
    language: Language
    score: float
    coverage: float


@dataclass(frozen=True, slots=True)
class Candidates:
    """The sentences of the sources of one language, with a row of `SENTENCE_WEIGHTS`' features each."""

    asked: Question
    language: Language
    pieces: list[tuple[int, str]]
    rows: NDArray[np.float64]
    coverage: NDArray[np.float64]


def choose(asked: str, sources: Sequence[Source], limit: int) -> list[Statement]:
    """Return the sentences worth quoting, best first; one said by several sources names them all."""
    statements = [statement for group in candidates(asked, sources) for statement in _judged(asked, group)]
    chosen: list[Statement] = []
    for statement in sorted(statements, key=lambda each: -each.score):
        if chosen and statement.score < WORTH_QUOTING * chosen[0].score:
            break
        twin = _twin(statement, chosen)
        if twin is not None:
            numbers = tuple(dict.fromkeys((*chosen[twin].numbers, *statement.numbers)))
            chosen[twin] = replace(chosen[twin], numbers=numbers)
        elif len(chosen) < limit:
            chosen.append(statement)
    return chosen


def bridge(asked: str, language: Language) -> Rendering | None:
    """Return the question carried into the language of a source by the glossary, if that is another language."""
    return render(asked, detect(asked).language, language)


def candidates(asked: str, sources: Sequence[Source]) -> Iterator[Candidates]:
    """Yield the sentences of the sources by language: each language is compared with the question carried into it."""
    by_language: dict[Language, list[Source]] = {}
    for source in sources:
        language = detect(source.text[:LANGUAGE_SAMPLE_CHARACTERS]).language
        by_language.setdefault(language, []).append(source)
    for language, group in by_language.items():
        carried = bridge(asked, language)
        analysed = question(f"{asked} {carried.search}" if carried else asked)
        if found := _candidates(analysed, language, group):
            yield found


def _candidates(asked: Question, language: Language, sources: Sequence[Source]) -> Candidates | None:
    passages = [passage(source.text) for source in sources]
    scores = evidence(asked, passages) @ _PASSAGE_VECTOR
    standing = np.exp((scores - scores.max()) / STANDING_SOFTNESS)
    pieces: list[tuple[int, str]] = []
    analysed: list[Passage] = []
    context: list[tuple[float, float, float]] = []
    for source, whole, stands in zip(sources, passages, standing, strict=True):
        before: Passage | None = None
        heading = ""
        whole_sentences = sentences(source.text)
        complete = any(map(is_complete, whole_sentences))
        for piece in whole_sentences:
            if complete and not is_complete(piece):
                heading = piece
                continue
            # A heading names what the sentence below it speaks of, but is not quoted with it.
            found, heading = sentence(f"{heading} {piece}"), ""
            if len(found.stems) >= SHORTEST_SENTENCE_TERMS and not piece.endswith(("?", "؟")):
                pieces.append((source.number, piece))
                analysed.append(found)
                context.append((float(stands), _elsewhere(asked, found, before), _elsewhere(asked, found, whole)))
            before = found
    if not pieces:
        return None
    rows = evidence(asked, analysed)
    return Candidates(asked, language, pieces, np.hstack([rows[:, _OWN], np.array(context)]), rows[:, _COVERAGE])


def _elsewhere(asked: Question, found: Passage, other: Passage | None) -> float:
    """Return the share of the question that another text holds and the sentence does not."""
    if other is None:
        return 0.0
    total = sum(asked.weights.values()) or 1.0
    held = (stem for stem in asked.weights if stem in other and stem not in found)
    return sum(asked.weights[stem] for stem in held) / total


def _judged(asked: str, group: Candidates) -> Iterator[Statement]:
    scores = group.rows @ _VECTOR / _VECTOR.sum()
    asks_definition = bool(_ASKS_DEFINITION.search(canonical(asked)))
    for (number, piece), score, coverage in zip(group.pieces, scores, group.coverage, strict=True):
        bonus = DEFINITION_BONUS if asks_definition and _begins_definition(piece, group.asked) else 0.0
        yield Statement(piece, (number,), group.language, float(score) + bonus, float(coverage))


def _begins_definition(text: str, asked: Question) -> bool:
    head = " ".join(text.split()[:8])
    return bool(_DEFINES.search(canonical(head))) and any(stem in asked.weights for stem in terms(head)[:2])


def _twin(statement: Statement, chosen: Sequence[Statement]) -> int | None:
    grams = shingles(statement.text)
    for place, other in enumerate(chosen):
        if jaccard(grams, shingles(other.text)) >= SAME_STATEMENT_JACCARD:
            return place
    return None
