"""SQL of what model calls used, and of the charges that do not fit it."""

from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

UNCLOSED = "15 minutes"
"""A process that died is recovered long before; until then its charge may stand without a final record."""

RECORD = text("SELECT usage_record(:reservation_id, :user_id, :purpose, :model, :used_tokens, :owed_tokens)")
# Other backends hold for work of their own: only what users' own questions and quizzes hold is compared.
_COMPARED = (
    "SELECT coalesce(u.reservation_id, r.id) AS id, u.user_id, u.used_tokens, u.owed_tokens, r.user_id AS payer_id,"
    " r.status, r.actual_tokens, r.charged_tokens, r.resolved_at"
    " FROM (SELECT * FROM reservation WHERE requested_by = user_id AND purpose IN ('ask', 'quiz')) r"
    " FULL JOIN model_usage u ON u.reservation_id = r.id"
)
PROBLEMS = text(
    f"""
    WITH compared AS ({_COMPARED}), judged AS (
        SELECT c.*, CASE
            WHEN payer_id IS NULL THEN 'used something without a reservation'
            WHEN user_id IS NULL AND actual_tokens > 0 AND resolved_at < clock_timestamp() - interval '{UNCLOSED}'
                THEN 'was charged without a recorded use'
            WHEN user_id <> payer_id THEN 'was paid for by somebody else'
            WHEN status = 'finalized' AND used_tokens IS NOT NULL AND actual_tokens <> owed_tokens
                THEN 'was not charged what is owed'
            WHEN status = 'released' AND owed_tokens > 0 THEN 'was given back although something is owed'
        END AS problem FROM compared c
    )
    SELECT format('reservation %s %s: owed %s, charged %s', id, problem, owed_tokens, charged_tokens) FROM judged
    WHERE problem IS NOT NULL ORDER BY id
    """
)
TOTALS = text(
    f"SELECT coalesce(sum(used_tokens), 0) AS used, coalesce(sum(charged_tokens), 0) AS charged"
    f" FROM ({_COMPARED}) c WHERE used_tokens IS NOT NULL"
)


class UsageStore:
    """Reads and writes in the caller's open transaction."""

    async def record(
        self,
        connection: AsyncConnection,
        reservation_id: UUID,
        user_id: UUID,
        purpose: str,
        *,
        model: str,
        used_tokens: int,
        owed_tokens: int,
    ) -> None:
        """Say anew what one reservation's calls have used."""
        values = {
            "reservation_id": reservation_id,
            "user_id": user_id,
            "purpose": purpose,
            "model": model,
            "used_tokens": used_tokens,
            "owed_tokens": owed_tokens,
        }
        await connection.execute(RECORD, values)

    async def problems(self, connection: AsyncConnection) -> list[str]:
        """Return every charge that does not fit what was used. For operators."""
        return [str(problem) for (problem,) in await connection.execute(PROBLEMS)]

    async def totals(self, connection: AsyncConnection) -> tuple[int, int]:
        """Return the tokens that were used, as far as known, and what was charged for them."""
        row = (await connection.execute(TOTALS)).one()
        return int(row.used), int(row.charged)
