"""Near-duplicates: SimHash to find candidates, exact Jaccard to confirm, figures to tell exercises apart.

Measured on Arabic and French paragraphs, pages and documents: different texts share at most 0.29 of their character
4-grams, edited copies at least 0.73. Exercises made from one template share more than 0.9 and differ in their figures
only, so nothing is a duplicate before its numbers and formulas agree.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from server.text.figures import same_figures as same_figures
from server.text.fold import canonical

SHINGLE_CHARACTERS: Final = 4
CERTAIN_DISTANCE: Final = 3
"""At most this many differing bits of two texts of `LONG_TEXT_WORDS` and more: near-duplicates, no second look."""

CANDIDATE_DISTANCE: Final = 12
"""At most this many differing bits: worth comparing shingle by shingle."""

LONG_TEXT_WORDS: Final = 400
DUPLICATE_JACCARD: Final = 0.6

Shingles = NDArray[np.uint64]
"""Hashes of the character 4-grams of a canonical text, sorted, each once."""

_HASHES_PER_BIT_BATCH: Final = 1 << 15


def _gram_hashes(canonical_text: str) -> NDArray[np.uint64]:
    """Hash every character 4-gram (a shorter text counts as one gram)."""
    codes = np.frombuffer(canonical_text.encode("utf-32-le", "replace"), dtype=np.uint32).astype(np.uint64)
    size = min(SHINGLE_CHARACTERS, len(codes))
    count = len(codes) - size + 1
    hashes = np.full(count, 0x9E3779B97F4A7C15, dtype=np.uint64)
    for place in range(size):
        hashes = (hashes ^ codes[place : place + count]) * np.uint64(0xBF58476D1CE4E5B9)
        hashes ^= hashes >> np.uint64(29)
    hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(hashes ^ (hashes >> np.uint64(31)))


def _distinct(hashes: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.intp]]:
    """Return hashes (at least one) sorted, each once, and where its run began; a few times as fast as np.unique."""
    ordered = np.sort(hashes)
    firsts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1])))
    return ordered[firsts], firsts


def shingles(text: str) -> Shingles:
    """Return the set of a text's character 4-grams, hashed."""
    folded = canonical(text)
    return _distinct(_gram_hashes(folded))[0] if folded else np.empty(0, dtype=np.uint64)


def simhash(text: str) -> int:
    """Return the 64-bit SimHash (Charikar 2002) of a text, unsigned; each 4-gram weighs as often as it occurs.

    A text without visible characters has hash 0.
    """
    folded = canonical(text)
    if not folded:
        return 0
    hashes, firsts = _distinct(_gram_hashes(folded))
    counts = np.diff(firsts, append=len(folded) - min(SHINGLE_CHARACTERS, len(folded)) + 1)
    votes = np.zeros(64)
    for start in range(0, len(hashes), _HASHES_PER_BIT_BATCH):
        batch = hashes[start : start + _HASHES_PER_BIT_BATCH].astype("<u8")
        bits = np.unpackbits(batch.view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
        weights = counts[start : start + _HASHES_PER_BIT_BATCH].astype(np.float64)
        votes += 2.0 * (weights @ bits) - weights.sum()
    return int.from_bytes(np.packbits(votes > 0, bitorder="little").tobytes(), "little")


def signed(simhash_value: int) -> int:
    """Return the same 64 bits as PostgreSQL's BIGINT holds them."""
    return simhash_value - (1 << 64) if simhash_value >= 1 << 63 else simhash_value


def unsigned(stored: int) -> int:
    """Undo `signed`."""
    return stored % (1 << 64)


def distance(first: int, second: int) -> int:
    """Count the bits in which two hashes differ."""
    return (unsigned(first) ^ unsigned(second)).bit_count()


def candidates(simhash_value: int, among: Sequence[int] | NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return the indexes of the hashes near enough for a second look, nearest first."""
    others = np.asarray(among, dtype=np.uint64)
    distances = np.bitwise_count(others ^ np.uint64(simhash_value))
    near = np.flatnonzero(distances <= CANDIDATE_DISTANCE)
    return near[np.argsort(distances[near], kind="stable")]


def jaccard(first: Shingles, second: Shingles) -> float:
    """Return the share of shingles two texts have in common, 0 to 1; 1 when both have none."""
    shared = len(np.intersect1d(first, second, assume_unique=True))
    union = len(first) + len(second) - shared
    return shared / union if union else 1.0


def is_duplicate(first: str, second: str) -> bool:
    """Say whether one text is a copy of the other up to typography, typos, headers and small cuts.

    Both stages: SimHash distance (enough alone for long texts), then Jaccard; and the figures must agree.
    """
    apart = distance(simhash(first), simhash(second))
    if apart > CANDIDATE_DISTANCE or not same_figures(first, second):
        return False
    long = min(len(first.split()), len(second.split())) >= LONG_TEXT_WORDS
    if long and apart <= CERTAIN_DISTANCE:
        return True
    return jaccard(shingles(first), shingles(second)) >= DUPLICATE_JACCARD
