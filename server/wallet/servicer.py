"""WalletService on the wire: read the request, ask the service, write the response."""

from dataclasses import replace
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from bacmr.v1 import wallet_pb2, wallet_pb2_grpc
from server.wallet.credits import CreditService
from server.wallet.ledger import Entry, Kind
from server.wallet.report import Check
from server.wallet.reservation import Receipt, Reservation, Status
from server.wallet.service import WalletService

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"

_STATUSES = {status: wallet_pb2.ReservationStatus.Value(f"RESERVATION_STATUS_{status.name}") for status in Status}
_STATUS_OF = {number: status for status, number in _STATUSES.items()}
_KINDS = {kind: wallet_pb2.LedgerKind.Value(f"LEDGER_KIND_{kind.name}") for kind in Kind}


class WalletServicer(wallet_pb2_grpc.WalletServiceServicer):
    """Translates between protobuf and the wallet's services."""

    def __init__(self, wallet: WalletService, credits: CreditService) -> None:
        """Answer from both services."""
        self._wallet = wallet
        self._credits = credits

    async def GetBalance(
        self, request: wallet_pb2.GetBalanceRequest, context: Context
    ) -> wallet_pb2.GetBalanceResponse:
        """Return a balance."""
        balance = await self._wallet.balance(_optional(request.user_id))
        return wallet_pb2.GetBalanceResponse(
            available_tokens=balance.available_tokens,
            held_tokens=balance.held_tokens,
            posted_tokens=balance.posted_tokens,
        )

    async def ListReservations(
        self, request: wallet_pb2.ListReservationsRequest, context: Context
    ) -> wallet_pb2.ListReservationsResponse:
        """List reservations."""
        page = await self._wallet.reservations(
            _optional(request.user_id),
            _STATUS_OF.get(request.status),
            size=request.page_size,
            page_token=request.page_token,
        )
        return wallet_pb2.ListReservationsResponse(
            reservations=[_reservation(reservation) for reservation in page.items],
            next_page_token=page.next_page_token,
        )

    async def GetReservation(
        self, request: wallet_pb2.GetReservationRequest, context: Context
    ) -> wallet_pb2.GetReservationResponse:
        """Return a reservation."""
        reservation = await self._wallet.reservation(UUID(request.reservation_id))
        return wallet_pb2.GetReservationResponse(reservation=_reservation(reservation))

    async def ListLedgerEntries(
        self, request: wallet_pb2.ListLedgerEntriesRequest, context: Context
    ) -> wallet_pb2.ListLedgerEntriesResponse:
        """List ledger entries."""
        page = await self._wallet.entries(
            _optional(request.user_id), size=request.page_size, page_token=request.page_token
        )
        return wallet_pb2.ListLedgerEntriesResponse(
            entries=[entry_message(entry) for entry in page.items], next_page_token=page.next_page_token
        )

    async def RedeemVoucher(
        self, request: wallet_pb2.RedeemVoucherRequest, context: Context
    ) -> wallet_pb2.RedeemVoucherResponse:
        """Redeem a voucher."""
        redemption = await self._credits.redeem(request.code, UUID(request.request_id))
        return wallet_pb2.RedeemVoucherResponse(tokens=redemption.tokens, balance_tokens=redemption.balance_tokens)

    async def Reserve(self, request: wallet_pb2.ReserveRequest, context: Context) -> wallet_pb2.ReserveResponse:
        """Hold tokens. A retry gets the first answer, whatever has become of the reservation since."""
        reservation = await self._wallet.reserve(
            UUID(request.user_id), request.estimate_tokens, request.purpose, UUID(request.request_id)
        )
        first = replace(reservation, status=Status.HELD, charged_tokens=0, resolved_at=None)
        return wallet_pb2.ReserveResponse(reservation=_reservation(first))

    async def Finalize(self, request: wallet_pb2.FinalizeRequest, context: Context) -> wallet_pb2.FinalizeResponse:
        """Charge a reservation."""
        receipt = await self._wallet.finalize(
            UUID(request.reservation_id), request.actual_tokens, UUID(request.request_id)
        )
        return wallet_pb2.FinalizeResponse(receipt=receipt_message(receipt))

    async def Release(self, request: wallet_pb2.ReleaseRequest, context: Context) -> wallet_pb2.ReleaseResponse:
        """Give a reservation back."""
        receipt = await self._wallet.release(UUID(request.reservation_id), UUID(request.request_id))
        return wallet_pb2.ReleaseResponse(receipt=receipt_message(receipt))

    async def VerifyLedger(
        self, request: wallet_pb2.VerifyLedgerRequest, context: Context
    ) -> wallet_pb2.VerifyLedgerResponse:
        """Check a wallet's books."""
        found = await self._wallet.verify(_optional(request.user_id))
        return wallet_pb2.VerifyLedgerResponse(ok=found.ok, checks=[check_message(check) for check in found.checks])


def entry_message(entry: Entry) -> wallet_pb2.LedgerEntry:
    """Write a ledger entry."""
    return wallet_pb2.LedgerEntry(
        id=str(entry.id),
        user_id=str(entry.user_id),
        sequence=entry.sequence,
        kind=_KINDS[entry.kind],
        debit_account=entry.debit_account,
        credit_account=entry.credit_account,
        amount_tokens=entry.amount_tokens,
        balance_after_tokens=entry.balance_after_tokens,
        reservation_id=str(entry.reservation_id or ""),
        request_id=str(entry.request_id),
        reason=entry.reason,
        hash=entry.hash,
        created_at=_timestamp(entry.created_at),
    )


def check_message(check: Check) -> wallet_pb2.Check:
    """Write one named check."""
    return wallet_pb2.Check(name=check.name, ok=check.ok, detail=check.detail)


def _reservation(reservation: Reservation) -> wallet_pb2.Reservation:
    message = wallet_pb2.Reservation(
        id=str(reservation.id),
        user_id=str(reservation.user_id),
        status=_STATUSES[reservation.status],
        estimate_tokens=reservation.estimate_tokens,
        charged_tokens=reservation.charged_tokens,
        purpose=reservation.purpose,
        created_at=_timestamp(reservation.created_at),
        expires_at=_timestamp(reservation.expires_at),
        request_id=str(reservation.request_id),
    )
    if reservation.resolved_at:
        message.resolved_at.CopyFrom(_timestamp(reservation.resolved_at))
    return message


def receipt_message(receipt: Receipt) -> wallet_pb2.Receipt:
    """Write a receipt."""
    return wallet_pb2.Receipt(
        reserved_tokens=receipt.reserved_tokens,
        charged_tokens=receipt.charged_tokens,
        refunded_tokens=receipt.refunded_tokens,
        written_off_tokens=receipt.written_off_tokens,
        balance_tokens=receipt.balance_tokens,
        request_id=str(receipt.request_id),
        reservation_id=str(receipt.reservation_id),
    )


def _timestamp(moment: datetime) -> Timestamp:
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def _optional(id: str) -> UUID | None:
    return UUID(id) if id else None
