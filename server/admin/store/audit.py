"""SQL of the audit trail and of what reconciliations found."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.pages import KeyPart

_RECORD = text(
    "INSERT INTO audit_event (actor_id, action, object, before, after, request_id)"
    " VALUES (:actor_id, :action, :object, CAST(:before AS jsonb), CAST(:after AS jsonb), :request_id)"
)
_AUDIT_PAGE = text(
    """
    SELECT id, actor_id, action, object, CAST(before AS text), CAST(after AS text), request_id, created_at
    FROM audit_event
    WHERE (CAST(:actor_id AS uuid) IS NULL OR actor_id = :actor_id) AND (:object = '' OR object = :object)
      AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :rows
    """
)
_FOUND = text('INSERT INTO discrepancy ("check", detail) VALUES (:check, :detail)')
# Of two reconciliations at once the later look stays, whichever of them is written down last.
_NOTE = text(
    'INSERT INTO reconciliation ("check", problems, checked_at)'
    ' SELECT "check", problems, :checked_at FROM unnest(CAST(:checks AS text[]), CAST(:problems AS bigint[]))'
    ' AS found ("check", problems) ORDER BY "check" ON CONFLICT ("check") DO UPDATE SET problems = excluded.problems,'
    " checked_at = excluded.checked_at WHERE reconciliation.checked_at <= excluded.checked_at"
)
_FORGET = text("DELETE FROM reconciliation WHERE checked_at < :checked_at")
_NOTED = text('SELECT "check", problems FROM reconciliation')
_DISCREPANCY_PAGE = text(
    """
    SELECT id, "check", detail, found_at FROM discrepancy
    WHERE CAST(:before_at AS timestamptz) IS NULL OR (found_at, id) < (:before_at, CAST(:before_id AS uuid))
    ORDER BY found_at DESC, id DESC LIMIT :rows
    """
)


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """A change: by whom, to what, from what to what. `before` and `after` are JSON."""

    id: UUID
    actor_id: UUID | None
    action: str
    object: str
    before: str
    after: str
    request_id: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """What a reconciliation found."""

    id: UUID
    check: str
    detail: str
    found_at: datetime


class AdminStore:
    """Reads and writes in the caller's open transaction; only operators see anything."""

    async def record(
        self,
        connection: AsyncConnection,
        *,
        actor_id: UUID | None,
        action: str,
        object: str,
        before: str,
        after: str,
        request_id: UUID,
    ) -> None:
        """Add a change to the audit trail."""
        values = {
            "actor_id": actor_id,
            "action": action,
            "object": object,
            "before": before,
            "after": after,
            "request_id": request_id,
        }
        await connection.execute(_RECORD, values)

    async def audit_events(
        self, connection: AsyncConnection, actor_id: UUID | None, object: str, after: tuple[KeyPart, ...], rows: int
    ) -> list[AuditEvent]:
        """Return changes, newest first, after the position (created_at, id)."""
        before_at, before_id = after or (None, None)
        values = {"actor_id": actor_id, "object": object, "before_at": before_at, "before_id": before_id, "rows": rows}
        return [AuditEvent(*row) for row in await connection.execute(_AUDIT_PAGE, values)]

    async def add_discrepancy(self, connection: AsyncConnection, check: str, detail: str) -> None:
        """Keep what a reconciliation found."""
        await connection.execute(_FOUND, {"check": check, "detail": detail})

    async def note_problems(
        self, connection: AsyncConnection, problems: Mapping[str, int], checked_at: datetime
    ) -> None:
        """Keep how many problems each check of a reconciliation found, in the place of an earlier one's."""
        found = {"checks": list(problems), "problems": list(problems.values()), "checked_at": checked_at}
        await connection.execute(_NOTE, found)
        await connection.execute(_FORGET, {"checked_at": checked_at})

    async def noted_problems(self, connection: AsyncConnection) -> dict[str, int]:
        """Return how many problems each check of the last reconciliation found."""
        return {row.check: int(row.problems) for row in await connection.execute(_NOTED)}

    async def discrepancies(
        self, connection: AsyncConnection, after: tuple[KeyPart, ...], rows: int
    ) -> list[Discrepancy]:
        """Return findings, newest first, after the position (found_at, id)."""
        before_at, before_id = after or (None, None)
        values = {"before_at": before_at, "before_id": before_id, "rows": rows}
        return [Discrepancy(*row) for row in await connection.execute(_DISCREPANCY_PAGE, values)]
