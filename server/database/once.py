"""Idempotency: a request_id has one effect, and every retry of it gets the first result."""

import hashlib
import json
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar
from uuid import UUID

from pydantic import TypeAdapter
from pydantic_core import to_jsonable_python
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.caller import current
from server.database.pool import Database
from server.refusal import RequestIdReused

T = TypeVar("T")

NOBODY = UUID(int=0)
"""Stands for callers without an account (sign-up, background work) in the key."""
WINDOW_HOURS = 24
UNKNOWN: Final = object()
"""Stands for a payload that is not known yet."""

# A second caller with the same key waits here until the first commits (then gets no row) or rolls back (then claims).
CLAIM = text(
    "INSERT INTO idempotency (user_id, request_id, method, payload_hash)"
    " VALUES (:user_id, :request_id, :method, :payload_hash) ON CONFLICT DO NOTHING RETURNING true"
)
STORED = text(
    "SELECT method, payload_hash, result FROM idempotency WHERE user_id = :user_id AND request_id = :request_id"
)
KEEP = text(
    "UPDATE idempotency SET result = CAST(:result AS jsonb) WHERE user_id = :user_id AND request_id = :request_id"
)
FORGET = text("DELETE FROM idempotency WHERE user_id = :user_id")
SWEEP = text("SELECT sweep_idempotency(:hours)")


class Once:
    """Runs an effect at most once per caller and request_id."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(
        self,
        method: str,
        request_id: UUID | None,
        payload: object,
        result_type: type[T],
        effect: Callable[[AsyncConnection], Awaitable[T]],
    ) -> T:
        """Return the result of `effect`, or the stored first one, decided and kept in one transaction.

        `payload` is what the request asks (a dataclass or plain values); another payload or method under the same
        id raises RequestIdReused. When the effect raises, nothing is kept and the id stays free. `result_type` is a
        dataclass (or anything pydantic can write as JSON). Results are kept for at least 24 h. Without a request_id
        there is nothing to remember: the effect runs.
        """
        if request_id is None:
            async with self._database.transaction() as connection:
                return await effect(connection)
        key = {"user_id": current().user_id or NOBODY, "request_id": request_id}
        payload_hash = fingerprint(payload)
        adapter = TypeAdapter(result_type)
        async with self._database.transaction() as connection:
            asked = key | {"method": method, "payload_hash": payload_hash}
            if (await connection.execute(CLAIM, asked)).scalar_one_or_none():
                result = await effect(connection)
                await connection.execute(KEEP, key | {"result": adapter.dump_json(result).decode()})
                return result
            first = (await connection.execute(STORED, key)).one()
        if (first.method, bytes(first.payload_hash)) != (method, payload_hash):
            raise RequestIdReused
        # Through JSON again: in JSON mode pydantic reads strings as the UUIDs, times and bytes they stand for.
        return adapter.validate_json(json.dumps(first.result))

    async def ran(self, method: str, request_id: UUID | None, payload: object = UNKNOWN) -> bool:
        """Say whether the caller's request had its effect already, for what is done or checked before `run`.

        Raises RequestIdReused for an id that served another method or, where it is known by then, another payload.
        """
        if request_id is None:
            return False
        key = {"user_id": current().user_id or NOBODY, "request_id": request_id}
        async with self._database.transaction() as connection:
            first = (await connection.execute(STORED, key)).one_or_none()
        if first is None:
            return False
        if first.method != method or (payload is not UNKNOWN and bytes(first.payload_hash) != fingerprint(payload)):
            raise RequestIdReused
        return True

    async def forget(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Delete what is kept of a person's requests, in the transaction that erases the account."""
        await connection.execute(FORGET, {"user_id": user_id})

    async def sweep(self) -> int:
        """Forget results older than 24 h; returns how many."""
        async with self._database.transaction() as connection:
            return int((await connection.execute(SWEEP, {"hours": WINDOW_HOURS})).scalar_one())


def fingerprint(payload: object) -> bytes:
    """Return the SHA-256 of a payload's canonical JSON (32 bytes)."""
    canonical = json.dumps(to_jsonable_python(payload), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(canonical.encode()).digest()
