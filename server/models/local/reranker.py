"""A reranker without a model: a weighted sum of the evidence in the words.

The weights come from `evals/train_reranker.py` (softmax over each question's 30 candidates, all three development
sets). Fitted on two sets they rank the third as well as when fitted on all: they describe language, not a set.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from server.models.local.evidence import FEATURES, evidence, passage, question

WEIGHTS: Final = {
    "bm25": 1.63,
    "pool_bm25": 0.59,
    "coverage": 2.16,
    "pool_coverage": 1.51,
    "share_of_terms": 0.89,
    "parts_of_words": 8.40,
    "within_10": 2.23,
    "within_20": 1.30,
    "neighbours": 1.76,
    "begins_late": -1.17,
    "length": -1.75,
    "cosine": 6.73,
    "names": 1.46,
    "number_wanted": 1.02,
}

_VECTOR: Final = np.array([WEIGHTS[name] for name in FEATURES])
_SCALE: Final = float(_VECTOR[_VECTOR > 0].sum())


def rerank(query: str, texts: Sequence[str]) -> list[float]:
    """Return a relevance score per text, about 0 (unrelated) to 1 (says every word of the question, in one place)."""
    if not texts:
        return []
    rows = evidence(question(query), [passage(text) for text in texts])
    return [float(score) for score in rows @ _VECTOR / _SCALE]
