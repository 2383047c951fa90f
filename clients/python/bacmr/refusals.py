"""Why a call failed, read from the details that every BacMR error carries."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TypeVar

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

M = TypeVar("M", bound=Message)
_DETAILS = "grpc-status-details-bin"


@dataclass(frozen=True, slots=True)
class Refusal:
    """A failed call: its status, BacMR's reason, what to fix, when to retry, and the id to quote to operators."""

    code: grpc.StatusCode
    sentence: str
    reason: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    request_id: str = ""
    retry_after_seconds: float | None = None
    violations: tuple[tuple[str, str], ...] = ()
    """Pairs of field path and description."""

    def __str__(self) -> str:
        """One line for people."""
        fixes = "; ".join(f"{path}: {text}" for path, text in self.violations if text.rstrip(".") not in self.sentence)
        notes = ", ".join(f"{key}={value}" for key, value in sorted(self.metadata.items()))
        tail = " ".join(part for part in (fixes, f"({notes})" if notes else "") if part)
        return f"{self.reason or self.code.name}: {self.sentence}" + (f" {tail}" if tail else "")


def refusal(error: grpc.RpcError | grpc.aio.AioRpcError) -> Refusal:
    """Read a failed call. Works for synchronous and asyncio errors; missing details leave fields empty."""
    status = status_pb2.Status()
    for key, value in tuple(error.trailing_metadata() or ()):
        if key == _DETAILS:
            status.MergeFromString(value if isinstance(value, bytes) else value.encode("latin1"))
    info, request, retry, bad = (
        _detail(status.details, kind)
        for kind in (
            error_details_pb2.ErrorInfo,
            error_details_pb2.RequestInfo,
            error_details_pb2.RetryInfo,
            error_details_pb2.BadRequest,
        )
    )
    return Refusal(
        code=error.code(),
        sentence=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        request_id=request.request_id,
        retry_after_seconds=retry.retry_delay.ToMicroseconds() / 1e6 if retry.HasField("retry_delay") else None,
        violations=tuple((violation.field, violation.description) for violation in bad.field_violations),
    )


def _detail(details: Iterable[AnyMessage], kind: type[M]) -> M:
    message = kind()
    for detail in details:
        if detail.Is(kind.DESCRIPTOR):  # type: ignore[arg-type]
            detail.Unpack(message)
    return message
