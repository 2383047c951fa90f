"""Web sources as operators keep them: made, changed, listed, deleted; each change once and audited."""

from collections.abc import Awaitable, Collection, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Protocol
from uuid import UUID

from server.database.once import Once
from server.database.pages import Page, cut, page_size, position
from server.database.pool import Connection, Database
from server.ingestion.sources.address import canonical
from server.ingestion.sources.reach import Reach
from server.ingestion.sources.source import Plan, Source, merged, sensible
from server.ingestion.store.source_pages import SourcePageStore
from server.ingestion.store.sources import SourceStore
from server.refusal import AlreadyExists, IllegalState, Invalid, NotFound, SourceRefused, Violation


class Audit(Protocol):
    """Adds a change to the audit trail, in the transaction that makes it."""

    def __call__(
        self, connection: Connection, action: str, object: str, before: object, after: object
    ) -> Awaitable[None]:
        """Record what changed, from what to what."""
        ...


class SourceService:
    """Use cases around sources; `SourceSync` fetches them."""

    def __init__(self, database: Database, once: Once, audit: Audit, reach: Reach) -> None:
        self._database = database
        self._once = once
        self._audit = audit
        self._reach = reach
        self._sources = SourceStore()
        self._pages = SourcePageStore()

    async def create(self, plan: Plan, request_id: UUID) -> Source:
        """Add a source. Raises Invalid, SourceRefused for a host that is not allowed, and AlreadyExists."""

        async def effect(connection: Connection) -> Source:
            source = await self._sources.add(connection, self._checked(plan))
            if source is None:
                raise AlreadyExists("Another source starts at this address.")
            await self._audit(connection, "CreateSource", _object(source.id), None, source.plan)
            return source

        return await self._once.run("CreateSource", request_id, plan, Source, effect)

    async def update(self, source_id: UUID, change: Plan, paths: Collection[str], request_id: UUID) -> Source:
        """Change the fields that `paths` names; documents follow a changed placement with the next sync.

        Raises NotFound, Invalid, SourceRefused for a host that is not allowed, and AlreadyExists.
        """

        async def effect(connection: Connection) -> Source:
            before = _found(await self._sources.get(connection, source_id, lock=True))
            plan = merged(before.plan, change, paths)
            # A host that is no longer allowed does not keep the rest from being changed.
            plan = sensible(plan) if plan.start_url == before.plan.start_url else self._checked(plan)
            source = await self._sources.change(connection, source_id, plan)
            if source is None:
                raise AlreadyExists("Another source starts at this address.")
            if plan.placement != before.plan.placement:
                await self._pages.look_again(connection, source_id)
            await self._audit(connection, "UpdateSource", _object(source_id), before.plan, source.plan)
            return source

        asked = (source_id, change, sorted(paths))
        return await self._once.run("UpdateSource", request_id, asked, Source, effect)

    async def list(self, requested_size: int, page_token: str) -> Page[Source]:
        """Return a page of the sources, newest first."""
        size = page_size(requested_size)
        after = position(page_token, "sources", datetime, UUID)
        async with self._database.transaction() as connection:
            rows = await self._sources.list(connection, after, size + 1)
        return cut(rows, size, "sources", key=lambda source: (source.created_at, source.id))

    async def delete(self, source_id: UUID, request_id: UUID) -> None:
        """Delete a source and what was seen of it; its documents stay, a running sync ends. Raises NotFound."""

        async def effect(connection: Connection) -> bool:
            source = _found(await self._sources.get(connection, source_id, lock=True))
            await self._pages.forget(connection, source_id)
            await self._sources.delete(connection, source_id)
            await self._audit(connection, "DeleteSource", _object(source_id), source.plan, None)
            return True

        await self._once.run("DeleteSource", request_id, source_id, bool, effect)

    async def ready(self, connection: Connection, source_id: UUID) -> Source:
        """Return a source that may be synced now.

        Raises NotFound, IllegalState for a paused one and SourceRefused for a host that is no longer allowed.
        """
        source = _found(await self._sources.get(connection, source_id))
        if not source.plan.enabled:
            raise IllegalState("The source is paused; enable it first.", state="paused")
        self._reach.require(source.plan.start_url)
        return source

    async def active(self, source_id: UUID) -> bool:
        """Say whether a source is still there and not paused."""
        async with self._database.transaction() as connection:
            source = await self._sources.get(connection, source_id)
        return source is not None and source.plan.enabled

    async def due(self, connection: Connection) -> Sequence[UUID]:
        """Return the sources whose next scheduled sync is due, the longest waiting first."""
        return await self._sources.due(connection)

    async def ended(self, connection: Connection, source_id: UUID, outcome: str, pages: int) -> None:
        """Note how a sync ended, in words, and how many pages it looked at."""
        await self._sources.ended(connection, source_id, outcome, pages)

    def _checked(self, plan: Plan) -> Plan:
        """Return a plan with the one spelling of its address. Raises Invalid and SourceRefused."""
        try:
            address = canonical(plan.start_url)
        except SourceRefused as refused:
            raise Invalid(violations=[Violation("source.start_url", str(refused), "uri")]) from None
        checked = replace(sensible(plan), start_url=address)
        self._reach.require(address)
        return checked


def _object(source_id: UUID) -> str:
    return f"source/{source_id}"


def _found(source: Source | None) -> Source:
    if source is None:
        raise NotFound
    return source
