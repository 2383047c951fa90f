"""The port to the vector store: named indexes of one vector space each, filtered search, an alias for the live one.

Adapters raise `server.refusal.StoreUnavailable` when the store does not answer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class VectorRow:
    """A chunk's vector with under 1 KB of metadata and no text. `owner_id` is None for the shared corpus."""

    chunk_id: str
    vector: Vector
    document_id: UUID
    namespace: str
    subject: str
    grade: str
    language: str
    owner_id: UUID | None


@dataclass(frozen=True, slots=True)
class VectorFilter:
    """What may be found: empty fields do not filter; `viewer_id` adds that person's private documents.

    `everything` lifts the visibility rule (services and admins).
    """

    namespace: str = ""
    subject: str = ""
    grade: str = ""
    language: str = ""
    document_ids: tuple[UUID, ...] = ()
    viewer_id: UUID | None = None
    everything: bool = False


@dataclass(frozen=True, slots=True)
class Hit:
    """A found chunk with its cosine similarity."""

    chunk_id: str
    score: float


class VectorStore(Protocol):
    """One promise per method; the contract suite checks each over every adapter."""

    async def create_index(self, index: str, dimensions: int) -> None:
        """Make the index if it is missing; refuse (Conflict) when it exists with other dimensions."""

    async def upsert(self, index: str, rows: Sequence[VectorRow]) -> int:
        """Write rows by chunk_id, last one wins; acknowledged rows are found by the next search. Returns rows written.

        Refuses (Invalid) vectors that are not finite or of another length.
        """

    async def search(self, index: str, vector: Vector, limit: int, where: VectorFilter) -> list[Hit]:
        """Return the nearest visible chunks, best first, each id once."""

    async def delete(self, index: str, chunk_ids: Sequence[str]) -> None:
        """Delete by id; unknown ids are no error."""

    async def delete_document(self, index: str, document_id: UUID) -> None:
        """Delete all vectors of a document."""

    async def count(self, index: str, namespace: str = "") -> int:
        """Count the rows of an index, or of one namespace in it."""

    async def ids(self, index: str) -> set[str]:
        """Return all chunk ids of an index, for comparing with PostgreSQL."""

    async def flush(self, index: str) -> None:
        """Make recent rows cheap to search; call once at the end of a batch of work."""

    async def live(self) -> str | None:
        """Return the index the live alias points to, or None."""

    async def activate(self, index: str) -> None:
        """Point the live alias at `index`, atomically."""

    async def indexes(self) -> list[str]:
        """List the indexes."""

    async def drop_index(self, index: str) -> None:
        """Drop an index; the live one is refused (IllegalState)."""

    async def healthy(self) -> bool:
        """Say whether the store answers now."""

    async def close(self) -> None:
        """Release connections."""
