"""Orders of candidates: two searches fused, variants of a query merged, the fused order refined by a reranker."""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from statistics import fmean, pstdev
from typing import Protocol

FULL_TEXT_WEIGHT = 0.6
DENSE_WEIGHT = 0.4
"""Shares of the two searches in the fused score, measured on XQuAD-ar, ARCD and PIAF (see `evals`): rank fusion is
worse than full text alone there, since a hashed embedder sees the same words again."""

Ranked = list[tuple[str, float]]
"""Chunk ids with scores, best first."""


class Scored(Protocol):
    """A hit of either search."""

    @property
    def chunk_id(self) -> str:
        """The chunk."""

    @property
    def score(self) -> float:
        """Higher is better, comparable within one search only."""


def fuse(dense: Sequence[Scored], full_text: Sequence[Scored]) -> Ranked:
    """Return both lists as one, by the weighted sum of standard scores; a chunk that a list misses gets its least."""
    if not dense or not full_text:
        return [(hit.chunk_id, hit.score) for hit in dense or full_text]
    dense_scores, text_scores = _standard(dense), _standard(full_text)
    dense_least, text_least = min(dense_scores.values()), min(text_scores.values())
    fused = {
        chunk_id: DENSE_WEIGHT * dense_scores.get(chunk_id, dense_least)
        + FULL_TEXT_WEIGHT * text_scores.get(chunk_id, text_least)
        for chunk_id in dense_scores | text_scores
    }
    return _best_first(fused)


def merge(variants: Sequence[Ranked]) -> Ranked:
    """Return the candidates of all variants of a query, each by its best place in any of them, the first variant first.

    Scores of different variants do not compare, so places decide: the best of each, then the second of each.
    """
    if len(variants) == 1:
        return variants[0]
    places: dict[str, tuple[float, int, float]] = {}
    for number, ranked in enumerate(variants):
        for place, (chunk_id, score) in enumerate(ranked):
            places[chunk_id] = min(places.get(chunk_id, (inf, 0, 0.0)), (place, number, score))
    ordered = sorted(places, key=lambda chunk_id: places[chunk_id][:2])
    return [(chunk_id, 1.0 / (1 + place)) for place, chunk_id in enumerate(ordered)]


def reorder(fused: Ranked, scores: Mapping[str, float]) -> Ranked:
    """Return the candidates by the reranker's scores, equal ones in their fused order; unscored ones go last."""
    known = {chunk_id: scores[chunk_id] for chunk_id, _ in fused if chunk_id in scores}
    unknown = [(chunk_id, 0.0) for chunk_id, _ in fused if chunk_id not in scores]
    return _best_first(known) + unknown


def _standard(hits: Sequence[Scored]) -> dict[str, float]:
    scores = [hit.score for hit in hits]
    mean, spread = fmean(scores), pstdev(scores) or 1.0
    return {hit.chunk_id: (hit.score - mean) / spread for hit in hits}


def _best_first(scores: Mapping[str, float]) -> Ranked:
    return sorted(scores.items(), key=lambda pair: -pair[1])


def pairs(hits: Iterable[Scored]) -> tuple[tuple[str, float], ...]:
    """Return hits as plain pairs."""
    return tuple((hit.chunk_id, hit.score) for hit in hits)
