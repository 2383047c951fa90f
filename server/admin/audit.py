"""The audit trail: each change by an operator with actor, before, after and request id, in the change's transaction."""

import json
from datetime import datetime
from uuid import UUID

from pydantic_core import to_jsonable_python

from server.admin.store.audit import AdminStore, AuditEvent
from server.caller import current
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Connection, Database


class Audit:
    """Records and lists changes. The actor is whoever calls."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = AdminStore()

    async def record(self, connection: Connection, action: str, object: str, before: object, after: object) -> None:
        """Add a change to the open transaction; `before` and `after` are any JSON-able values without secrets."""
        caller = current()
        await self._store.record(
            connection,
            actor_id=caller.user_id,
            action=action,
            object=object,
            before=_json(before),
            after=_json(after),
            request_id=caller.request_id,
        )

    async def events(self, actor_id: UUID | None, object: str, *, size: int, page_token: str) -> Page[AuditEvent]:
        """List changes, newest first, by one actor or to one object if given."""
        filters = ("audit", actor_id, object)
        size = page_size(size)
        after = position(page_token, filters, datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.audit_events(connection, actor_id, object, after, size + 1)
        return cut(rows, size, filters, lambda event: (event.created_at, event.id))


def _json(value: object) -> str:
    return json.dumps(to_jsonable_python(value), ensure_ascii=False)
