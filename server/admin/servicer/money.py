"""Corrections, vouchers and reconciliations on the wire."""

from datetime import UTC
from uuid import UUID

from bacmr.v1 import admin_pb2, admin_pb2_grpc
from server.admin.service import AdminService
from server.admin.servicer.messages import Context, time_message
from server.wallet.credits import CreditService
from server.wallet.report import Report
from server.wallet.servicer import check_message, entry_message


class MoneyServicing(admin_pb2_grpc.AdminServiceServicer):
    """Money that operators move, and the proof that all of it is there."""

    _service: AdminService
    _credits: CreditService

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
        batch = await self._credits.issue_vouchers(
            request.count, request.tokens, expires_at, UUID(request.request_id), request.note
        )
        return admin_pb2.IssueVouchersResponse(batch_id=str(batch.batch_id), codes=batch.codes)

    async def ReconcileWallets(
        self, request: admin_pb2.ReconcileWalletsRequest, context: Context
    ) -> admin_pb2.ReconcileWalletsResponse:
        """Check all money."""
        report: Report = await self._service.reconcile()
        return admin_pb2.ReconcileWalletsResponse(
            ok=report.ok,
            checks=[check_message(check) for check in report.checks],
            checked_at=time_message(report.checked_at),
        )

    async def ListDiscrepancies(
        self, request: admin_pb2.ListDiscrepanciesRequest, context: Context
    ) -> admin_pb2.ListDiscrepanciesResponse:
        """List what reconciliations found."""
        page = await self._service.discrepancies(size=request.page_size, page_token=request.page_token)
        return admin_pb2.ListDiscrepanciesResponse(
            discrepancies=[
                admin_pb2.Discrepancy(check=found.check, detail=found.detail, found_at=time_message(found.found_at))
                for found in page.items
            ],
            next_page_token=page.next_page_token,
        )
