"""SQL of what is kept: answers to read again, conversations, ratings and traces."""

from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import Row, text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.pages import KeyPart
from server.retrieval.answer import Answer, Conversation, Rating, State
from server.retrieval.events import Citation, Ending, Validation
from server.text.language import Language
from server.wallet.reservation import Receipt

_RECEIPT = TypeAdapter(Receipt)
_VALIDATION = TypeAdapter(Validation)
_CITATIONS = TypeAdapter(tuple[Citation, ...])

_ANSWERS = """
    SELECT a.id, a.user_id, a.conversation_id, a.question, a.state, a.ending, a.model, a.detected_language,
           a.created_at, a.last_sequence, a.refusal, r.helpful,
           CAST(a.validation AS text) AS validation, CAST(a.receipt AS text) AS receipt,
           CASE WHEN a.state = 'completed' THEN a.content ELSE (
               SELECT coalesce(string_agg(e.payload ->> 'text', '' ORDER BY e.sequence), '')
               FROM answer_event e WHERE e.answer_id = a.id AND e.payload ->> 'kind' = 'delta') END AS content,
           (SELECT CAST(json_agg(json_build_object(
                'number', c.number, 'chunk_id', c.chunk_id, 'document_id', c.document_id,
                'document_title', c.document_title, 'page', c.page, 'quote', c.quote,
                'start', c.start_character, 'end', c.end_character) ORDER BY c.place) AS text)
            FROM answer_citation c WHERE c.answer_id = a.id) AS citations
    FROM answer a LEFT JOIN rating r ON r.answer_id = a.id
    WHERE a.user_id = :user_id
"""
_ANSWER = text(f"{_ANSWERS} AND a.id = :answer_id")
_ANSWER_PAGE = text(
    f"{_ANSWERS} AND (CAST(:conversation_id AS uuid) IS NULL OR a.conversation_id = :conversation_id)"
    " AND (CAST(:before AS timestamptz) IS NULL OR (a.created_at, a.id) < (:before, CAST(:before_id AS uuid)))"
    " ORDER BY a.created_at DESC, a.id DESC LIMIT :rows"
)
_CONVERSATION_PAGE = text(
    """
    SELECT id, title, created_at, updated_at,
           (SELECT count(*) FROM answer WHERE answer.conversation_id = conversation.id) AS answer_count
    FROM conversation
    WHERE user_id = :user_id
      AND (CAST(:before AS timestamptz) IS NULL OR (updated_at, id) < (:before, CAST(:before_id AS uuid)))
    ORDER BY updated_at DESC, id DESC LIMIT :rows
    """
)
_RUNNING_IN = text(
    "SELECT id FROM answer WHERE conversation_id = :conversation_id AND user_id = :user_id AND state = 'running'"
)
_DELETE_CONVERSATION = text("DELETE FROM conversation WHERE id = :conversation_id AND user_id = :user_id RETURNING id")
_ERASE = (
    text("DELETE FROM conversation WHERE user_id = :user_id"),
    text("DELETE FROM trace WHERE user_id = :user_id"),
)
_RATE = text(
    """
    INSERT INTO rating (answer_id, user_id, helpful, comment)
    SELECT id, user_id, :helpful, :comment FROM answer WHERE id = :answer_id AND user_id = :user_id
    ON CONFLICT (answer_id) DO UPDATE SET helpful = excluded.helpful, comment = excluded.comment, rated_at = now()
    """
)
_UNRATE = text("DELETE FROM rating WHERE answer_id = :answer_id AND user_id = :user_id")


class ConversationStore:
    """Reads and writes in the caller's open transaction; rows of other people are never found."""

    async def answer(self, connection: AsyncConnection, user_id: UUID, answer_id: UUID) -> Answer | None:
        """Return a user's answer, or None."""
        row = (await connection.execute(_ANSWER, {"user_id": user_id, "answer_id": answer_id})).one_or_none()
        return _answer(row) if row else None

    async def answers(
        self,
        connection: AsyncConnection,
        user_id: UUID,
        conversation_id: UUID | None,
        position: tuple[KeyPart, ...],
        rows: int,
    ) -> list[Answer]:
        """Return a user's answers, newest first, after `position` (created_at, id)."""
        values = {"user_id": user_id, "conversation_id": conversation_id, "rows": rows, **_before(position)}
        return [_answer(row) for row in (await connection.execute(_ANSWER_PAGE, values)).all()]

    async def conversations(
        self, connection: AsyncConnection, user_id: UUID, position: tuple[KeyPart, ...], rows: int
    ) -> list[Conversation]:
        """Return a user's conversations, last used first, after `position` (updated_at, id)."""
        values = {"user_id": user_id, "rows": rows, **_before(position)}
        found = (await connection.execute(_CONVERSATION_PAGE, values)).all()
        return [Conversation(row.id, row.title, row.answer_count, row.created_at, row.updated_at) for row in found]

    async def running_in(self, connection: AsyncConnection, user_id: UUID, conversation_id: UUID) -> list[UUID]:
        """Return the unfinished answers of a conversation."""
        values = {"user_id": user_id, "conversation_id": conversation_id}
        return list((await connection.execute(_RUNNING_IN, values)).scalars())

    async def delete_conversation(self, connection: AsyncConnection, user_id: UUID, conversation_id: UUID) -> bool:
        """Delete a conversation with its answers; False when the user has no such conversation."""
        values = {"user_id": user_id, "conversation_id": conversation_id}
        return (await connection.execute(_DELETE_CONVERSATION, values)).one_or_none() is not None

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Delete all that a user asked and was answered."""
        for statement in _ERASE:
            await connection.execute(statement, {"user_id": user_id})

    async def rate(
        self, connection: AsyncConnection, user_id: UUID, answer_id: UUID, rating: Rating | None, comment: str
    ) -> None:
        """Store a user's verdict on an own answer; None takes it back."""
        values: dict[str, Any] = {"user_id": user_id, "answer_id": answer_id}
        if rating is None:
            await connection.execute(_UNRATE, values)
        else:
            values |= {"helpful": rating is Rating.HELPFUL, "comment": comment}
            await connection.execute(_RATE, values)


def _before(position: tuple[KeyPart, ...]) -> dict[str, KeyPart | None]:
    before, before_id = position or (None, None)
    return {"before": before, "before_id": before_id}


def _answer(row: Row[Any]) -> Answer:
    return Answer(
        id=row.id,
        user_id=row.user_id,
        conversation_id=row.conversation_id,
        question=row.question,
        content=row.content,
        state=State(row.state),
        ending=Ending(row.ending) if row.ending else None,
        citations=_CITATIONS.validate_json(row.citations) if row.citations else (),
        validation=_VALIDATION.validate_json(row.validation) if row.validation else None,
        receipt=_RECEIPT.validate_json(row.receipt) if row.receipt else None,
        model=row.model,
        detected_language=Language(row.detected_language),
        rating=None if row.helpful is None else Rating.HELPFUL if row.helpful else Rating.UNHELPFUL,
        created_at=row.created_at,
        last_sequence=row.last_sequence,
        refusal=row.refusal,
    )
