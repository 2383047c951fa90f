"""SQL of documents. Row-level security decides what each method sees."""

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID, uuid4

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.corpus.passage import Document, DocumentFilter, NewDocument, Visibility
from server.database.pages import KeyPart
from server.text.language import Language

COLUMNS = (
    "id, owner_id, title, filename, content_type, size_bytes, sha256, blob_key, source_url, visibility, namespace,"
    " subject, grade, language, page_count, flagged_page_count, chunk_count, generation, created_at"
)
INSERT = text(
    "INSERT INTO document (id, owner_id, title, filename, content_type, size_bytes, sha256, blob_key, source_url,"
    " visibility, namespace, subject, grade, language)"
    " VALUES (:id, :owner_id, :title, :filename, :content_type, :size_bytes, :sha256, :blob_key, :source_url,"
    f" :visibility, :namespace, :subject, :grade, :language) RETURNING {COLUMNS}"
)
GET = text(f"SELECT {COLUMNS} FROM document WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM document WHERE id = :id FOR UPDATE")
LIST = text(
    f"SELECT {COLUMNS} FROM document WHERE (:namespace = '' OR namespace = :namespace)"
    " AND (:subject = '' OR subject = :subject) AND (:grade = '' OR grade = :grade)"
    " AND (:language = '' OR language = :language) AND (:visibility = '' OR visibility = :visibility)"
    " AND (CAST(:owner_id AS uuid) IS NULL OR owner_id = :owner_id)"
    " AND (NOT CAST(:flagged AS boolean) OR flagged_page_count > 0)"
    " AND (CAST(:after_at AS timestamptz) IS NULL OR (created_at, id) < (:after_at, CAST(:after_id AS uuid)))"
    " ORDER BY created_at DESC, id DESC LIMIT :limit"
)
WITH_FILE = text(
    f"SELECT {COLUMNS} FROM document WHERE sha256 = :sha256 AND visibility = :visibility"
    " AND owner_id IS NOT DISTINCT FROM CAST(:owner_id AS uuid) ORDER BY created_at, id LIMIT 1"
)
USED_BLOBS = text("SELECT blob_key FROM document WHERE blob_key = ANY (CAST(:keys AS text[]))")
FROM_SOURCE = text(f"SELECT {COLUMNS} FROM document WHERE source_url = :url ORDER BY created_at, id LIMIT 1")
DELETE = text(f"DELETE FROM document WHERE id = :id RETURNING {COLUMNS}")
FILE_UNDER = text(
    "UPDATE document SET namespace = :namespace, subject = :subject, grade = :grade, updated_at = now() WHERE id = :id"
)
DESCRIBE = text(
    "UPDATE document SET page_count = :page_count, flagged_page_count = :flagged_page_count, language = :language,"
    " updated_at = now() WHERE id = :id"
)
REPLACE_FILE = text(
    "UPDATE document SET filename = :filename, content_type = :content_type, sha256 = :sha256, blob_key = :blob_key,"
    " size_bytes = :size_bytes, title = :title, updated_at = now() WHERE id = :id"
)
NEXT_GENERATION = text("UPDATE document SET generation = generation + 1 WHERE id = :id RETURNING generation")
COUNT_CHUNKS = text(
    "UPDATE document SET chunk_count = (SELECT count(*) FROM chunk WHERE document_id = :id), updated_at = now()"
    " WHERE id = :id RETURNING chunk_count"
)


class DocumentStore:
    """Reads and writes the table `document`."""

    async def insert(self, connection: AsyncConnection, new: NewDocument) -> Document:
        """Insert a document and return it."""
        row = asdict(new) | {"id": new.id or uuid4()}
        return _document((await connection.execute(INSERT, row)).mappings().one())

    async def get(self, connection: AsyncConnection, document_id: UUID, *, lock: bool = False) -> Document | None:
        """Return a document, or None; `lock` keeps others from changing it until the transaction ends."""
        found = (await connection.execute(LOCK if lock else GET, {"id": document_id})).mappings().one_or_none()
        return _document(found) if found else None

    async def with_file(
        self, connection: AsyncConnection, sha256: str, owner_id: UUID | None, visibility: Visibility
    ) -> Document | None:
        """Return an owner's oldest document of these bytes and visibility, or None."""
        asked = {"sha256": sha256, "owner_id": owner_id, "visibility": visibility}
        found = (await connection.execute(WITH_FILE, asked)).mappings().one_or_none()
        return _document(found) if found else None

    async def used_blobs(self, connection: AsyncConnection, keys: Sequence[str]) -> set[str]:
        """Return which of these storage keys belong to a document."""
        return set((await connection.execute(USED_BLOBS, {"keys": list(keys)})).scalars())

    async def from_source(self, connection: AsyncConnection, url: str) -> Document | None:
        """Return the document that was fetched from an address, or None."""
        found = (await connection.execute(FROM_SOURCE, {"url": url})).mappings().one_or_none()
        return _document(found) if found else None

    async def list(
        self, connection: AsyncConnection, where: DocumentFilter, after: tuple[KeyPart, ...], limit: int
    ) -> list[Document]:
        """Return documents, newest first, after the key (created_at, id)."""
        after_at, after_id = after or (None, None)
        asked = {
            "namespace": where.namespace,
            "subject": where.subject,
            "grade": where.grade,
            "language": where.language or "",
            "visibility": where.visibility or "",
            "owner_id": where.owner_id,
            "flagged": where.flagged,
            "after_at": after_at,
            "after_id": after_id,
            "limit": limit,
        }
        return [_document(row) for row in (await connection.execute(LIST, asked)).mappings()]

    async def delete(self, connection: AsyncConnection, document_id: UUID) -> Document | None:
        """Delete a document with its chunks and embedding references; return it, or None if there is none."""
        found = (await connection.execute(DELETE, {"id": document_id})).mappings().one_or_none()
        return _document(found) if found else None

    async def file_under(
        self, connection: AsyncConnection, document_id: UUID, namespace: str, subject: str, grade: str
    ) -> None:
        """Set where a document, and with it its chunks, is searched."""
        asked = {"id": document_id, "namespace": namespace, "subject": subject, "grade": grade}
        await connection.execute(FILE_UNDER, asked)

    async def describe(
        self,
        connection: AsyncConnection,
        document_id: UUID,
        page_count: int,
        flagged_page_count: int,
        language: Language,
    ) -> None:
        """Set what reading its pages told."""
        asked = {"page_count": page_count, "flagged_page_count": flagged_page_count, "language": language}
        await connection.execute(DESCRIBE, asked | {"id": document_id})

    async def replace_file(self, connection: AsyncConnection, document_id: UUID, new: NewDocument) -> None:
        """Point a document at another file."""
        await connection.execute(REPLACE_FILE, asdict(new) | {"id": document_id})

    async def next_generation(self, connection: AsyncConnection, document_id: UUID) -> int | None:
        """Begin a new generation of chunks; None if there is no such document."""
        found = (await connection.execute(NEXT_GENERATION, {"id": document_id})).scalar_one_or_none()
        return None if found is None else int(found)

    async def count_chunks(self, connection: AsyncConnection, document_id: UUID) -> int:
        """Note on the document how many chunks it has, and return that."""
        return int((await connection.execute(COUNT_CHUNKS, {"id": document_id})).scalar_one())


def _document(row: RowMapping) -> Document:
    return Document(**{**row, "visibility": Visibility(row["visibility"]), "language": Language(row["language"])})
