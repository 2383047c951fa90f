"""Vectors from words: stems and their letter n-grams, hashed with signs into 1024 dimensions.

Deterministic and offline; French and Arabic questions find passages that share words, stems or parts of words with
them. It knows no synonyms beyond those, and nothing across languages but what the caller translates. On the
development sets it ranks far above English MiniLM (`make eval`, topic `retrieval`).
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.frequency import weight
from server.models.port import Matrix, Purpose
from server.text.analysis import terms

DIMENSIONS: Final = 1024
NAME: Final = f"local-hash-{DIMENSIONS}-v1"
"""Another table, hash or analysis makes another vector space: raise the version with it."""

STEM_WEIGHT: Final = 2.0
SHORTEST_NGRAM: Final = 3
LONGEST_NGRAM: Final = 4
HASHES_PER_FEATURE: Final = 4
"""Places a feature is spread over: one unlucky collision then costs a quarter of it."""

SATURATION: Final = 1.5
"""BM25's k1: how fast the tenth occurrence of a word stops counting."""

DAMPING: Final = 0.8
"""Exponent of the frozen weights: they come from a few thousand texts and exaggerate."""

LEAST_WEIGHT: Final = 0.02
_CACHED_STEMS: Final = 65_536


def _importance(feature: str) -> float:
    return float(weight(feature) ** DAMPING) + LEAST_WEIGHT


@lru_cache(_CACHED_STEMS)
def _stem_vector(stem: str) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return one stem's sparse vector of length 1, times the stem's own weight: places and values."""
    padded = f"^{stem}$"
    sizes = range(SHORTEST_NGRAM, LONGEST_NGRAM + 1)
    ngrams = sorted({f"#{padded[at : at + size]}" for size in sizes for at in range(len(padded) - size + 1)})
    features = {stem: STEM_WEIGHT, **{ngram: _importance(ngram) for ngram in ngrams}}
    length = math.sqrt(sum(value * value for value in features.values()) * HASHES_PER_FEATURE)
    scale = _importance(stem) / length
    places: list[int] = []
    values: list[float] = []
    for feature, value in features.items():
        digest = hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8 * HASHES_PER_FEATURE).digest()
        for hashed in np.frombuffer(digest, dtype="<u8").tolist():
            places.append(hashed % DIMENSIONS)
            values.append(value * scale if hashed >> 63 else -value * scale)
    return np.array(places, dtype=np.intp), np.array(values, dtype=np.float32)


def embed(texts: Sequence[str]) -> Matrix:
    """Return one unit vector per text, shape (texts, 1024). A text without any word gets the first axis."""
    places: list[NDArray[np.intp]] = []
    values: list[NDArray[np.float32]] = []
    counts: list[float] = []
    rows: list[int] = []
    for row, text in enumerate(texts):
        for stem, count in Counter(terms(text)).items():
            stem_places, stem_values = _stem_vector(stem)
            places.append(stem_places)
            values.append(stem_values)
            counts.append(count * (1.0 + SATURATION) / (count + SATURATION))
            rows.append(row)
    matrix = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
    if places:
        sizes = [len(stem_places) for stem_places in places]
        flat = np.concatenate(places) + np.repeat(np.array(rows, dtype=np.intp) * DIMENSIONS, sizes)
        weighted = np.concatenate(values) * np.repeat(np.array(counts, dtype=np.float32), sizes)
        matrix += np.bincount(flat, weighted, minlength=matrix.size).reshape(matrix.shape).astype(np.float32)
    lengths = np.linalg.norm(matrix, axis=1)
    matrix[lengths == 0.0, 0] = 1.0
    lengths[lengths == 0.0] = 1.0
    return np.asarray(matrix / lengths[:, None], dtype=np.float32)


FEW_TEXTS: Final = 4
"""So many texts take less time than handing them to a thread; more would hold up the event loop."""


class LocalEmbedder:
    """The embedded default of the Embedder port."""

    @property
    def name(self) -> str:
        """Name and version of the vector space."""
        return NAME

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return DIMENSIONS

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Return one unit vector per text; questions and passages are treated alike."""
        del purpose
        if len(texts) <= FEW_TEXTS:
            return embed(texts)
        return await asyncio.to_thread(embed, texts)
