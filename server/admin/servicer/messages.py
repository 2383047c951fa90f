"""Values that several of the operators' messages hold."""

from datetime import datetime
from typing import Any, TypeAlias

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"


def time_message(moment: datetime) -> Timestamp:
    """Return a moment with its zone as a timestamp."""
    timestamp = Timestamp()
    timestamp.FromDatetime(moment)
    return timestamp


def optional_time_message(moment: datetime | None) -> Timestamp | None:
    """Return a timestamp, or None to leave the field unset."""
    return time_message(moment) if moment else None


def duration_message(seconds: float) -> Duration:
    """Return seconds as a duration."""
    duration = Duration()
    duration.FromMicroseconds(round(seconds * 1_000_000))
    return duration
