"""The port to file storage: streams in and out by key, and signed addresses for direct uploads."""

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from server.refusal import NotFound


@dataclass(frozen=True, slots=True)
class Blob:
    """A stored object: its key, size in bytes and time of the last write."""

    key: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """A request that a client may send without credentials until `expires_at`."""

    url: str
    method: str
    headers: Mapping[str, str]
    expires_at: datetime


class Passage(Protocol):
    """One call to the store that was let through."""

    def end(self, error: BaseException | None = None) -> None:
        """Report how it ended; a StoreUnavailable is the store's failure, other errors say nothing of it."""


Begin = Callable[[str], Passage]
"""Lets a call of a service through, or raises StoreUnavailable while that service keeps failing."""


class _Passed:
    def end(self, error: BaseException | None = None) -> None:
        """Nobody counts."""


def unguarded(service: str) -> Passage:
    """Let every call through."""
    return _Passed()


class BlobStore(Protocol):
    """Missing keys raise `server.refusal.NotFound`; an unreachable store raises `StoreUnavailable`."""

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store a stream; nothing is visible under `key` until the whole stream is stored."""

    async def put_bytes(self, key: str, content: bytes) -> Blob:
        """Store a small object."""

    def get(self, key: str) -> AsyncIterator[bytes]:
        """Stream an object."""

    async def get_bytes(self, key: str) -> bytes:
        """Read a small object whole."""

    async def head(self, key: str) -> Blob:
        """Describe an object without reading it."""

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""

    def list(self, prefix: str) -> AsyncIterator[Blob]:
        """List objects under a prefix."""

    async def sign_upload(self, key: str, *, content_type: str, max_bytes: int, ttl_seconds: int) -> SignedRequest:
        """Return a request that uploads this object once signed; size and type are checked again on completion."""

    async def sign_download(self, key: str, *, ttl_seconds: int) -> SignedRequest:
        """Return a request that downloads this object."""

    async def healthy(self) -> bool:
        """Say whether the store answers now."""


async def holds(blobs: BlobStore, key: str) -> bool:
    """Say whether an object is there."""
    try:
        await blobs.head(key)
    except NotFound:
        return False
    return True
