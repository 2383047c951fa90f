"""Vectors that PostgreSQL knows of and the vector store has lost: written again, without asking a model."""

from collections.abc import Set

import structlog

from server.corpus.vectors import VectorRefs
from server.ingestion.pipeline.indexing import vector_row
from server.vectors.port import VectorStore

BATCH = 500

log = structlog.get_logger(__name__)


async def heal(refs: VectorRefs, vectors: VectorStore, index: str) -> int:
    """Write what `index` should hold and does not, as the system; returns how many vectors.

    One look at two counts when nothing is lost. Can be killed and run again.
    """
    expected, found = await refs.count(index), await vectors.count(index)
    if found >= expected:
        return 0
    log.warning("vectors_lost", index=index, expected=expected, found=found)
    written = await rewrite(refs, vectors, index, await vectors.ids(index))
    log.info("vectors_healed", index=index, written=written)
    return written


async def rewrite(refs: VectorRefs, vectors: VectorStore, index: str, held: Set[str] = frozenset()) -> int:
    """Write what `index` should hold, as the system, but for the chunks in `held`; returns how many vectors."""
    written, after = 0, ""
    while stored := await refs.stored(index, after, BATCH):
        after = stored[-1][0].id
        rows = [vector_row(chunk, vector) for chunk, vector in stored if chunk.id not in held]
        if rows:
            written += await vectors.upsert(index, rows)
    await vectors.flush(index)
    return written
