"""From a refusal to a gRPC status with its details (google.rpc). Pure; the one table of codes.

Every error carries `ErrorInfo{domain: "bacmr", reason}` and `RequestInfo`, at most one detail of each type, and never
the text of an exception.
"""

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import grpc
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from server.edge.heads import REQUEST_ID
from server.refusal import Kind, Refusal

DOMAIN: Final = "bacmr"
DETAILS: Final = "grpc-status-details-bin"
CODES: Final[Mapping[Kind, grpc.StatusCode]] = {
    Kind.INVALID: grpc.StatusCode.INVALID_ARGUMENT,
    Kind.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Kind.FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
    Kind.NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Kind.ALREADY_EXISTS: grpc.StatusCode.ALREADY_EXISTS,
    Kind.EXHAUSTED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Kind.PRECONDITION: grpc.StatusCode.FAILED_PRECONDITION,
    Kind.ABORTED: grpc.StatusCode.ABORTED,
    Kind.OUT_OF_RANGE: grpc.StatusCode.OUT_OF_RANGE,
    Kind.UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    Kind.DEADLINE: grpc.StatusCode.DEADLINE_EXCEEDED,
    Kind.UNIMPLEMENTED: grpc.StatusCode.UNIMPLEMENTED,
}
RETRY_SECONDS: Final[Mapping[Kind, float]] = {Kind.UNAVAILABLE: 1.0, Kind.ABORTED: 0.1}
"""When to come back if the refusal itself does not say; other kinds are not worth a retry."""
INTERNAL_REASON: Final = "INTERNAL"
INTERNAL_SENTENCE: Final = "The server made a mistake; quote the request id to its operators."

Trailers = tuple[tuple[str, str | bytes], ...]


def code_of(refusal: Refusal) -> grpc.StatusCode:
    """Return the status code of a refusal."""
    return CODES[refusal.kind]


def trailers(status: status_pb2.Status, request_id: UUID) -> Trailers:
    """Return the trailing metadata that carries a status."""
    return ((REQUEST_ID, str(request_id)), (DETAILS, status.SerializeToString()))


def status_of(refusal: Refusal, request_id: UUID) -> status_pb2.Status:
    """Return the whole status of a refusal."""
    status = _status(code_of(refusal), str(refusal), refusal.reason, refusal.metadata, request_id)
    for detail in (_bad_request(refusal), _retry_info(refusal), _quota_failure(refusal)):
        if detail is not None:
            status.details.add().Pack(detail)
    return status


def internal(request_id: UUID) -> status_pb2.Status:
    """Return the status of a fault of ours, which says nothing but how to ask about it."""
    return _status(grpc.StatusCode.INTERNAL, INTERNAL_SENTENCE, INTERNAL_REASON, {}, request_id)


def _status(
    code: grpc.StatusCode, message: str, reason: str, metadata: Mapping[str, str], request_id: UUID
) -> status_pb2.Status:
    status = status_pb2.Status(code=code.value[0], message=message)
    status.details.add().Pack(error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason, metadata=metadata))
    status.details.add().Pack(error_details_pb2.RequestInfo(request_id=str(request_id)))
    return status


def _bad_request(refusal: Refusal) -> error_details_pb2.BadRequest | None:
    if not refusal.violations:
        return None
    detail = error_details_pb2.BadRequest()
    for violation in refusal.violations:
        detail.field_violations.add(
            field=violation.field,
            description=violation.description,
            reason=violation.rule.upper().replace(".", "_"),
        )
    return detail


def _retry_info(refusal: Refusal) -> error_details_pb2.RetryInfo | None:
    seconds = refusal.retry_after_seconds
    if seconds is None:
        seconds = RETRY_SECONDS.get(refusal.kind)
    if seconds is None:
        return None
    delay = Duration()
    delay.FromNanoseconds(int(max(seconds, 0.0) * 1e9))
    return error_details_pb2.RetryInfo(retry_delay=delay)


def _quota_failure(refusal: Refusal) -> error_details_pb2.QuotaFailure | None:
    if refusal.kind is not Kind.EXHAUSTED:
        return None
    detail = error_details_pb2.QuotaFailure()
    detail.violations.add(subject=refusal.metadata.get("scope", "caller"), description=str(refusal))
    return detail
