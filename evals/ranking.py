"""The retrieval pipeline over a pool in memory: the server's own embedder, terms, fusion and reranker.

Full text mirrors `search_chunks` in the database: BM25 over the same terms, with its four steps of term frequency.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from evals.corpora import Pool
from server.models.local.embedder import embed
from server.models.local.reranker import rerank
from server.retrieval.ranking import fuse, merge, pairs, reorder, shortlist
from server.retrieval.search import RERANKED
from server.text.analysis import terms
from server.vectors.port import Hit

CANDIDATES = 30
K1 = 1.2
B = 0.75
FREQUENCY_STEPS = ((5, 6.0), (3, 3.4), (2, 2.0), (1, 1.0))
"""From how many occurrences on a term counts as how many: the labels A-D of the stored tsvector."""


class FullText:
    """BM25 over paragraphs."""

    def __init__(self, paragraphs: Sequence[str]) -> None:
        documents = [Counter(terms(paragraph)) for paragraph in paragraphs]
        lengths = np.array([sum(counts.values()) for counts in documents], dtype=np.float64)
        self._norms = K1 * (1 - B + B * lengths / lengths.mean())
        self._postings: dict[str, list[tuple[int, float]]] = defaultdict(list)
        for index, counts in enumerate(documents):
            for term, count in counts.items():
                stepped = next(value for least, value in FREQUENCY_STEPS if count >= least)
                self._postings[term].append((index, stepped))

    def search(self, query: str, limit: int = CANDIDATES) -> list[Hit]:
        """Return the best paragraphs, ids are their indexes."""
        total = len(self._norms)
        scores = np.zeros(total)
        for term, times in Counter(terms(query)).items():
            postings = self._postings.get(term, ())
            idf = math.log(1 + (total - len(postings) + 0.5) / (len(postings) + 0.5))
            for index, count in postings:
                scores[index] += times * idf * count * (K1 + 1) / (count + self._norms[index])
        return _best(scores, limit, least=1e-9)


class Dense:
    """Exact cosine search over the local embedder's vectors."""

    def __init__(self, paragraphs: Sequence[str]) -> None:
        self._vectors = embed(paragraphs)

    def search(self, query: str, limit: int = CANDIDATES) -> list[Hit]:
        """Return the nearest paragraphs, ids are their indexes."""
        return _best(self._vectors @ embed([query])[0], limit, least=-2.0)


def _best(scores: NDArray[np.floating], limit: int, least: float) -> list[Hit]:
    order = np.argsort(-scores, kind="stable")[:limit]
    return [Hit(str(index), float(scores[index])) for index in order if scores[index] > least]


@dataclass(frozen=True)
class Pipeline:
    """Both searches over one pool."""

    paragraphs: list[str]

    @cached_property
    def text(self) -> FullText:
        """Full-text search."""
        return FullText(self.paragraphs)

    @cached_property
    def dense(self) -> Dense:
        """Vector search."""
        return Dense(self.paragraphs)

    def fused(self, query: str) -> list[int]:
        """Return the fused candidates, best first."""
        return [int(chunk_id) for chunk_id, _ in fuse(self.dense.search(query), self.text.search(query))]

    def ranked(self, query: str, others: Sequence[Sequence[Hit]] = ()) -> list[int]:
        """Return the candidates in the server's final order: those at the head of its shortlist are reranked.

        `others` are found with the same query in other languages.
        """
        near = self.dense.search(query)
        own = shortlist(fuse(near, self.text.search(query)), near, RERANKED)
        found = merge([own, *map(pairs, others)], CANDIDATES)
        head = [chunk_id for chunk_id, _ in found[:RERANKED]]
        scores = rerank(query, [self.paragraphs[int(chunk_id)] for chunk_id in head])
        return [int(chunk_id) for chunk_id, _ in reorder(found, dict(zip(head, scores, strict=True)))]


def indexes(hits: Sequence[Hit]) -> list[int]:
    """Return the paragraph indexes of hits."""
    return [int(hit.chunk_id) for hit in hits]


def fused_order(questions: Pool) -> list[list[int]]:
    """Return each question's fused candidates."""
    pipeline = Pipeline(questions.paragraphs)
    return [pipeline.fused(asked) for asked in questions.questions]
