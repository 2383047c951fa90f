"""SQL of long-running operations."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.admin.operation import Operation, OperationState
from server.database.pages import KeyPart

_COLUMNS = "id, kind, object, task, state, stage, done, total, result, error, request_id, created_at, updated_at"
_ADD = text(
    f"""
    INSERT INTO operation (kind, object, task, actor_id, request_id)
    VALUES (:kind, :object, CAST(:task AS jsonb), :actor_id, :request_id)
    ON CONFLICT DO NOTHING RETURNING {_COLUMNS}
    """
)
_GET = text(f"SELECT {_COLUMNS} FROM operation WHERE id = :id")
_PAGE = text(
    f"""
    SELECT {_COLUMNS} FROM operation
    WHERE (:kind = '' OR kind = :kind)
      AND (CAST(:before_at AS timestamptz) IS NULL OR (created_at, id) < (:before_at, CAST(:before_id AS uuid)))
    ORDER BY created_at DESC, id DESC LIMIT :rows
    """
)
_BEGIN = text(
    f"""
    UPDATE operation SET state = 'running', updated_at = clock_timestamp()
    WHERE id = :id AND state IN ('pending', 'running') RETURNING {_COLUMNS}
    """
)
_REPORT = text(
    """
    UPDATE operation SET stage = :stage, done = :done, total = :total, updated_at = clock_timestamp()
    WHERE id = :id AND state = 'running' RETURNING true
    """
)
_END = text(
    f"""
    UPDATE operation SET state = :state, result = CAST(:result AS jsonb), error = :error, updated_at = clock_timestamp()
    WHERE id = :id AND state IN ('pending', 'running') RETURNING {_COLUMNS}
    """
)


class OperationStore:
    """Reads and writes in the caller's open transaction; only operators see anything."""

    async def add(
        self,
        connection: AsyncConnection,
        kind: str,
        object: str,
        task: Mapping[str, Any],
        actor_id: UUID | None,
        request_id: UUID,
    ) -> Operation | None:
        """Add a pending operation; None while another one of this kind on this object has not ended."""
        asked = json.dumps(dict(task), ensure_ascii=False)
        values = {"kind": kind, "object": object, "task": asked, "actor_id": actor_id, "request_id": request_id}
        return _operation((await connection.execute(_ADD, values)).one_or_none())

    async def get(self, connection: AsyncConnection, operation_id: UUID) -> Operation | None:
        """Return an operation."""
        return _operation((await connection.execute(_GET, {"id": operation_id})).one_or_none())

    async def list(
        self, connection: AsyncConnection, kind: str, after: tuple[KeyPart, ...], rows: int
    ) -> list[Operation]:
        """Return operations, newest first, after the position (created_at, id)."""
        before_at, before_id = after or (None, None)
        values = {"kind": kind, "before_at": before_at, "before_id": before_id, "rows": rows}
        return [_present(row) for row in await connection.execute(_PAGE, values)]

    async def begin(self, connection: AsyncConnection, operation_id: UUID) -> Operation | None:
        """Mark it as running, again after a crash; None when it has ended."""
        return _operation((await connection.execute(_BEGIN, {"id": operation_id})).one_or_none())

    async def report(self, connection: AsyncConnection, operation_id: UUID, stage: str, done: int, total: int) -> bool:
        """Keep how far it is; False when it does not run any more."""
        values = {"id": operation_id, "stage": stage, "done": done, "total": total}
        return bool((await connection.execute(_REPORT, values)).scalar_one_or_none())

    async def end(
        self,
        connection: AsyncConnection,
        operation_id: UUID,
        state: OperationState,
        result: Mapping[str, Any],
        error: str = "",
    ) -> Operation | None:
        """End it; None when it had ended before."""
        kept = json.dumps(dict(result), ensure_ascii=False)
        values = {"id": operation_id, "state": state.value, "result": kept, "error": error}
        return _operation((await connection.execute(_END, values)).one_or_none())


def _operation(row: Row[Any] | None) -> Operation | None:
    return None if row is None else _present(row)


def _present(row: Row[Any]) -> Operation:
    return Operation(**{**row._mapping, "state": OperationState(row.state), "result": row.result or {}})
