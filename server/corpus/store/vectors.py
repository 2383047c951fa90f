"""SQL of kept vectors (by what they were made from) and of references (which index holds which chunk)."""

import json
from collections.abc import Mapping, Sequence
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.corpus.passage import Chunk
from server.corpus.store.chunks import COLUMNS, FROM, chunk_of

Vector = NDArray[np.float32]

KEPT = text(
    "SELECT content_hash, vector FROM embedding WHERE model = :model AND content_hash = ANY (CAST(:hashes AS text[]))"
)
# The vectors come as one value, which is sent as it is: an array of them would be spelled out in hexadecimal.
KEEP = text(
    "INSERT INTO embedding (model, content_hash, vector)"
    " SELECT :model, content_hash, substring(CAST(:vectors AS bytea) FROM (place::integer - 1) * :size + 1 FOR :size)"
    " FROM unnest(CAST(:hashes AS text[])) WITH ORDINALITY AS made (content_hash, place) ON CONFLICT DO NOTHING"
)
# A chunk is locked until its reference is there, and referred to only if it is still what the vector was filed under:
# whoever files it otherwise forgets the reference afterwards, or has done so before. Not a join: a planner that knows
# little of the table yet would go through all of it for each chunk.
REFER = text(
    "WITH kept AS (SELECT id, content_hash FROM chunk WHERE id = ANY (CAST(:ids AS text[]))"
    " AND CAST(:made AS jsonb) -> id"
    " = jsonb_build_array(content_hash, namespace, subject, grade, language, private_to) ORDER BY id FOR SHARE)"
    " INSERT INTO embedding_ref (index_name, chunk_id, model, dimensions, content_hash)"
    " SELECT :index_name, id, :model, :dimensions, content_hash FROM kept"
    " ON CONFLICT (index_name, chunk_id) DO UPDATE SET model = excluded.model, dimensions = excluded.dimensions,"
    " content_hash = excluded.content_hash, created_at = now() RETURNING chunk_id"
)
FORGET = text("DELETE FROM embedding_ref WHERE index_name = :index_name AND chunk_id = ANY (CAST(:ids AS text[]))")
FORGET_RANGE = text(
    "DELETE FROM embedding_ref WHERE index_name = :index_name AND chunk_id > :after AND chunk_id <= :until"
)
FORGET_NAMESPACE = text(
    "DELETE FROM embedding_ref AS ref USING chunk WHERE chunk.id = ref.chunk_id AND ref.index_name = :index_name"
    " AND chunk.namespace = :namespace"
)
EXISTING = text("SELECT id FROM chunk WHERE id = ANY (CAST(:ids AS text[]))")
LACKING = text(
    "SELECT count(*) FROM chunk JOIN embedding_ref AS other ON other.index_name = :other AND other.chunk_id = chunk.id"
    " AND other.content_hash = chunk.content_hash LEFT JOIN embedding_ref AS ref ON ref.index_name = :index_name"
    " AND ref.chunk_id = chunk.id WHERE ref.content_hash IS DISTINCT FROM chunk.content_hash"
    " AND (:namespace = '' OR chunk.namespace = :namespace)"
)
MISSING = text(
    f"SELECT {COLUMNS} {FROM}"
    " LEFT JOIN embedding_ref AS ref ON ref.index_name = :index_name AND ref.chunk_id = chunk.id"
    " WHERE (CAST(:document_id AS uuid) IS NULL OR chunk.document_id = :document_id)"
    " AND (:namespace = '' OR chunk.namespace = :namespace) AND chunk.id > :after"
    " AND ref.content_hash IS DISTINCT FROM chunk.content_hash ORDER BY chunk.id LIMIT :limit"
)
REFERRED = text(
    f"SELECT {COLUMNS}, embedding.vector {FROM}"
    " JOIN embedding_ref AS ref ON ref.chunk_id = chunk.id AND ref.index_name = :index_name"
    " JOIN embedding ON embedding.model = ref.model AND embedding.content_hash = ref.content_hash"
    " WHERE chunk.id > :after ORDER BY chunk.id LIMIT :limit"
)
REF_IDS = text("SELECT chunk_id FROM embedding_ref WHERE index_name = :index_name")
COUNT_REFS = text(
    "SELECT count(*) FROM embedding_ref AS ref JOIN chunk ON chunk.id = ref.chunk_id"
    " AND chunk.content_hash = ref.content_hash WHERE ref.index_name = :index_name"
    " AND (CAST(:document_id AS uuid) IS NULL OR chunk.document_id = :document_id)"
    " AND (:namespace = '' OR chunk.namespace = :namespace)"
)
DROP_REFS = text("DELETE FROM embedding_ref WHERE index_name = :index_name")
DROP_DOCUMENT_REFS = text(
    "DELETE FROM embedding_ref AS ref USING chunk WHERE chunk.id = ref.chunk_id AND ref.index_name = :index_name"
    " AND chunk.document_id = :document_id"
)
SWEEP = text(
    "DELETE FROM embedding WHERE created_at < now() - make_interval(days => :days) AND NOT EXISTS (SELECT FROM"
    " embedding_ref AS ref WHERE ref.model = embedding.model AND ref.content_hash = embedding.content_hash)"
)
STORED_TYPE = np.dtype("<f4")


class VectorRefStore:
    """Reads and writes the tables `embedding` and `embedding_ref`; for background work and operators only."""

    async def kept(self, connection: AsyncConnection, model: str, hashes: Sequence[str]) -> dict[str, Vector]:
        """Return the vectors that `model` made of texts before, by content hash."""
        rows = await connection.execute(KEPT, {"model": model, "hashes": list(hashes)})
        return {row.content_hash: _vector(row.vector) for row in rows}

    async def keep(self, connection: AsyncConnection, model: str, made: Mapping[str, Vector]) -> None:
        """Keep vectors by content hash; one that is kept already stays."""
        vectors = np.stack(list(made.values())).astype(STORED_TYPE, copy=False)
        size = vectors.shape[1] * STORED_TYPE.itemsize
        asked = {"model": model, "hashes": list(made), "vectors": vectors.tobytes(), "size": size}
        await connection.execute(KEEP, asked)

    async def refer(
        self, connection: AsyncConnection, index: str, model: str, dimensions: int, chunks: Sequence[Chunk]
    ) -> set[str]:
        """Note that an index holds the vectors of chunks; returns those that are still as they are given here."""
        made = {chunk.id: _filed(chunk) for chunk in chunks}
        asked = {
            "index_name": index,
            "model": model,
            "dimensions": dimensions,
            "ids": list(made),
            "made": json.dumps(made),
        }
        return set((await connection.execute(REFER, asked)).scalars())

    async def forget(self, connection: AsyncConnection, index: str, ids: Sequence[str]) -> None:
        """Note that an index does not hold these chunks' vectors."""
        await connection.execute(FORGET, {"index_name": index, "ids": list(ids)})

    async def forget_range(self, connection: AsyncConnection, index: str, after: str, until: str) -> None:
        """Note that an index may not hold the vectors of the chunks after one id, up to another."""
        await connection.execute(FORGET_RANGE, {"index_name": index, "after": after, "until": until})

    async def forget_namespace(self, connection: AsyncConnection, index: str, namespace: str) -> None:
        """Note that an index is to get the vectors of a namespace again."""
        await connection.execute(FORGET_NAMESPACE, {"index_name": index, "namespace": namespace})

    async def existing(self, connection: AsyncConnection, ids: Sequence[str]) -> set[str]:
        """Return which of these chunks exist."""
        return set((await connection.execute(EXISTING, {"ids": list(ids)})).scalars())

    async def lacking(self, connection: AsyncConnection, index: str, other: str, namespace: str) -> int:
        """Count the chunks whose present text another index holds and this one does not."""
        asked = {"index_name": index, "other": other, "namespace": namespace}
        return int((await connection.execute(LACKING, asked)).scalar_one())

    async def missing(
        self, connection: AsyncConnection, index: str, document_id: UUID | None, namespace: str, after: str, limit: int
    ) -> list[Chunk]:
        """Return chunks, in order of their ids, whose present text has no vector in an index."""
        asked = {
            "index_name": index,
            "document_id": document_id,
            "namespace": namespace,
            "after": after,
            "limit": limit,
        }
        return [chunk_of(row) for row in await connection.execute(MISSING, asked)]

    async def referred(
        self, connection: AsyncConnection, index: str, after: str, limit: int
    ) -> list[tuple[Chunk, Vector]]:
        """Return what an index should hold, in order of chunk ids: for building it again."""
        asked = {"index_name": index, "after": after, "limit": limit}
        return [(chunk_of(row), _vector(row.vector)) for row in await connection.execute(REFERRED, asked)]

    async def referred_ids(self, connection: AsyncConnection, index: str) -> set[str]:
        """Return the ids of all chunks that an index should hold."""
        return set((await connection.execute(REF_IDS, {"index_name": index})).scalars())

    async def count(
        self, connection: AsyncConnection, index: str, document_id: UUID | None = None, namespace: str = ""
    ) -> int:
        """Count the chunks whose present text an index should hold."""
        asked = {"index_name": index, "document_id": document_id, "namespace": namespace}
        return int((await connection.execute(COUNT_REFS, asked)).scalar_one())

    async def drop(self, connection: AsyncConnection, index: str, document_id: UUID | None = None) -> None:
        """Forget what an index holds, or what it holds of one document."""
        if document_id is None:
            await connection.execute(DROP_REFS, {"index_name": index})
        else:
            await connection.execute(DROP_DOCUMENT_REFS, {"index_name": index, "document_id": document_id})

    async def sweep(self, connection: AsyncConnection, days: int) -> int:
        """Delete vectors that no index has needed since they were made, at least `days` ago; returns how many."""
        return (await connection.execute(SWEEP, {"days": days})).rowcount


def _filed(chunk: Chunk) -> list[str | None]:
    """Return what a vector depends on, as `REFER` compares it."""
    viewer = str(chunk.owner_id) if chunk.private else None
    return [chunk.content_hash, chunk.namespace, chunk.subject, chunk.grade, chunk.language, viewer]


def _vector(stored: bytes) -> Vector:
    return np.frombuffer(stored, dtype=STORED_TYPE).astype(np.float32, copy=False)
