"""SQL of what syncs of web sources found, page by page."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.ingestion.sources.source import SyncedPage, Verdict

SYNC_SOURCE = "sync_source"
"""Kind of the operations that these pages belong to."""
KEEP_DAYS = 30

_ADD = text(
    "INSERT INTO sync_page (operation_id, sequence, url, verdict, reason, document_id)"
    " SELECT :operation_id, coalesce(max(sequence), 0) + 1, :url, :verdict, :reason, :document_id"
    " FROM sync_page WHERE operation_id = :operation_id ON CONFLICT DO NOTHING"
)
_AFTER = text(
    "SELECT sequence, url, verdict, reason, document_id FROM sync_page"
    " WHERE operation_id = :operation_id AND sequence > :sequence ORDER BY sequence LIMIT :rows"
)
_COUNT = text("SELECT verdict, count(*) FROM sync_page WHERE operation_id = :operation_id GROUP BY verdict")
_BUSY = text("SELECT EXISTS (SELECT FROM operation WHERE kind = :kind AND state IN ('pending', 'running'))")
_SWEEP = text("DELETE FROM sync_page WHERE found_at < now() - make_interval(days => :days)")


@dataclass(frozen=True, slots=True)
class KeptPage:
    """A page's verdict with its place in the sync, from 1."""

    sequence: int
    page: SyncedPage


class SyncStore:
    """Rows of `sync_page`; only operators see them."""

    async def add(self, connection: AsyncConnection, operation_id: UUID, page: SyncedPage) -> None:
        """Keep a verdict. A page that this sync told of before a crash keeps its first one."""
        values = {
            "operation_id": operation_id,
            "url": page.url,
            "verdict": page.verdict.value,
            "reason": page.reason,
            "document_id": page.document_id,
        }
        await connection.execute(_ADD, values)

    async def after(
        self, connection: AsyncConnection, operation_id: UUID, sequence: int, rows: int
    ) -> Sequence[KeptPage]:
        """Return the verdicts after a place, in order."""
        asked = {"operation_id": operation_id, "sequence": sequence, "rows": rows}
        return [
            KeptPage(row.sequence, SyncedPage(row.url, Verdict(row.verdict), row.reason, row.document_id))
            for row in await connection.execute(_AFTER, asked)
        ]

    async def count(self, connection: AsyncConnection, operation_id: UUID) -> dict[Verdict, int]:
        """Return how many pages got each verdict."""
        rows = await connection.execute(_COUNT, {"operation_id": operation_id})
        return {Verdict(verdict): count for verdict, count in rows}

    async def busy(self, connection: AsyncConnection) -> bool:
        """Say whether a sync of any source has not ended."""
        return bool((await connection.execute(_BUSY, {"kind": SYNC_SOURCE})).scalar_one())

    async def sweep(self, connection: AsyncConnection) -> int:
        """Forget verdicts that nobody will ask for again; returns how many."""
        return (await connection.execute(_SWEEP, {"days": KEEP_DAYS})).rowcount
