"""Notes of what deleted documents still have in the vector and file stores."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

ADD = text(
    "INSERT INTO document_remains (document_id, blob_key) VALUES (:document_id, :blob_key) ON CONFLICT DO NOTHING"
)
OF = text("SELECT document_id, blob_key FROM document_remains WHERE document_id = :document_id")
OLDEST = text("SELECT document_id, blob_key FROM document_remains ORDER BY created_at LIMIT :limit")
DROP = text("DELETE FROM document_remains WHERE document_id = :document_id AND blob_key = :blob_key")


@dataclass(frozen=True, slots=True)
class Remains:
    """A document that is gone, and the file that it left."""

    document_id: UUID
    blob_key: str


class RemainsStore:
    """Rows of `document_remains`."""

    async def add(self, connection: AsyncConnection, document_id: UUID, blob_key: str) -> None:
        """Note what a document leaves."""
        await connection.execute(ADD, {"document_id": document_id, "blob_key": blob_key})

    async def of(self, connection: AsyncConnection, document_id: UUID) -> Sequence[Remains]:
        """Return what is left of one document."""
        rows = await connection.execute(OF, {"document_id": document_id})
        return [Remains(row.document_id, row.blob_key) for row in rows]

    async def oldest(self, connection: AsyncConnection, limit: int) -> Sequence[Remains]:
        """Return what has been left longest."""
        return [Remains(row.document_id, row.blob_key) for row in await connection.execute(OLDEST, {"limit": limit})]

    async def drop(self, connection: AsyncConnection, remains: Remains) -> None:
        """Forget what is cleared."""
        await connection.execute(DROP, asdict(remains))
