"""Vectors from words: stems and their letter n-grams, hashed with signs into 1024 or 1536 dimensions.

Deterministic and offline; French and Arabic questions find passages that share words, stems or parts of words with
them. It knows no synonyms beyond those, and nothing across languages but what the caller translates. On the
development sets it ranks far above English MiniLM (`make eval`, topic `retrieval`).
"""

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.models.local.frequency import weight
from server.models.port import Matrix, Purpose
from server.text.analysis import ANALYSIS_VERSION, terms
from server.text.memo import Memo

DIMENSIONS: Final = 1024
SIZES: Final = (DIMENSIONS, 1536)
PREFIX: Final = "local-hash-"
_TABLE_VERSION: Final = 1
"""Raise it with another table or hash: they make another vector space, as another analysis does."""
_VERSION: Final = _TABLE_VERSION + ANALYSIS_VERSION - 1

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


def _stem_vector(counted: tuple[str, int], dimensions: int) -> tuple[bytes, bytes]:
    """Return the sparse vector of a stem that occurs so often: places (uint16) and values (float64).

    Its length is the stem's own weight times how much so many occurrences count. As bytes, because those of some
    seventy stems are joined several times as fast as arrays.
    """
    stem, count = counted
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
            places.append(hashed % dimensions)
            values.append(value * scale if hashed >> 63 else -value * scale)
    weighted = np.array(values) * (1.0 if count == 1 else count * (1.0 + SATURATION) / (count + SATURATION))
    return np.array(places, dtype=np.uint16).tobytes(), weighted.tobytes()


@cache
def _stem_vectors(dimensions: int) -> Memo[tuple[str, int], tuple[bytes, bytes]]:
    return Memo(partial(_stem_vector, dimensions=dimensions), _CACHED_STEMS)


def embed_stems(stems: Mapping[str, int], dimensions: int = DIMENSIONS) -> NDArray[np.float32]:
    """Return the unit vector, shape (dimensions,), of a text's stems with their counts; without any, the first axis."""
    if not stems:
        first_axis = np.zeros(dimensions, dtype=np.float32)
        first_axis[0] = 1.0
        return first_axis
    places, values = zip(*map(_stem_vectors(dimensions).__getitem__, stems.items()), strict=True)
    places_of_all = np.frombuffer(b"".join(places), dtype=np.uint16)
    vector = np.bincount(places_of_all, np.frombuffer(b"".join(values)), minlength=dimensions)
    return (vector / math.sqrt(vector @ vector)).astype(np.float32)


def embed(texts: Sequence[str], dimensions: int = DIMENSIONS) -> Matrix:
    """Return one unit vector per text, shape (texts, dimensions)."""
    matrix = np.zeros((len(texts), dimensions), dtype=np.float32)
    for row, text in enumerate(texts):
        matrix[row] = embed_stems(Counter(terms(text)), dimensions)
    return matrix


FEW_TEXTS: Final = 4
"""So many texts take less time than handing them to a thread; more would hold up the event loop."""


class LocalEmbedder:
    """The embedded default of the Embedder port; `dimensions` is one of `SIZES`."""

    def __init__(self, dimensions: int = DIMENSIONS) -> None:
        self._dimensions = dimensions

    @property
    def name(self) -> str:
        """Name and version of the vector space."""
        return f"{PREFIX}{self._dimensions}-v{_VERSION}"

    @property
    def dimensions(self) -> int:
        """Length of each vector."""
        return self._dimensions

    async def embed(self, texts: Sequence[str], purpose: Purpose) -> Matrix:
        """Return one unit vector per text; questions and passages are treated alike."""
        del purpose
        if len(texts) <= FEW_TEXTS:
            return embed(texts, self._dimensions)
        return await asyncio.to_thread(embed, texts, self._dimensions)
