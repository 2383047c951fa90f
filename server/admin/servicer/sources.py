"""Web sources on the wire."""

from collections.abc import AsyncIterator
from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc
from server.admin.servicer.messages import Context, duration_message, optional_time_message, time_message
from server.admin.syncs import SyncEvent, Syncs
from server.ingestion.job import Placement
from server.ingestion.sources.service import SourceService
from server.ingestion.sources.source import DEFAULT_MAX_PAGES, Plan, Source
from server.refusal import Invalid, Violation


class SourcesServicing(admin_pb2_grpc.AdminServiceServicer):
    """Sites that the library is kept up to date from."""

    _sources: SourceService
    _syncs: Syncs

    async def CreateSource(
        self, request: admin_pb2.CreateSourceRequest, context: Context
    ) -> admin_pb2.CreateSourceResponse:
        """Add a source."""
        source = await self._sources.create(_plan(request.source, enabled=True), UUID(request.request_id))
        return admin_pb2.CreateSourceResponse(source=source_message(source))

    async def UpdateSource(
        self, request: admin_pb2.UpdateSourceRequest, context: Context
    ) -> admin_pb2.UpdateSourceResponse:
        """Change a source."""
        change = _plan(request.source, enabled=request.source.enabled)
        source = await self._sources.update(
            _id(request.source), change, tuple(request.update_mask.paths), UUID(request.request_id)
        )
        return admin_pb2.UpdateSourceResponse(source=source_message(source))

    async def ListSources(
        self, request: admin_pb2.ListSourcesRequest, context: Context
    ) -> admin_pb2.ListSourcesResponse:
        """List sources."""
        page = await self._sources.list(request.page_size, request.page_token)
        return admin_pb2.ListSourcesResponse(
            sources=[source_message(source) for source in page.items], next_page_token=page.next_page_token
        )

    async def DeleteSource(
        self, request: admin_pb2.DeleteSourceRequest, context: Context
    ) -> admin_pb2.DeleteSourceResponse:
        """Delete a source."""
        await self._sources.delete(UUID(request.source_id), UUID(request.request_id))
        return admin_pb2.DeleteSourceResponse()

    async def SyncSource(
        self, request: admin_pb2.SyncSourceRequest, context: Context
    ) -> AsyncIterator[admin_pb2.SyncEvent]:
        """Sync a source and show what is found."""
        operation_id = await self._syncs.start(UUID(request.source_id), UUID(request.request_id))
        async for event in self._syncs.watch(operation_id):
            yield sync_message(event, operation_id)


def source_message(source: Source) -> admin_pb2.Source:
    """Write a source."""
    plan = source.plan
    return admin_pb2.Source(
        id=str(source.id),
        name=plan.name,
        start_url=plan.start_url,
        namespace=plan.placement.namespace,
        subject=plan.placement.subject,
        grade=plan.placement.grade,
        sync_every=None if plan.sync_every_seconds is None else duration_message(plan.sync_every_seconds),
        max_pages=plan.max_pages,
        enabled=plan.enabled,
        last_synced_at=optional_time_message(source.last_synced_at),
        last_outcome=source.last_outcome,
        last_pages=source.last_pages,
        created_at=time_message(source.created_at),
    )


def sync_message(event: SyncEvent, operation_id: UUID) -> admin_pb2.SyncEvent:
    """Write an event of a sync."""
    message = admin_pb2.SyncEvent(
        sequence=event.sequence,
        pages_fetched=event.pages_fetched,
        pages_ingested=event.pages_ingested,
        operation_id=str(operation_id),
    )
    if event.outcome is not None:
        message.done, message.reason = True, event.outcome
        message.verdict = admin_pb2.PAGE_VERDICT_FAILED if event.failed else admin_pb2.PAGE_VERDICT_UNSPECIFIED
    elif event.page is not None:
        message.url, message.reason = event.page.url, event.page.reason
        message.verdict = admin_pb2.PageVerdict.Value(f"PAGE_VERDICT_{event.page.verdict.name}")
        message.document_id = str(event.page.document_id or "")
    return message


def _plan(source: admin_pb2.Source, *, enabled: bool) -> Plan:
    return Plan(
        name=source.name,
        start_url=source.start_url,
        placement=Placement(source.namespace, source.subject, source.grade),
        sync_every_seconds=source.sync_every.ToSeconds() if source.HasField("sync_every") else None,
        max_pages=source.max_pages or DEFAULT_MAX_PAGES,
        enabled=enabled,
    )


def _id(source: admin_pb2.Source) -> UUID:
    try:
        return UUID(source.id)
    except ValueError:
        raise Invalid(violations=[Violation("source.id", "This is not a UUID.", "string.uuid")]) from None
