"""A reranker without a model: a weighted sum of the evidence in the words.

The weights come from `evals/train_reranker.py` (softmax over each question's 30 candidates, all three development
sets). Fitted on two sets they rank the third as well as when fitted on all: they describe language, not a set.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np

from server.models.local.evidence import FEATURES, evidence, passage, question

WEIGHTS: Final = {
    "bm25": 1.65,
    "pool_bm25": 0.51,
    "coverage": 2.20,
    "pool_coverage": 1.48,
    "share_of_terms": 0.93,
    "parts_of_words": 8.25,
    "within_10": 2.23,
    "within_20": 1.32,
    "neighbours": 1.74,
    "begins_late": -1.14,
    "length": -1.68,
    "cosine": 7.21,
    "names": 1.45,
    "number_wanted": 1.01,
}

_VECTOR: Final = np.array([WEIGHTS[name] for name in FEATURES])
_SCALE: Final = float(_VECTOR[_VECTOR > 0].sum())


def rerank(query: str, texts: Sequence[str]) -> list[float]:
    """Return a relevance score per text, about 0 (unrelated) to 1 (says every word of the question, in one place)."""
    if not texts:
        return []
    rows = evidence(question(query), [passage(text) for text in texts])
    return [float(score) for score in rows @ _VECTOR / _SCALE]
