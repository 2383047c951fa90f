"""Pure rules of the Milvus layout: names of indexes and partitions, filter expressions, what a row may hold."""

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from server import refusal
from server.vectors.port import VectorFilter, VectorRow

INDEX_PREFIX = "chunks__"
"""Collections without it are not ours: never listed, never dropped."""
_INDEX_NAME = re.compile(rf"{INDEX_PREFIX}[A-Za-z0-9_]{{1,200}}")
PARTITION_COUNT = 64
"""Namespaces are spread over this many partitions: searches read one, and no number of namespaces exceeds what Milvus
allows (1,024 partitions)."""
CHUNK_ID_BYTES = 64
FIELD_BYTES = {"namespace": 128, "subject": 128, "grade": 64, "language": 16}
"""Longest value of each text field; all fields together stay under 1 KB of metadata per vector."""


def index_name(embedder: str, dimensions: int, version: int = 1) -> str:
    """Name the index of one vector space, e.g. `chunks__local_hash_1024_v1__1024__v1`."""
    return f"{INDEX_PREFIX}{re.sub('[^A-Za-z0-9]', '_', embedder)}__{dimensions}__v{version}"


def check_index_name(index: str) -> None:
    """Refuse (Invalid) a name that Milvus would not take or that is not ours."""
    if not _INDEX_NAME.fullmatch(index):
        raise refusal.Invalid(
            violations=[refusal.Violation("index", f"must look like {INDEX_PREFIX}<model>__v1", "index_name")]
        )


def partition_of(namespace: str) -> str:
    """Return the partition that holds a namespace; the same on every machine."""
    digest = hashlib.sha256(namespace.encode()).digest()
    return f"p_{int.from_bytes(digest[:4], 'big') % PARTITION_COUNT:02d}"


def quoted(text: str) -> str:
    """Return `text` as a string literal of the filter language."""
    return json.dumps(text, ensure_ascii=False)


def any_of(field: str, values: Iterable[object]) -> str:
    """Return the expression that holds for rows whose `field` is one of `values`."""
    return f"{field} in [{', '.join(quoted(str(value)) for value in values)}]"


def expression(where: VectorFilter) -> str:
    """Return the filter expression for what may be found; empty when nothing is filtered."""
    fields = {"namespace": where.namespace, "subject": where.subject, "grade": where.grade, "language": where.language}
    terms = [f"{field} == {quoted(value)}" for field, value in fields.items() if value]
    if where.document_ids:
        terms.append(any_of("document_id", where.document_ids))
    if not where.everything:
        terms.append(any_of("owner_id", ["", *([where.viewer_id] if where.viewer_id else [])]))
    return " and ".join(terms)


def checked(rows: Sequence[VectorRow], dimensions: int) -> list[VectorRow]:
    """Return the rows with the last one of each id; refuse (Invalid) the batch if any row would poison the index."""
    for number, row in enumerate(rows):
        problem = _problem(row, dimensions)
        if problem:
            raise refusal.Invalid(violations=[refusal.Violation(f"rows[{number}]", problem, "row")])
    return list({row.chunk_id: row for row in rows}.values())


def stored(row: VectorRow) -> dict[str, Any]:
    """Return a row as Milvus stores it."""
    return {
        "id": row.chunk_id,
        "vector": row.vector,
        "document_id": str(row.document_id),
        "owner_id": str(row.owner_id or ""),
        "namespace": row.namespace,
        "subject": row.subject,
        "grade": row.grade,
        "language": row.language,
    }


def check_query(vector: np.ndarray[tuple[int, ...], np.dtype[np.float32]], dimensions: int) -> None:
    """Refuse (Invalid) a query vector of another length or with values that are not finite."""
    if vector.shape != (dimensions,) or not np.isfinite(vector).all():
        raise refusal.Invalid(
            violations=[refusal.Violation("vector", f"must be {dimensions} finite numbers", "vector")]
        )


def _problem(row: VectorRow, dimensions: int) -> str:
    if not 0 < len(row.chunk_id.encode()) <= CHUNK_ID_BYTES:
        return f"chunk_id must have 1 to {CHUNK_ID_BYTES} bytes"
    if row.vector.shape != (dimensions,):
        return f"the vector must have {dimensions} numbers"
    if not np.isfinite(row.vector).all():
        return "the vector must hold finite numbers only"
    for field, limit in FIELD_BYTES.items():
        if len(getattr(row, field).encode()) > limit:
            return f"{field} must have at most {limit} bytes"
    return ""
