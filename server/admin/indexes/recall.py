"""How alike two indexes answer: the share of a sample's hits in one that the other finds too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import structlog

from server.corpus.passage import CorpusFilter
from server.corpus.service import CorpusService
from server.corpus.spaces import Space
from server.models.port import ProviderFailure, Purpose
from server.refusal import ModelUnavailable, Refusal
from server.vectors.port import VectorFilter, VectorStore

QUERIES: Final = 40
HITS: Final = 10
QUERY_WORDS: Final = 12
"""Words of a chunk that stand for a question about it."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Recall:
    """`share` is None where nothing could be compared: an empty library, or a model before that does not answer."""

    share: float | None
    queries: int


async def sample_recall(
    corpus: CorpusService, vectors: VectorStore, before: Space, after: Space, namespace: str = ""
) -> Recall:
    """Ask both indexes what chunks picked at random are about. Raises ModelUnavailable for the index after."""
    chunks = await corpus.sample(CorpusFilter(namespace=namespace), QUERIES)
    queries = [" ".join(chunk.text.split()[:QUERY_WORDS]) for chunk in chunks]
    if not queries:
        return Recall(None, 0)
    try:
        found = await _hits(vectors, after, queries, namespace)
    except ProviderFailure as failure:
        name = after.embedder.name
        raise ModelUnavailable(f"The embedding model {name} does not answer.", model=name) from failure
    try:
        known = await _hits(vectors, before, queries, namespace)
    except (ProviderFailure, Refusal) as problem:
        log.warning("recall_not_measured", before=before.index, problem=str(problem))
        return Recall(None, 0)
    total = sum(map(len, known))
    again = sum(len(old & new) for old, new in zip(known, found, strict=True))
    return Recall(again / total if total else None, len(queries))


async def _hits(vectors: VectorStore, space: Space, queries: Sequence[str], namespace: str) -> list[set[str]]:
    where = VectorFilter(namespace=namespace, everything=True)
    made = await space.embedder.embed(queries, Purpose.QUERY)
    return [{hit.chunk_id for hit in await vectors.search(space.index, vector, HITS, where)} for vector in made]
