"""What happened and how it goes, on the wire."""

import json
from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc
from server.admin.audit import Audit
from server.admin.overview import Overview
from server.admin.service import AdminService
from server.admin.servicer.indexes import index_message
from server.admin.servicer.messages import Context, duration_message, optional_time_message, time_message
from server.retrieval.trace import Span
from server.wallet.servicer import entry_message


class InsightServicing(admin_pb2_grpc.AdminServiceServicer):
    """Traces, the audit trail, and the state of the server."""

    _service: AdminService
    _audit: Audit
    _overview: Overview

    async def GetTrace(self, request: admin_pb2.GetTraceRequest, context: Context) -> admin_pb2.GetTraceResponse:
        """Tell the story of a request."""
        story = await self._service.story(UUID(request.request_id))
        return admin_pb2.GetTraceResponse(
            request_id=request.request_id,
            user_id=str(story.user_id),
            method=story.method,
            started_at=time_message(story.began_at),
            steps=[
                _step(name, json.dumps(detail, ensure_ascii=False, default=str), story.spans.get(name))
                for name, detail in story.steps.items()
            ],
            entries=[entry_message(entry) for entry in story.entries],
        )

    async def ListAuditEvents(
        self, request: admin_pb2.ListAuditEventsRequest, context: Context
    ) -> admin_pb2.ListAuditEventsResponse:
        """List changes."""
        actor_id = UUID(request.actor_id) if request.actor_id else None
        page = await self._audit.events(actor_id, request.object, size=request.page_size, page_token=request.page_token)
        return admin_pb2.ListAuditEventsResponse(
            events=[
                admin_pb2.AuditEvent(
                    id=str(event.id),
                    actor_id=str(event.actor_id or ""),
                    action=event.action,
                    object=event.object,
                    before=event.before,
                    after=event.after,
                    request_id=str(event.request_id),
                    created_at=time_message(event.created_at),
                )
                for event in page.items
            ],
            next_page_token=page.next_page_token,
        )

    async def GetServerInfo(
        self, request: admin_pb2.GetServerInfoRequest, context: Context
    ) -> admin_pb2.GetServerInfoResponse:
        """Return what this server is."""
        info = self._overview.info
        return admin_pb2.GetServerInfoResponse(
            version=info.version,
            schema_revision=info.schema_revision,
            embedding_model=await self._overview.embedding_model(),
            model_chain=info.model_chain,
            limits=info.limits,
            started_at=time_message(info.started_at),
        )

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, context: Context) -> admin_pb2.GetStatusResponse:
        """Return how it goes."""
        status = await self._overview.status()
        return admin_pb2.GetStatusResponse(
            serving=status.serving,
            stores=[
                admin_pb2.StoreStatus(name=name, healthy=up, detail=status.to_do.get(name, ""))
                for name, up in status.stores.items()
            ],
            breakers=[
                admin_pb2.BreakerStatus(service=service, state=state)
                for service, state in sorted(status.breakers.items())
            ],
            queues=[
                admin_pb2.QueueStatus(
                    name=queue.queue, waiting=queue.waiting, running=queue.running, failed=queue.failed
                )
                for queue in status.queues
            ],
            jobs=[
                admin_pb2.JobStatus(
                    name=job.name,
                    last_run_at=optional_time_message(job.finished_at),
                    last_success_at=optional_time_message(job.succeeded_at),
                    last_duration=None if job.duration_seconds is None else duration_message(job.duration_seconds),
                    last_error=job.error,
                )
                for job in status.jobs
            ],
            indexes=[index_message(index) for index in status.indexes],
        )

    async def GetMetrics(self, request: admin_pb2.GetMetricsRequest, context: Context) -> admin_pb2.GetMetricsResponse:
        """Return all metrics."""
        return admin_pb2.GetMetricsResponse(json=await self._overview.metrics())


def _step(name: str, detail: str, span: Span | None) -> admin_pb2.TraceStep:
    step = admin_pb2.TraceStep(name=name, detail=detail)
    if span is not None:
        step.started_after.CopyFrom(duration_message(span.started_after))
        if span.took is not None:
            step.took.CopyFrom(duration_message(span.took))
    return step
