"""AdminService on the wire: read the request, ask the service, write the response."""

import json
from datetime import UTC, datetime
from typing import Any, TypeAlias
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.v1 import access_pb2, admin_pb2, admin_pb2_grpc
from server.admin.audit import Audit
from server.admin.overview import Overview
from server.admin.service import AdminService
from server.auth.directory import UserDirectory
from server.auth.servicer import user_message
from server.caller import Role, Tier
from server.wallet.credits import CreditService
from server.wallet.report import Report
from server.wallet.servicer import check_message, entry_message

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_ROLES = {access_pb2.Role.Value(f"ROLE_{role.name}"): role for role in Role if role is not Role.ANYONE}
_TIERS = {access_pb2.Tier.Value(f"TIER_{tier.name}"): tier for tier in Tier}


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    """People, money, the audit trail, and how the server goes."""

    def __init__(
        self, service: AdminService, directory: UserDirectory, credits: CreditService, audit: Audit, overview: Overview
    ) -> None:
        self._service = service
        self._directory = directory
        self._credits = credits
        self._audit = audit
        self._overview = overview

    async def CheckAccess(
        self, request: admin_pb2.CheckAccessRequest, context: Context
    ) -> admin_pb2.CheckAccessResponse:
        """Say who the caller is."""
        user_id, role, tier = self._service.who()
        return admin_pb2.CheckAccessResponse(
            user_id=str(user_id) if user_id else "",
            role=access_pb2.Role.Value(f"ROLE_{role.upper()}"),
            tier=access_pb2.Tier.Value(f"TIER_{tier.upper()}"),
        )

    async def ListUsers(self, request: admin_pb2.ListUsersRequest, context: Context) -> admin_pb2.ListUsersResponse:
        """List accounts."""
        page = await self._directory.list_users(
            _ROLES.get(request.role), request.query, request.page_size, request.page_token
        )
        return admin_pb2.ListUsersResponse(
            users=[user_message(user) for user in page.items], next_page_token=page.next_page_token
        )

    async def GetUser(self, request: admin_pb2.GetUserRequest, context: Context) -> admin_pb2.GetUserResponse:
        """Return an account."""
        return admin_pb2.GetUserResponse(user=user_message(await self._directory.get_user(UUID(request.user_id))))

    async def UpdateUserRole(
        self, request: admin_pb2.UpdateUserRoleRequest, context: Context
    ) -> admin_pb2.UpdateUserRoleResponse:
        """Change a role."""
        user = await self._directory.update_role(UUID(request.user_id), _ROLES[request.role], UUID(request.request_id))
        return admin_pb2.UpdateUserRoleResponse(user=user_message(user))

    async def UpdateUserTier(
        self, request: admin_pb2.UpdateUserTierRequest, context: Context
    ) -> admin_pb2.UpdateUserTierResponse:
        """Change a tier."""
        user = await self._directory.update_tier(UUID(request.user_id), _TIERS[request.tier], UUID(request.request_id))
        return admin_pb2.UpdateUserTierResponse(user=user_message(user))

    async def SetUserDisabled(
        self, request: admin_pb2.SetUserDisabledRequest, context: Context
    ) -> admin_pb2.SetUserDisabledResponse:
        """Disable or enable an account."""
        user = await self._directory.set_disabled(UUID(request.user_id), request.disabled, UUID(request.request_id))
        return admin_pb2.SetUserDisabledResponse(user=user_message(user))

    async def AdjustBalance(
        self, request: admin_pb2.AdjustBalanceRequest, context: Context
    ) -> admin_pb2.AdjustBalanceResponse:
        """Correct a balance."""
        entry = await self._credits.adjust(
            UUID(request.user_id), request.delta_tokens, request.reason, UUID(request.request_id)
        )
        return admin_pb2.AdjustBalanceResponse(entry=entry_message(entry))

    async def IssueVouchers(
        self, request: admin_pb2.IssueVouchersRequest, context: Context
    ) -> admin_pb2.IssueVouchersResponse:
        """Make voucher codes."""
        expires_at = request.expires_at.ToDatetime(UTC) if request.HasField("expires_at") else None
        batch = await self._credits.issue_vouchers(request.count, request.tokens, expires_at, UUID(request.request_id))
        return admin_pb2.IssueVouchersResponse(batch_id=str(batch.batch_id), codes=batch.codes)

    async def ReconcileWallets(
        self, request: admin_pb2.ReconcileWalletsRequest, context: Context
    ) -> admin_pb2.ReconcileWalletsResponse:
        """Check all money."""
        report: Report = await self._service.reconcile()
        return admin_pb2.ReconcileWalletsResponse(
            ok=report.ok,
            checks=[check_message(check) for check in report.checks],
            checked_at=_time(report.checked_at),
        )

    async def ListDiscrepancies(
        self, request: admin_pb2.ListDiscrepanciesRequest, context: Context
    ) -> admin_pb2.ListDiscrepanciesResponse:
        """List what reconciliations found."""
        page = await self._service.discrepancies(size=request.page_size, page_token=request.page_token)
        return admin_pb2.ListDiscrepanciesResponse(
            discrepancies=[
                admin_pb2.Discrepancy(check=found.check, detail=found.detail, found_at=_time(found.found_at))
                for found in page.items
            ],
            next_page_token=page.next_page_token,
        )

    async def GetTrace(self, request: admin_pb2.GetTraceRequest, context: Context) -> admin_pb2.GetTraceResponse:
        """Tell the story of a request."""
        story = await self._service.story(UUID(request.request_id))
        return admin_pb2.GetTraceResponse(
            request_id=request.request_id,
            steps=[
                admin_pb2.TraceStep(name=name, detail=json.dumps(detail, ensure_ascii=False, default=str))
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
                    created_at=_time(event.created_at),
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
            embedding_model=info.embedding_model,
            model_chain=info.model_chain,
            limits=info.limits,
            started_at=_time(info.started_at),
        )

    async def GetStatus(self, request: admin_pb2.GetStatusRequest, context: Context) -> admin_pb2.GetStatusResponse:
        """Return how it goes."""
        status = await self._overview.status()
        return admin_pb2.GetStatusResponse(
            serving=status.serving,
            stores=[admin_pb2.StoreStatus(name=name, healthy=up) for name, up in status.stores.items()],
            breakers=[
                admin_pb2.BreakerStatus(service=f"{provider.name}/{operation}", state=state)
                for provider in status.breakers
                for operation, state in provider.breakers.items()
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
                    last_run_at=_optional_time(job.finished_at),
                    last_success_at=_optional_time(job.succeeded_at),
                    last_duration=_duration(job.duration_seconds or 0.0),
                    last_error=job.error,
                )
                for job in status.jobs
            ],
            indexes=[
                admin_pb2.Index(
                    name=index.name,
                    embedding_model=index.embedding_model,
                    dimensions=index.dimensions,
                    state=admin_pb2.INDEX_STATE_ACTIVE,
                    expected_count=index.expected_count,
                    actual_count=index.actual_count,
                )
                for index in status.indexes
            ],
        )

    async def GetMetrics(self, request: admin_pb2.GetMetricsRequest, context: Context) -> admin_pb2.GetMetricsResponse:
        """Return all metrics."""
        return admin_pb2.GetMetricsResponse(json=self._overview.metrics())


def _time(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _optional_time(moment: datetime | None) -> Timestamp | None:
    return _time(moment) if moment else None


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
