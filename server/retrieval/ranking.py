"""Orders of candidates: two searches fused, variants of a query merged, the fused order refined by a reranker."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

FULL_TEXT_WEIGHT = 0.72
DENSE_WEIGHT = 0.28
"""Shares in the fused score where the vector search may speak, measured on XQuAD-ar, ARCD and PIAF (`evals`)."""
RANK_CONSTANT = 60
"""k of reciprocal rank fusion (Cormack, Clarke, Büttcher 2009)."""
SHARE = 3
"""One part in so many of a shortlist is kept for what only the vector search found, and for each further variant."""

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


def fuse(dense: Sequence[Scored], full_text: Sequence[Scored], *, semantic: bool = False) -> Ranked:
    """Return both lists as one.

    A hashed embedder sees the same words again, so full text decides and is overruled only where the vector search is
    surer: where its best is further ahead of its second. This was never worse than the better search on any of the
    development sets; plain weighted sums and rank fusion were. A semantic embedder knows what full text cannot: there
    both count alike, by rank.
    """
    if not dense or not full_text:
        return pairs(dense or full_text)
    if semantic:
        return _by_rank(dense, full_text)
    dense_scores, text_scores = _relative(dense), _relative(full_text)
    weight = DENSE_WEIGHT if _lead(dense_scores) > _lead(text_scores) else 0.0
    least = min(dense_scores.values())
    fused = {
        chunk_id: (
            weight * dense_scores.get(chunk_id, least) + FULL_TEXT_WEIGHT * text_scores.get(chunk_id, 0.0),
            dense_scores.get(chunk_id, least),
        )
        for chunk_id in text_scores | dense_scores
    }
    ordered = sorted(fused, key=lambda chunk_id: fused[chunk_id], reverse=True)
    return [(chunk_id, fused[chunk_id][0]) for chunk_id in ordered]


def shortlist(fused: Ranked, dense: Iterable[Scored], size: int) -> Ranked:
    """Return the candidates with the vector search's best among the first `size`: a third of those is kept for them."""
    head = fused[: size - size // SHARE]
    kept = {chunk_id for chunk_id, _ in head}
    wanted = [hit.chunk_id for hit in dense if hit.chunk_id not in kept][: size // SHARE]
    moved = [pair for pair in fused[len(head) :] if pair[0] in wanted]
    return head + moved + [pair for pair in fused[len(head) :] if pair[0] not in wanted]


def merge(variants: Sequence[Ranked], size: int) -> Ranked:
    """Return the candidates of all variants of a query, at most `size`: the first variant's and a third of each other.

    Scores of different variants do not compare, so places decide: the best of each, then the second of each.
    """
    others = [variant[: size // SHARE] for variant in variants[1:] if variant]
    if not others:
        return variants[0][:size]
    taken = [variants[0][: max(size // SHARE, size - sum(map(len, others)))], *others]
    places: dict[str, tuple[int, int]] = {}
    for number, ranked in enumerate(taken):
        for place, (chunk_id, _) in enumerate(ranked):
            places[chunk_id] = min(places.get(chunk_id, (size, 0)), (place, number))
    ordered = sorted(places, key=lambda chunk_id: places[chunk_id])
    ordered += [chunk_id for chunk_id, _ in variants[0] if chunk_id not in places]
    return [(chunk_id, 1.0 / (1 + place)) for place, chunk_id in enumerate(ordered[:size])]


def reorder(found: Ranked, scores: Mapping[str, float]) -> Ranked:
    """Return the candidates by the reranker's scores, equal ones in their former order.

    Unscored ones follow as they are, with the least score given, so that scores never rise along the list.
    """
    scored = _best_first({chunk_id: scores[chunk_id] for chunk_id, _ in found if chunk_id in scores})
    least = scored[-1][1] if scored else 0.0
    return scored + [(chunk_id, least) for chunk_id, _ in found if chunk_id not in scores]


def _relative(hits: Sequence[Scored]) -> dict[str, float]:
    """Return scores as shares of the best one."""
    best = max(hit.score for hit in hits)
    return {hit.chunk_id: hit.score / best if best > 0 else 0.0 for hit in hits}


def _lead(scores: Mapping[str, float]) -> float:
    """Return how far the best of relative scores is ahead of the second."""
    return 1.0 - max(sorted(scores.values(), reverse=True)[1:], default=0.0)


def _by_rank(*lists: Sequence[Scored]) -> Ranked:
    fused: dict[str, float] = {}
    for hits in lists:
        for rank, hit in enumerate(hits, start=1):
            fused[hit.chunk_id] = fused.get(hit.chunk_id, 0.0) + 1.0 / (RANK_CONSTANT + rank)
    return _best_first(fused)


def _best_first(scores: Mapping[str, float]) -> Ranked:
    return sorted(scores.items(), key=lambda pair: -pair[1])


def pairs(hits: Iterable[Scored]) -> Ranked:
    """Return hits as plain pairs."""
    return [(hit.chunk_id, hit.score) for hit in hits]
