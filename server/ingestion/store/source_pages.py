"""SQL of what web sources were last seen to hold."""

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

GET = text(
    "SELECT etag, last_modified, content_hash, links, document_id, verdict FROM source_page"
    " WHERE source_id = :source_id AND url = :url"
)
PUT = text(
    "INSERT INTO source_page"
    " (source_id, url, etag, last_modified, content_hash, links, document_id, verdict, reason, fetched_at)"
    " VALUES (:source_id, :url, :etag, :last_modified, :content_hash, CAST(:links AS text[]), :document_id, :verdict,"
    " :reason, now())"
    " ON CONFLICT (source_id, url) DO UPDATE SET etag = excluded.etag, last_modified = excluded.last_modified,"
    " content_hash = excluded.content_hash, links = excluded.links, document_id = excluded.document_id,"
    " verdict = excluded.verdict, reason = excluded.reason, fetched_at = excluded.fetched_at"
)
LOOK_AGAIN = text(
    "UPDATE source_page SET etag = '', last_modified = '', content_hash = '' WHERE source_id = :source_id"
)
FORGET = text("DELETE FROM source_page WHERE source_id = :source_id")


@dataclass(frozen=True, slots=True)
class PageState:
    """A page as it was last fetched; `content_hash` is that of its canonical text."""

    etag: str = ""
    last_modified: str = ""
    content_hash: str = ""
    links: tuple[str, ...] = ()
    document_id: UUID | None = None
    verdict: str = ""


class SourcePageStore:
    """Rows of `source_page`."""

    async def get(self, connection: AsyncConnection, source_id: UUID, url: str) -> PageState | None:
        """Return what is known of a page."""
        row = (await connection.execute(GET, {"source_id": source_id, "url": url})).one_or_none()
        if row is None:
            return None
        return PageState(row.etag, row.last_modified, row.content_hash, tuple(row.links), row.document_id, row.verdict)

    async def put(self, connection: AsyncConnection, source_id: UUID, url: str, state: PageState, reason: str) -> None:
        """Keep what a page held now."""
        await connection.execute(
            PUT,
            {
                "source_id": source_id,
                "url": url,
                "etag": state.etag,
                "last_modified": state.last_modified,
                "content_hash": state.content_hash,
                "links": list(state.links),
                "document_id": state.document_id,
                "verdict": state.verdict,
                "reason": reason,
            },
        )

    async def look_again(self, connection: AsyncConnection, source_id: UUID) -> None:
        """Have the next sync take every page as if it had changed."""
        await connection.execute(LOOK_AGAIN, {"source_id": source_id})

    async def forget(self, connection: AsyncConnection, source_id: UUID) -> None:
        """Delete what is known of a source's pages."""
        await connection.execute(FORGET, {"source_id": source_id})
