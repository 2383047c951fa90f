"""Announced uploads."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection


@dataclass(frozen=True, slots=True)
class Announced:
    """What a caller says of a file before its bytes come; `sha256` in hex."""

    filename: str
    content_type: str
    size_bytes: int
    sha256: str
    title: str
    visibility: str
    replaces: UUID | None = None
    """Document whose file this one is to take the place of."""


@dataclass(frozen=True, slots=True)
class Upload:
    """An announced file; `document_id` once its bytes were checked."""

    id: UUID
    owner_id: UUID | None
    announced: Announced
    blob_key: str
    document_id: UUID | None
    expires_at: datetime


_COLUMNS = (
    "id, owner_id, filename, content_type, size_bytes, sha256, title, visibility, replaces, blob_key, document_id,"
    " expires_at"
)

ADD = text(
    "INSERT INTO upload"
    " (id, owner_id, filename, content_type, size_bytes, sha256, title, visibility, replaces, blob_key,"
    " expires_at)"
    " VALUES (:id, :owner_id, :filename, :content_type, :size_bytes, :sha256, :title, :visibility, :replaces,"
    " :blob_key, now() + make_interval(secs => :ttl_seconds))"
    f" RETURNING {_COLUMNS}"
)
GET = text(f"SELECT {_COLUMNS} FROM upload WHERE id = :id")
LOCK = text(f"SELECT {_COLUMNS} FROM upload WHERE id = :id FOR UPDATE")
FINISH = text("UPDATE upload SET document_id = :document_id WHERE id = :id")
EXPIRED = text(
    f"SELECT {_COLUMNS} FROM upload"
    " WHERE document_id IS NULL AND expires_at < now() - make_interval(secs => :grace_seconds)"
    " ORDER BY expires_at LIMIT :limit"
)
DROP = text("DELETE FROM upload WHERE id = ANY(:ids) AND document_id IS NULL")
KNOWN = text("SELECT blob_key FROM upload WHERE blob_key = ANY(:keys) AND document_id IS NULL")


class UploadStore:
    """Rows of `upload`."""

    async def add(
        self,
        connection: AsyncConnection,
        upload_id: UUID,
        owner_id: UUID | None,
        announced: Announced,
        key: str,
        ttl: int,
    ) -> Upload:
        """Insert an upload that stays open for `ttl` seconds."""
        values = {"id": upload_id, "owner_id": owner_id, "blob_key": key, "ttl_seconds": ttl, **asdict(announced)}
        return _upload((await connection.execute(ADD, values)).one())

    async def get(self, connection: AsyncConnection, upload_id: UUID) -> Upload | None:
        """Return an upload the caller may see."""
        row = (await connection.execute(GET, {"id": upload_id})).one_or_none()
        return _upload(row) if row else None

    async def lock(self, connection: AsyncConnection, upload_id: UUID) -> Upload | None:
        """Return an upload the caller may see, locked until the transaction ends."""
        row = (await connection.execute(LOCK, {"id": upload_id})).one_or_none()
        return _upload(row) if row else None

    async def finish(self, connection: AsyncConnection, upload_id: UUID, document_id: UUID) -> None:
        """Note which document the bytes became."""
        await connection.execute(FINISH, {"id": upload_id, "document_id": document_id})

    async def expired(self, connection: AsyncConnection, grace_seconds: float, limit: int) -> Sequence[Upload]:
        """Return unfinished uploads whose time has been over for `grace_seconds`."""
        rows = await connection.execute(EXPIRED, {"grace_seconds": grace_seconds, "limit": limit})
        return [_upload(row) for row in rows]

    async def drop(self, connection: AsyncConnection, ids: Sequence[UUID]) -> None:
        """Delete unfinished uploads."""
        await connection.execute(DROP, {"ids": list(ids)})

    async def open_keys(self, connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
        """Return which of these blobs belong to an unfinished upload."""
        return set((await connection.execute(KNOWN, {"keys": list(keys)})).scalars())


def _upload(row: Row[Any]) -> Upload:
    return Upload(
        id=row.id,
        owner_id=row.owner_id,
        announced=Announced(
            row.filename, row.content_type, row.size_bytes, row.sha256, row.title, row.visibility, row.replaces
        ),
        blob_key=row.blob_key,
        document_id=row.document_id,
        expires_at=row.expires_at,
    )
