"""Reconciliation of charges with what the model calls of answers and quizzes used."""

from uuid import UUID

from server.database.pool import Connection
from server.retrieval.store import UsageStore
from server.wallet.report import Check

CHECK = "charges_match_usage"
SHOWN = 5


async def record_use(
    connection: Connection,
    reservation_id: UUID,
    user_id: UUID,
    purpose: str,
    *,
    model: str,
    used_tokens: int,
    owed_tokens: int,
) -> None:
    """Say anew what the model calls of a reservation have used so far, in the transaction that delivers it."""
    await UsageStore().record(
        connection, reservation_id, user_id, purpose, model=model, used_tokens=used_tokens, owed_tokens=owed_tokens
    )


async def charges_match_usage(connection: Connection) -> Check:
    """Compare both ways, in the caller's transaction; says how much of what was used is not charged. For operators."""
    store = UsageStore()
    problems = await store.problems(connection)
    if problems:
        return Check(CHECK, False, f"{len(problems)} found: {'; '.join(problems[:SHOWN])}", len(problems))
    used, charged = await store.totals(connection)
    return Check(CHECK, True, f"nothing found; {used} tokens used, {max(used - charged, 0)} of them not charged")
