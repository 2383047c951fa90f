"""The sentences of the sources with what speaks for each, as numbers.

A sentence is judged by its own words, by the words of the sentence before it (names that it replaces with "he"), and by
its source as a whole. The weights come from `evals/train_answerer.py`: softmax over a question's sentences, the right
ones being those that hold the known answer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.bridge import carried, language_of
from server.models.local.evidence import (
    FEATURES,
    Passage,
    Question,
    evidence,
    passage,
    sentence,
)
from server.models.local.reranker import WEIGHTS
from server.models.port import Source
from server.text.language import Language
from server.text.sentences import is_complete, sentences

SENTENCE_WEIGHTS: Final = {
    "pool_bm25": 0.91,
    "coverage": 2.14,
    "pool_coverage": 1.09,
    "share_of_terms": 2.03,
    "parts_of_words": 6.56,
    "within_10": 0.62,
    "length": 1.26,
    "number_wanted": 1.20,
    "source": 2.85,
    "sentence_before": 2.54,
    "rest_of_source": 0.84,
}
CONTEXT_FEATURES: Final = ("source", "sentence_before", "rest_of_source")
"""How the source ranks among the sources, and what share of the question stands around the sentence, not in it."""

STANDING_SOFTNESS: Final = 3.0
"""By how much the reranker's sum must fall for a source to stand at 1/e of the best one."""

SHORTEST_SENTENCE_TERMS: Final = 3

_OWN: Final = [FEATURES.index(name) for name in SENTENCE_WEIGHTS if name not in CONTEXT_FEATURES]
_COVERAGE: Final = FEATURES.index("coverage")
_VECTOR: Final = np.array(list(SENTENCE_WEIGHTS.values()))
_PASSAGE_VECTOR: Final = np.array([WEIGHTS[name] for name in FEATURES])


@dataclass(frozen=True, slots=True)
class Piece:
    """A sentence as it stands in a source: the source's number, the heading right above it, the one it stands under."""

    number: int
    text: str
    heading: str
    section: str


@dataclass(frozen=True, slots=True)
class Candidates:
    """The sentences of the sources of one language, with a row of `SENTENCE_WEIGHTS`' features each."""

    asked: Question
    language: Language
    pieces: list[Piece]
    rows: NDArray[np.float64]
    coverage: NDArray[np.float64]

    def scores(self) -> NDArray[np.float64]:
        """Return each sentence's worth, about 0 to 1."""
        return np.asarray(self.rows @ _VECTOR / _VECTOR.sum())


def candidates(asked: str, sources: Sequence[Source], earlier: str = "") -> Iterator[Candidates]:
    """Yield the sentences of the sources by language: each language is compared with the question carried into it."""
    by_language: dict[Language, list[Source]] = {}
    for source in sources:
        by_language.setdefault(language_of(source.text), []).append(source)
    passages = {language: [passage(source.text) for source in group] for language, group in by_language.items()}
    questions = {language: carried(asked, earlier, language, held) for language, held in passages.items()}
    scores = {language: evidence(questions[language], passages[language]) @ _PASSAGE_VECTOR for language in by_language}
    best = max((each.max() for each in scores.values()), default=0.0)
    for language, group in by_language.items():
        standing = np.exp((scores[language] - best) / STANDING_SOFTNESS)
        if found := _candidates(questions[language], language, group, passages[language], standing):
            yield found


def _candidates(
    asked: Question,
    language: Language,
    sources: Sequence[Source],
    passages: Sequence[Passage],
    standing: NDArray[np.float64],
) -> Candidates | None:
    pieces: list[Piece] = []
    analysed: list[Passage] = []
    context: list[tuple[float, float, float]] = []
    for source, whole, stands in zip(sources, passages, standing, strict=True):
        before: Passage | None = None
        heading = section = ""
        whole_sentences = sentences(source.text)
        complete = any(map(is_complete, whole_sentences))
        for piece in whole_sentences:
            if complete and not is_complete(piece):
                heading = section = piece
                continue
            # A heading names what the sentence below it speaks of, but is not quoted with it.
            found = sentence(f"{heading} {piece}")
            if len(found.stems) >= SHORTEST_SENTENCE_TERMS and not piece.endswith(("?", "؟")):
                pieces.append(Piece(source.number, piece, heading, section))
                analysed.append(found)
                context.append((float(stands), _elsewhere(asked, found, before), _elsewhere(asked, found, whole)))
            before, heading = found, ""
    if not pieces:
        return None
    rows = evidence(asked, analysed)
    return Candidates(asked, language, pieces, np.hstack([rows[:, _OWN], np.array(context)]), rows[:, _COVERAGE])


def _elsewhere(asked: Question, found: Passage, other: Passage | None) -> float:
    """Return the share of the question that another text holds and the sentence does not."""
    if other is None:
        return 0.0
    held = (stem for stem in asked.weights if stem in other and stem not in found)
    return sum(asked.weights[stem] for stem in held) / asked.total
