"""Long-running work as a value, and what its runner may say and hear while it runs."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol
from uuid import UUID


class OperationState(StrEnum):
    """Where an operation stands."""

    PENDING = "pending"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Say whether nothing more will happen."""
        return self not in (OperationState.PENDING, OperationState.RUNNING)


@dataclass(frozen=True, slots=True)
class Operation:
    """Work of a `kind` on an `object`; `task` is what was asked, `result` what came of it, both JSON values.

    `done` of `total` (0 while unknown) are units of the running `stage`.
    """

    id: UUID
    kind: str
    object: str
    task: Mapping[str, Any]
    state: OperationState
    stage: str
    done: int
    total: int
    result: Mapping[str, Any]
    error: str
    request_id: UUID
    created_at: datetime
    updated_at: datetime


class Stopped(Exception):
    """Somebody cancelled the operation: its runner cleans up and lets this pass."""


class Progress(Protocol):
    """A runner's line to whoever watches."""

    async def report(self, stage: str, done: int = 0, total: int = 0) -> None:
        """Keep how far the work is. Raises Stopped once somebody asked for that."""


Runner = Callable[[Operation, Progress], Awaitable[Mapping[str, Any]]]
"""Does the work and returns its result. It must bear being run again from the start after a crash."""
