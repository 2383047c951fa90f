"""A reranker without a model: a weighted sum of the evidence in the words.

The weights come from `evals/train_reranker.py` (softmax over each question's 30 candidates, all three development
sets). Fitted on two sets they rank the third as well as when fitted on all: they describe language, not a set.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from server.models.local.bridge import carried, language_of, written_in
from server.models.local.evidence import FEATURES, evidence, passage
from server.text.language import Language

WEIGHTS: Final = {
    "bm25": 2.84,
    "pool_bm25": 1.01,
    "coverage": 2.75,
    "pool_coverage": 1.48,
    "share_of_terms": 1.19,
    "parts_of_words": 9.24,
    "within_10": 2.81,
    "neighbours": 1.93,
    "begins_late": -1.18,
    "length": -2.93,
    "names": 1.49,
    "number_wanted": 0.99,
}

_VECTOR: Final = np.array([WEIGHTS[name] for name in FEATURES])
_SCALE: Final = float(_VECTOR[_VECTOR > 0].sum())


FOREIGN: Final = 0.8
"""What a passage in another language is worth beside one that fits as well: its words were only taken for the asked
ones. Measured on a library in French and Arabic (`evals`, crosslingual)."""


def rerank(query: str, texts: Sequence[str]) -> list[float]:
    """Return a relevance score per text, about 0 (unrelated) to 1 (says every word of the question, in one place).

    Texts of another language are compared with the question carried into it.
    """
    asked = language_of(query)
    groups: dict[Language, list[int]] = {}
    for place, text in enumerate(texts):
        groups.setdefault(written_in(text), []).append(place)
    scores = [0.0] * len(texts)
    for language, places in groups.items():
        passages = [passage(texts[place]) for place in places]
        rows = evidence(carried(query, "", language, passages), passages)
        worth = 1.0 if language is asked else FOREIGN
        for place, score in zip(places, rows @ _VECTOR / _SCALE, strict=True):
            scores[place] = worth * float(score)
    return scores
