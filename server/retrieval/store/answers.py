"""Answers in the making: what a process does with those it makes, and taking over from dead processes."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from psycopg.errors import UniqueViolation
from pydantic import TypeAdapter
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from server.database.session import Session
from server.models.port import Turn
from server.retrieval.answer import HISTORY_TURNS, TITLE_CHARACTERS, Closing, Opening, Orphan, Standing, State
from server.retrieval.events import Citation, Event, Validation, decode, encode
from server.text.fold import one_line
from server.wallet.reservation import Receipt

_RECEIPT = TypeAdapter(Receipt)
_VALIDATION = TypeAdapter(Validation)
_CITATIONS = TypeAdapter(tuple[Citation, ...])

SETTLE_KEY = "reservation_resolve_request"
"""The unique key where two settlements under one id meet."""

# The hot path: one round trip each.
EARLIER = "SELECT answer_id, request_hash FROM answer_earlier($1, $2)"
BEGIN = (
    "SELECT outcome, known_id, available, expired"
    " FROM answer_begin($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)"
)
APPEND = "SELECT answer_append($1, $2, $3, $4, $5, $6)"
END = (
    "SELECT outcome, CAST(receipt AS text), settled, expired"
    " FROM answer_end($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16)"
)

OWNS_CONVERSATION = text("SELECT 1 FROM conversation WHERE id = :conversation_id AND user_id = :user_id")
TURNS = text(
    "SELECT question, content FROM answer"
    " WHERE conversation_id = :conversation_id AND user_id = :user_id AND state = 'completed' AND content <> ''"
    " ORDER BY created_at DESC, id DESC LIMIT :turns"
)
STANDING = text(
    "SELECT state, lease_expires_at < clock_timestamp() AS abandoned, last_sequence"
    " FROM answer WHERE id = :answer_id AND user_id = :user_id"
)
EVENTS = text(
    "SELECT sequence, CAST(payload AS text) AS payload FROM answer_event"
    " WHERE answer_id = :answer_id AND sequence > :after_sequence ORDER BY sequence"
)
REQUEST_CANCEL = text(
    "UPDATE answer SET cancel_requested = true WHERE id = :answer_id AND user_id = :user_id AND state = 'running'"
)
TAKE_OVER = text(
    "UPDATE answer SET process_id = :process_id,"
    " lease_expires_at = clock_timestamp() + make_interval(secs => :lease_seconds)"
    " WHERE id IN (SELECT id FROM answer WHERE state = 'running'"
    "  AND (lease_expires_at < clock_timestamp() OR :others_are_dead AND process_id <> :process_id)"
    "  AND (CAST(:answer_id AS uuid) IS NULL OR id = :answer_id)"
    "  ORDER BY created_at LIMIT :many FOR UPDATE SKIP LOCKED)"
    " RETURNING id, user_id, conversation_id, request_id, reservation_id, delivered_tokens, last_sequence"
)
FORGET = text(
    "DELETE FROM answer_event USING answer WHERE answer.id = answer_event.answer_id AND answer.state = 'completed'"
    " AND answer_event.created_at < now() - make_interval(days => :days)"
)


@dataclass(frozen=True, slots=True)
class Begun:
    """`outcome`: opened, known, reused, too_many, insufficient, no_wallet. A known answer comes with its id.

    `available_tokens` is what the wallet could hold, where it was asked; `expired` overdue holds were settled on the
    way.
    """

    outcome: str
    known_id: UUID | None
    available_tokens: int
    expired: int


@dataclass(frozen=True, slots=True)
class Ended:
    """`outcome`: ended, lost, reused. `settled` is what the hold became by this; `expired` overdue ones went too."""

    outcome: str
    receipt: Receipt | None
    settled: str | None
    expired: int


class AnswerStore:
    """What a process does with the answers it makes. Methods on a session name the user; the server says who it is."""

    async def earlier(self, session: Session, user_id: UUID, request_id: UUID) -> tuple[UUID, bytes] | None:
        """Return the answer that a request made before, with the hash of what it asked."""
        answer_id, request_hash = await session.call(EARLIER, (user_id, request_id))
        return (answer_id, request_hash) if answer_id else None

    async def begin(
        self,
        session: Session,
        opening: Opening,
        opened: Sequence[Event],
        *,
        method: str,
        process_id: UUID,
        lease_seconds: float,
        open_limit: int,
        hold_seconds: int,
        call_id: UUID,
    ) -> Begun:
        """Hold an answer's price and store it with its first events: both, or neither."""
        question = opening.question
        values = (
            opening.answer_id,
            opening.user_id,
            opening.conversation_id,
            one_line(question.text)[:TITLE_CHARACTERS],
            method,
            question.request_id,
            opening.request_hash,
            question.text,
            opening.detected_language.value,
            opening.reservation_id,
            opening.max_charge_tokens,
            process_id,
            lease_seconds,
            open_limit,
            _payloads(opened),
            hold_seconds,
            call_id,
        )
        outcome, known_id, available, expired = await session.call(BEGIN, values)
        return Begun(outcome, known_id, available or 0, expired)

    async def append(
        self,
        session: Session,
        answer_id: UUID,
        events: Sequence[Event],
        *,
        delivered_tokens: int,
        process_id: UUID,
        lease_seconds: float,
    ) -> str:
        """Store events, record what they deliver, renew the lease. Returns `stored`, `cancel` or `lost`."""
        after = events[0].sequence - 1
        values = (answer_id, process_id, lease_seconds, after, _payloads(events), delivered_tokens)
        (outcome,) = await session.call(APPEND, values)
        return str(outcome)

    async def end(
        self,
        session: Session,
        answer_id: UUID,
        closing: Closing,
        last: Sequence[Event],
        *,
        process_id: UUID,
        correlation_id: UUID,
        story: str | None,
        settle_id: UUID,
        call_id: UUID,
    ) -> Ended:
        """Settle a hold under `settle_id` and store its answer's end, last events and trace: all, or nothing."""
        values = (
            answer_id,
            process_id,
            last[0].sequence - 1,
            _payloads(last),
            closing.ending.value,
            closing.content,
            closing.model,
            closing.refusal,
            _VALIDATION.dump_json(closing.validation).decode(),
            _CITATIONS.dump_json(closing.citations).decode(),
            correlation_id,
            story,
            closing.used_tokens,
            closing.owed_tokens,
            settle_id,
            call_id,
        )
        try:
            outcome, receipt, settled, expired = await session.call(END, values)
        except UniqueViolation as error:
            if error.diag.constraint_name != SETTLE_KEY:
                raise
            return Ended("reused", None, None, 0)
        return Ended(outcome, _RECEIPT.validate_json(receipt) if receipt else None, settled, expired)

    async def turns(self, connection: AsyncConnection, user_id: UUID, conversation_id: UUID) -> list[Turn] | None:
        """Return the latest turns of a conversation, oldest first; None when the caller has no such conversation."""
        key = {"user_id": user_id, "conversation_id": conversation_id}
        if (await connection.execute(OWNS_CONVERSATION, key)).one_or_none() is None:
            return None
        rows = (await connection.execute(TURNS, key | {"turns": HISTORY_TURNS})).all()
        return [Turn(row.question, row.content) for row in reversed(rows)]

    async def standing(self, connection: AsyncConnection, user_id: UUID, answer_id: UUID) -> Standing | None:
        """Return where an answer stands, or None when the user has no such answer."""
        row = (await connection.execute(STANDING, {"user_id": user_id, "answer_id": answer_id})).one_or_none()
        return Standing(State(row.state), row.abandoned, row.last_sequence) if row else None

    async def events(self, connection: AsyncConnection, answer_id: UUID, after_sequence: int) -> list[Event]:
        """Return the stored events after a sequence, in order."""
        values = {"answer_id": answer_id, "after_sequence": after_sequence}
        rows = (await connection.execute(EVENTS, values)).all()
        return [Event(row.sequence, decode(row.payload)) for row in rows]

    async def request_cancel(self, connection: AsyncConnection, user_id: UUID, answer_id: UUID) -> None:
        """Ask whichever process makes an answer to stop it."""
        await connection.execute(REQUEST_CANCEL, {"user_id": user_id, "answer_id": answer_id})

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
        """Become the process of running answers whose lease is over (of all others' when those are known dead).

        Also of this process's own: one that it took over and could not close must not wait for another process.
        """
        values = {
            "process_id": process_id,
            "lease_seconds": lease_seconds,
            "answer_id": answer_id,
            "others_are_dead": others_are_dead,
            "many": many,
        }
        return [Orphan(*row) for row in (await connection.execute(TAKE_OVER, values)).all()]

    async def forget(self, connection: AsyncConnection, days: int) -> int:
        """Delete events of completed answers older than `days`; returns how many."""
        return (await connection.execute(FORGET, {"days": days})).rowcount


def _payloads(events: Sequence[Event]) -> str:
    """Return events as one JSON array, whose elements PostgreSQL keeps as they are written."""
    return f"[{','.join(encode(event.payload) for event in events)}]"
