"""SQL of answers: opening, appending events, closing, reading; and of conversations, ratings and traces."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.models.port import Turn
from server.retrieval.answer import (
    HISTORY_TURNS,
    TITLE_CHARACTERS,
    Closing,
    Opening,
    Orphan,
    Standing,
    State,
)
from server.retrieval.events import Citation, Event, Validation, decode, encode
from server.wallet.reservation import Receipt

_RECEIPT = TypeAdapter(Receipt)
_VALIDATION = TypeAdapter(Validation)
_CITATIONS = TypeAdapter(tuple[Citation, ...])

_EARLIER = text("SELECT id, request_hash FROM answer WHERE user_id = :user_id AND request_id = :request_id")
_OWNS_CONVERSATION = text("SELECT 1 FROM conversation WHERE id = :conversation_id AND user_id = :user_id")
_TURNS = text(
    "SELECT question, content FROM answer"
    " WHERE conversation_id = :conversation_id AND user_id = :user_id AND state = 'completed' AND content <> ''"
    " ORDER BY created_at DESC, id DESC LIMIT :turns"
)

# Taken before the count, in a statement of its own: a count in the same statement would not see what others committed
# while this one waited.
_ONE_AT_A_TIME = text("SELECT pg_advisory_xact_lock(6, hashtext(CAST(:user_id AS text)))")
_OPEN = text(
    """
    WITH running AS (
        SELECT count(*) AS answers FROM answer
        WHERE user_id = :user_id AND state = 'running' AND lease_expires_at > clock_timestamp()
    ), thread AS (
        INSERT INTO conversation (id, user_id, title)
        SELECT :conversation_id, :user_id, :title FROM running WHERE answers < :open_limit
        ON CONFLICT (id) DO UPDATE SET updated_at = now()
    ), opened AS (
        INSERT INTO answer (id, user_id, conversation_id, request_id, request_hash, question, detected_language,
                            reservation_id, max_charge_tokens, process_id, lease_expires_at, last_sequence)
        SELECT :answer_id, :user_id, :conversation_id, :request_id, :request_hash, :question, :detected_language,
               :reservation_id, :max_charge_tokens, :process_id,
               clock_timestamp() + make_interval(secs => :lease_seconds), :last_sequence
        FROM running WHERE answers < :open_limit
        RETURNING id
    )
    INSERT INTO answer_event (answer_id, sequence, user_id, payload)
    SELECT opened.id, new.sequence, :user_id, new.payload
    FROM opened, ROWS FROM (
        unnest(CAST(:sequences AS bigint[])), unnest(CAST(:payloads AS json[]))
    ) AS new (sequence, payload)
    RETURNING answer_id
    """
)
_APPEND = text(
    """
    WITH held AS (
        UPDATE answer
        SET lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds),
            delivered_tokens = greatest(delivered_tokens, least(:delivered_tokens, max_charge_tokens)),
            last_sequence = greatest(last_sequence, :last_sequence)
        WHERE id = :answer_id AND process_id = :process_id AND state = 'running'
        RETURNING id, user_id, cancel_requested
    ), appended AS (
        INSERT INTO answer_event (answer_id, sequence, user_id, payload)
        SELECT held.id, new.sequence, held.user_id, new.payload
        FROM held, ROWS FROM (
            unnest(CAST(:sequences AS bigint[])), unnest(CAST(:payloads AS json[]))
        ) AS new (sequence, payload)
        ON CONFLICT (answer_id, sequence) DO NOTHING
    )
    SELECT cancel_requested FROM held
    """
)
_CLOSE = text(
    """
    WITH closed AS (
        UPDATE answer
        SET state = 'completed', completed_at = now(), ending = :ending, content = :content, model = :model,
            refusal = :refusal, validation = CAST(:validation AS json), receipt = CAST(:receipt AS json),
            last_sequence = :last_sequence
        WHERE id = :answer_id AND process_id = :process_id AND state = 'running'
        RETURNING id, user_id, conversation_id
    ), appended AS (
        INSERT INTO answer_event (answer_id, sequence, user_id, payload)
        SELECT id, :last_sequence, user_id, CAST(:completed AS json) FROM closed
    ), cited AS (
        INSERT INTO answer_citation (answer_id, place, user_id, number, chunk_id, document_id, document_title, page,
                                     quote, start_character, end_character)
        SELECT closed.id, row_number() OVER (), closed.user_id, c.number, c.chunk_id, c.document_id, c.document_title,
               c.page, c.quote, c.start, c."end"
        FROM closed, json_to_recordset(CAST(:citations AS json)) AS c (
            number integer, chunk_id text, document_id uuid, document_title text, page integer, quote text,
            start integer, "end" integer
        )
    ), told AS (
        INSERT INTO trace (request_id, correlation_id, user_id, method, story)
        SELECT :request_id, :correlation_id, user_id, 'Ask', CAST(:story AS jsonb) FROM closed
        WHERE CAST(:story AS jsonb) IS NOT NULL
    ), used AS (
        UPDATE conversation SET updated_at = now() FROM closed WHERE conversation.id = closed.conversation_id
    )
    SELECT id FROM closed
    """
)

_STANDING = text(
    "SELECT state, lease_expires_at < clock_timestamp() AS abandoned, last_sequence, refusal"
    " FROM answer WHERE id = :answer_id AND user_id = :user_id"
)
_EVENTS = text(
    "SELECT sequence, CAST(payload AS text) AS payload FROM answer_event"
    " WHERE answer_id = :answer_id AND sequence > :after_sequence ORDER BY sequence"
)
_REQUEST_CANCEL = text(
    "UPDATE answer SET cancel_requested = true WHERE id = :answer_id AND user_id = :user_id AND state = 'running'"
)
_TAKE_OVER = text(
    """
    UPDATE answer
    SET process_id = :process_id, lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds)
    WHERE id IN (
        SELECT id FROM answer
        WHERE state = 'running' AND process_id <> :process_id
          AND (lease_expires_at < clock_timestamp() OR :others_are_dead)
          AND (CAST(:answer_id AS uuid) IS NULL OR id = :answer_id)
        ORDER BY created_at LIMIT :many FOR UPDATE SKIP LOCKED
    )
    RETURNING id, user_id, conversation_id, request_id, reservation_id, delivered_tokens, last_sequence
    """
)
_FORGET = text(
    "DELETE FROM answer_event USING answer WHERE answer.id = answer_event.answer_id AND answer.state = 'completed'"
    " AND answer_event.created_at < now() - make_interval(days => :days)"
)


class AnswerStore:
    """Reads and writes in the caller's open transaction; rows of other people are never found."""

    async def earlier(self, connection: AsyncConnection, user_id: UUID, request_id: UUID) -> tuple[UUID, bytes] | None:
        """Return the answer that this request made before, with the hash of what it asked."""
        row = (await connection.execute(_EARLIER, {"user_id": user_id, "request_id": request_id})).one_or_none()
        return (row.id, bytes(row.request_hash)) if row else None

    async def turns(self, connection: AsyncConnection, user_id: UUID, conversation_id: UUID) -> list[Turn] | None:
        """Return the latest turns of a conversation, oldest first; None when the caller has no such conversation."""
        key = {"user_id": user_id, "conversation_id": conversation_id}
        if (await connection.execute(_OWNS_CONVERSATION, key)).one_or_none() is None:
            return None
        rows = (await connection.execute(_TURNS, key | {"turns": HISTORY_TURNS})).all()
        return [Turn(row.question, row.content) for row in reversed(rows)]

    async def open(
        self,
        connection: AsyncConnection,
        opening: Opening,
        opened: Sequence[Event],
        *,
        process_id: UUID,
        lease_seconds: float,
        open_limit: int,
    ) -> bool:
        """Store a new answer with its first events; False when the user has `open_limit` unfinished ones."""
        await connection.execute(_ONE_AT_A_TIME, {"user_id": opening.user_id})
        values = {
            "answer_id": opening.answer_id,
            "user_id": opening.user_id,
            "conversation_id": opening.conversation_id,
            "title": opening.question.text.strip()[:TITLE_CHARACTERS],
            "request_id": opening.question.request_id,
            "request_hash": opening.request_hash,
            "question": opening.question.text,
            "detected_language": opening.detected_language.value,
            "reservation_id": opening.reservation_id,
            "max_charge_tokens": opening.max_charge_tokens,
            "process_id": process_id,
            "lease_seconds": lease_seconds,
            "open_limit": open_limit,
            **_rows(opened),
        }
        return (await connection.execute(_OPEN, values)).first() is not None

    async def append(
        self,
        connection: AsyncConnection,
        answer_id: UUID,
        events: Sequence[Event],
        *,
        delivered_tokens: int,
        process_id: UUID,
        lease_seconds: float,
    ) -> bool | None:
        """Store events and renew the lease; None when the answer is no longer ours, else whether to cancel it."""
        values = {
            "answer_id": answer_id,
            "process_id": process_id,
            "lease_seconds": lease_seconds,
            "delivered_tokens": delivered_tokens,
            **_rows(events),
        }
        row = (await connection.execute(_APPEND, values)).one_or_none()
        return None if row is None else bool(row.cancel_requested)

    async def close(
        self,
        connection: AsyncConnection,
        answer_id: UUID,
        closing: Closing,
        completed: Event,
        *,
        process_id: UUID,
        request_id: UUID,
        correlation_id: UUID,
        story: str | None,
    ) -> bool:
        """Store the end of an answer, its citations and its trace; False when the answer is no longer ours."""
        values = {
            "answer_id": answer_id,
            "process_id": process_id,
            "ending": closing.ending.value,
            "content": closing.content,
            "model": closing.model,
            "refusal": closing.refusal,
            "validation": _VALIDATION.dump_json(closing.validation).decode(),
            "receipt": _RECEIPT.dump_json(closing.receipt).decode() if closing.receipt else None,
            "citations": _CITATIONS.dump_json(closing.citations).decode(),
            "last_sequence": completed.sequence,
            "completed": encode(completed.payload),
            "request_id": request_id,
            "correlation_id": correlation_id,
            "story": story,
        }
        return (await connection.execute(_CLOSE, values)).one_or_none() is not None

    async def standing(self, connection: AsyncConnection, user_id: UUID, answer_id: UUID) -> Standing | None:
        """Return where an answer stands, or None when the user has no such answer."""
        row = (await connection.execute(_STANDING, {"user_id": user_id, "answer_id": answer_id})).one_or_none()
        return Standing(State(row.state), row.abandoned, row.last_sequence, row.refusal) if row else None

    async def events(self, connection: AsyncConnection, answer_id: UUID, after_sequence: int) -> list[Event]:
        """Return the stored events after a sequence, in order."""
        values = {"answer_id": answer_id, "after_sequence": after_sequence}
        rows = (await connection.execute(_EVENTS, values)).all()
        return [Event(row.sequence, decode(row.payload)) for row in rows]

    async def request_cancel(self, connection: AsyncConnection, user_id: UUID, answer_id: UUID) -> None:
        """Ask whichever process makes an answer to stop it."""
        await connection.execute(_REQUEST_CANCEL, {"user_id": user_id, "answer_id": answer_id})

    async def take_over(
        self,
        connection: AsyncConnection,
        *,
        process_id: UUID,
        lease_seconds: float,
        answer_id: UUID | None = None,
        others_are_dead: bool = False,
        many: int = 100,
    ) -> list[Orphan]:
        """Become the process of running answers whose lease is over (of all others when those are known dead)."""
        values = {
            "process_id": process_id,
            "lease_seconds": lease_seconds,
            "answer_id": answer_id,
            "others_are_dead": others_are_dead,
            "many": many,
        }
        return [Orphan(*row) for row in (await connection.execute(_TAKE_OVER, values)).all()]

    async def forget(self, connection: AsyncConnection, days: int) -> int:
        """Delete events of completed answers older than `days`; returns how many."""
        return (await connection.execute(_FORGET, {"days": days})).rowcount


def _rows(events: Sequence[Event]) -> dict[str, Any]:
    return {
        "last_sequence": events[-1].sequence,
        "sequences": [event.sequence for event in events],
        "payloads": [encode(event.payload) for event in events],
    }
