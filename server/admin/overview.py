"""What this server is and how it goes, put together from what each part tells of itself."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from server.admin.indexes import IndexStatus
from server.jobs.store import JobRun, QueueDepth


@dataclass(frozen=True, slots=True)
class ServerInfo:
    """What does not change while a server runs. `limits` are settings by name."""

    version: str
    schema_revision: str
    model_chain: tuple[str, ...]
    limits: Mapping[str, int]
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """How it goes now. `to_do` says in words, by store, what an operator should do about it."""

    serving: bool
    stores: Mapping[str, bool]
    breakers: Mapping[str, int]
    """By service, as in `circuit_breaker_state`: 0 closed, 1 open, 2 half-open."""
    queues: Sequence[QueueDepth]
    jobs: Sequence[JobRun]
    indexes: Sequence[IndexStatus]
    to_do: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Overview:
    """Asks the parts; each is a callable so that this room knows none of them."""

    info: ServerInfo
    serving: Callable[[], bool]
    stores: Callable[[], Mapping[str, bool]]
    breakers: Callable[[], Mapping[str, int]]
    queues: Callable[[], Awaitable[Sequence[QueueDepth]]]
    jobs: Callable[[], Awaitable[Sequence[JobRun]]]
    indexes: Callable[[], Awaitable[Sequence[IndexStatus]]]
    to_do: Callable[[], Awaitable[Mapping[str, str]]]
    embedding_model: Callable[[], Awaitable[str]]
    """The model of the index that is searched; a reindex changes it while the server runs."""
    metrics: Callable[[], Awaitable[str]]
    """All metrics as JSON."""

    async def status(self) -> Status:
        """Return how it goes; needs PostgreSQL, while a vector store that is away shows as such."""
        return Status(
            serving=self.serving(),
            stores=self.stores(),
            breakers=self.breakers(),
            queues=await self.queues(),
            jobs=await self.jobs(),
            indexes=await self.indexes(),
            to_do=await self.to_do(),
        )
