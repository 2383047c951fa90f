"""SQL of web sources; only operators see them."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.pages import KeyPart
from server.ingestion.job import Placement
from server.ingestion.sources.source import Plan, Source

COLUMNS = (
    "id, name, start_url, namespace, subject, grade, sync_every_seconds, max_pages, enabled, last_synced_at,"
    " last_outcome, last_pages, created_at"
)
ADD = text(
    "INSERT INTO source (name, start_url, namespace, subject, grade, sync_every_seconds, max_pages, enabled)"
    " VALUES (:name, :start_url, :namespace, :subject, :grade, :sync_every_seconds, :max_pages, :enabled)"
    f" ON CONFLICT (start_url) DO NOTHING RETURNING {COLUMNS}"
)
GET = text(f"SELECT {COLUMNS} FROM source WHERE id = :id")
LOCK = text(f"SELECT {COLUMNS} FROM source WHERE id = :id FOR UPDATE")
LIST = text(
    f"SELECT {COLUMNS} FROM source"
    " WHERE CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid))"
    " ORDER BY created_at DESC, id DESC LIMIT :rows"
)
CHANGE = text(
    "UPDATE source SET name = :name, start_url = :start_url, namespace = :namespace, subject = :subject,"
    " grade = :grade, sync_every_seconds = :sync_every_seconds, max_pages = :max_pages, enabled = :enabled"
    " WHERE id = :id AND NOT EXISTS (SELECT FROM source other WHERE other.start_url = :start_url AND other.id <> :id)"
    f" RETURNING {COLUMNS}"
)
DELETE = text("DELETE FROM source WHERE id = :id")
ENDED = text(
    "UPDATE source SET last_synced_at = clock_timestamp(), last_outcome = :outcome, last_pages = :pages WHERE id = :id"
)
DUE = text(
    "SELECT id FROM source WHERE enabled AND sync_every_seconds IS NOT NULL"
    " AND coalesce(last_synced_at + make_interval(secs => sync_every_seconds), created_at) <= now()"
    " ORDER BY last_synced_at NULLS FIRST, id"
)


class SourceStore:
    """Rows of `source`."""

    async def add(self, connection: AsyncConnection, plan: Plan) -> Source | None:
        """Add a source; None while another one starts at the same address."""
        return _source((await connection.execute(ADD, _values(plan))).one_or_none())

    async def get(self, connection: AsyncConnection, source_id: UUID, *, lock: bool = False) -> Source | None:
        """Return a source; `lock` keeps it from changing until the transaction ends."""
        return _source((await connection.execute(LOCK if lock else GET, {"id": source_id})).one_or_none())

    async def list(self, connection: AsyncConnection, after: tuple[KeyPart, ...], rows: int) -> Sequence[Source]:
        """Return sources, newest first, after the key (created_at, id)."""
        before_at, before_id = after or (None, None)
        found = await connection.execute(LIST, {"before_at": before_at, "before_id": before_id, "rows": rows})
        return [_present(row) for row in found]

    async def change(self, connection: AsyncConnection, source_id: UUID, plan: Plan) -> Source | None:
        """Write a source's plan; None while another one starts at the same address."""
        return _source((await connection.execute(CHANGE, _values(plan) | {"id": source_id})).one_or_none())

    async def delete(self, connection: AsyncConnection, source_id: UUID) -> None:
        """Delete a source."""
        await connection.execute(DELETE, {"id": source_id})

    async def ended(self, connection: AsyncConnection, source_id: UUID, outcome: str, pages: int) -> None:
        """Note how a sync ended."""
        await connection.execute(ENDED, {"id": source_id, "outcome": outcome, "pages": pages})

    async def due(self, connection: AsyncConnection) -> Sequence[UUID]:
        """Return the sources whose next scheduled sync is due, the longest waiting first."""
        return list((await connection.execute(DUE)).scalars())


def _values(plan: Plan) -> dict[str, Any]:
    return {
        "name": plan.name,
        "start_url": plan.start_url,
        "namespace": plan.placement.namespace,
        "subject": plan.placement.subject,
        "grade": plan.placement.grade,
        "sync_every_seconds": plan.sync_every_seconds,
        "max_pages": plan.max_pages,
        "enabled": plan.enabled,
    }


def _source(row: Row[Any] | None) -> Source | None:
    return None if row is None else _present(row)


def _present(row: Row[Any]) -> Source:
    plan = Plan(
        row.name,
        row.start_url,
        Placement(row.namespace, row.subject, row.grade),
        row.sync_every_seconds,
        row.max_pages,
        row.enabled,
    )
    return Source(row.id, plan, row.created_at, row.last_synced_at, row.last_outcome, row.last_pages)
