"""SQL of stories: what one request did, for operators."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.retrieval.trace import Story, Told, told

_STORY = text(
    "SELECT user_id, method, created_at, CAST(story AS text) AS story FROM trace"
    " WHERE request_id = :id OR correlation_id = :id ORDER BY created_at DESC LIMIT 1"
)
_TELL = text(
    "INSERT INTO trace (request_id, correlation_id, user_id, method, story)"
    " VALUES (:request_id, :call_id, :user_id, :method, CAST(:story AS jsonb))"
)
_FORGET = text("DELETE FROM trace WHERE created_at < now() - make_interval(days => :days)")


class TraceStore:
    """Stories of searches and quizzes are written here, those of answers with their end (`AnswerStore.end`)."""

    async def story(self, connection: AsyncConnection, request_id: UUID) -> Told | None:
        """Return the story of a request by its own id or by the correlation id of its call."""
        row = (await connection.execute(_STORY, {"id": request_id})).one_or_none()
        return told(row.user_id, row.method, row.created_at, json.loads(row.story)) if row else None

    async def tell(self, connection: AsyncConnection, stories: Sequence[Story]) -> None:
        """Store stories, of anybody as the system, else the caller's own."""
        await connection.execute(_TELL, [asdict(story) for story in stories])

    async def forget(self, connection: AsyncConnection, days: int) -> int:
        """Delete older stories; returns how many."""
        return (await connection.execute(_FORGET, {"days": days})).rowcount
