"""Operators' use cases that no other room owns: reconciliations kept, and the story of a request."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from server.admin.store.audit import AdminStore, Discrepancy
from server.caller import current
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Database
from server.refusal import NotFound
from server.retrieval.conversations import ConversationService
from server.retrieval.trace import Span
from server.wallet.ledger import Entry
from server.wallet.report import Report
from server.wallet.service import WalletService


@dataclass(frozen=True, slots=True)
class Story:
    """What one request did and the money it moved. `steps` is what was noted on the way, without secrets.

    `spans` holds the steps whose time was measured.

    `user_id` and `began_at` are those of the first entry for a request that only moved money; `method` is then empty.
    """

    request_id: UUID
    user_id: UUID
    method: str
    began_at: datetime
    steps: Mapping[str, Any]
    spans: Mapping[str, Span]
    entries: tuple[Entry, ...]


class AdminService:
    """Reads and checks; it never repairs."""

    def __init__(self, database: Database, wallet: WalletService, conversations: ConversationService) -> None:
        self._database = database
        self._store = AdminStore()
        self._wallet = wallet
        self._conversations = conversations

    async def reconcile(self) -> Report:
        """Check all money and keep what was found."""
        report = await self._wallet.reconcile()
        async with self._database.transaction() as connection:
            problems = {check.name: check.problems for check in report.checks}
            await self._store.note_problems(connection, problems, report.checked_at)
            for check in report.checks:
                if not check.ok:
                    await self._store.add_discrepancy(connection, check.name, check.detail)
        return report

    async def problems(self) -> dict[str, int]:
        """Return how many problems each check of the last reconciliation found, whichever process reconciled."""
        async with self._database.transaction() as connection:
            return await self._store.noted_problems(connection)

    async def discrepancies(self, *, size: int, page_token: str) -> Page[Discrepancy]:
        """List what reconciliations found, newest first."""
        size = page_size(size)
        after = position(page_token, "discrepancies", datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._store.discrepancies(connection, after, size + 1)
        return cut(rows, size, "discrepancies", lambda found: (found.found_at, found.id))

    async def story(self, request_id: UUID) -> Story:
        """Tell what a request did, by its own id or by the x-request-id of its call. Raises NotFound."""
        entries = tuple(await self._wallet.caused_entries(request_id))
        try:
            told = await self._conversations.trace(request_id)
        except NotFound:
            if not entries:
                raise
            return Story(request_id, entries[0].user_id, "", entries[0].created_at, {}, {}, entries)
        return Story(request_id, told.user_id, told.method, told.began_at, told.steps, told.spans, entries)

    def who(self) -> tuple[UUID | None, str, str]:
        """Return the caller's id, role and tier."""
        caller = current()
        return caller.user_id, caller.role.value, caller.tier.value
