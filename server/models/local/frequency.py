"""How much a feature says: inverse document frequencies learned once and frozen, so that vectors never change meaning.

A corpus-learned table would silently move every stored vector as the corpus grows. How this one was made:
`data/README.md`.
"""

import hashlib
from functools import cache, lru_cache
from importlib.resources import as_file, files
from typing import Final

import numpy as np
from numpy.typing import NDArray

BUCKET_BITS: Final = 17
LEVELS: Final = 255
"""A bucket holds 0 for "rarer than seldom" (weight 1), else 255 times how far from that its weight is."""

_CACHED_WEIGHTS: Final = 262_144


def buckets(feature: str) -> tuple[int, int]:
    """Return the two buckets of a feature; a feature is as common as the rarer of the two says."""
    digest = int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest(), "little")
    return digest % (1 << BUCKET_BITS), (digest >> 32) % (1 << BUCKET_BITS)


@cache
def _table() -> NDArray[np.uint8]:
    with as_file(files("server.models.local") / "data" / "frequencies.npz") as path, np.load(path) as stored:
        return np.asarray(stored["commonness"], dtype=np.uint8)


@lru_cache(_CACHED_WEIGHTS)
def weight(feature: str) -> float:
    """Return the frozen idf of a stem or n-gram, scaled to 0..1: 1 for a rare or unknown one."""
    first, second = buckets(feature)
    table = _table()
    return 1.0 - min(int(table[first]), int(table[second])) / (LEVELS + 1)
