"""The file store over obstore: a folder, memory, and the clouds (S3 and what speaks like it, Google, Azure)."""

import asyncio
import os
import time
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import obstore
import structlog
from obstore.exceptions import BaseError
from obstore.store import AzureStore, GCSStore, LocalStore, MemoryStore, S3Store

from server import refusal
from server.blobs.port import Begin, Blob, SignedRequest, unguarded
from server.blobs.tickets import Tickets, check_key

if TYPE_CHECKING:
    from obstore.store import ClientConfig, RetryConfig, S3Config

_log = structlog.get_logger(__name__)

Cloud = S3Store | GCSStore | AzureStore
READ, WRITE = "blobs_read", "blobs_write"
"""Names of the services that are left alone while they fail."""
_PART_BYTES = 5 * 1024 * 1024
"""The smallest part that S3 takes, and thereby what an upload holds in memory."""
_PARTS_AT_ONCE = 2
_LIST_PAGE = 1_000
_PROBE_KEY = ".probe"
_ABANDONED_SECONDS = 86_400
_S3_OPTIONS = {"endpoint", "region"}
_RETRIES: "RetryConfig" = {
    "max_retries": 3,
    "retry_timeout": timedelta(seconds=20),
    "backoff": {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=2), "base": 2},
}


class BadBlobUrl(ValueError):
    """The setting does not name a store; the message is one line."""


class ObjectBlobs:
    """Implements `server.blobs.port.BlobStore` over one obstore store.

    Clouds sign addresses themselves; for a folder and memory `tickets` signs addresses of our own HTTP port.
    `begin` (a breaker's `enter`) is asked for `blobs_read` and `blobs_write`.
    """

    def __init__(self, store: Cloud | LocalStore | MemoryStore, tickets: Tickets, begin: Begin = unguarded) -> None:
        self._store = store
        self._tickets = tickets
        self._begin = begin

    async def put(self, key: str, chunks: AsyncIterator[bytes]) -> Blob:
        """Store a stream; nothing is visible under `key` until the whole stream is stored."""
        check_key(key)
        with self._writing_long():
            # Leaving the writer by an exception drops what was sent so far and keeps the former object.
            writing = obstore.open_writer_async(
                self._store, key, buffer_size=_PART_BYTES, max_concurrency=_PARTS_AT_ONCE
            )
            async with writing as writer:
                async for chunk in chunks:
                    await writer.write(chunk)
        return await self.head(key)

    async def put_bytes(self, key: str, content: bytes) -> Blob:
        """Store a small object."""
        check_key(key)
        with self._asking(WRITE):
            await obstore.put_async(self._store, key, content)
        return Blob(key, len(content), datetime.now(UTC))

    async def get(self, key: str) -> AsyncIterator[bytes]:
        """Stream an object. Raises NotFound at the first chunk."""
        check_key(key)
        with self._asking(READ):
            found = await obstore.get_async(self._store, key)
        with _refusing():
            async for chunk in found.stream():
                yield bytes(chunk)

    async def get_bytes(self, key: str) -> bytes:
        """Read a small object whole."""
        check_key(key)
        with self._asking(READ):
            found = await obstore.get_async(self._store, key)
            return bytes(await found.bytes_async())

    async def head(self, key: str) -> Blob:
        """Describe an object without reading it."""
        check_key(key)
        with self._asking(READ):
            found = await obstore.head_async(self._store, key)
        return Blob(key, found["size"], found["last_modified"])

    async def delete(self, key: str) -> None:
        """Delete an object; a missing one is no error."""
        check_key(key)
        try:
            with self._asking(WRITE):
                await obstore.delete_async(self._store, key)
        except refusal.NotFound:
            return

    async def list(self, prefix: str) -> AsyncIterator[Blob]:
        """List objects under a prefix, which is a folder: `uploads/a` does not cover `uploads/ab`."""
        with _refusing():
            async for page in obstore.list(self._store, prefix, chunk_size=_LIST_PAGE):
                for found in page:
                    yield Blob(found["path"], found["size"], found["last_modified"])

    async def sign_upload(self, key: str, *, content_type: str, max_bytes: int, ttl_seconds: int) -> SignedRequest:
        """Return a request that uploads this object once signed.

        Our own tickets bind size and type; clouds bind neither, so both are checked again on completion.
        """
        check_key(key)
        if isinstance(self._store, Cloud):
            return await self._signed(self._store, "PUT", key, ttl_seconds, {"content-type": content_type})
        return self._tickets.sign("PUT", key, ttl_seconds=ttl_seconds, max_bytes=max_bytes, content_type=content_type)

    async def sign_download(self, key: str, *, ttl_seconds: int) -> SignedRequest:
        """Return a request that downloads this object."""
        check_key(key)
        if isinstance(self._store, Cloud):
            return await self._signed(self._store, "GET", key, ttl_seconds, {})
        return self._tickets.sign("GET", key, ttl_seconds=ttl_seconds)

    async def healthy(self) -> bool:
        """Say whether the store answers now."""
        try:
            await self.head(_PROBE_KEY)
        except refusal.NotFound:
            return not isinstance(self._store, LocalStore) or os.access(str(self._store.prefix), os.W_OK)
        except refusal.StoreUnavailable:
            return False
        return True

    @contextmanager
    def _asking(self, service: str) -> Iterator[None]:
        """Ask the store, unless it is left alone, and report whether it answered: a missing object is an answer."""
        passage = self._begin(service)
        try:
            with _refusing():
                yield
        except refusal.NotFound:
            passage.end()
            raise
        except refusal.StoreUnavailable as failure:
            passage.end(failure)
            raise
        except BaseException:
            passage.end(asyncio.CancelledError())  # what went wrong on our side says nothing of the store
            raise
        passage.end()

    @contextmanager
    def _writing_long(self) -> Iterator[None]:
        """As `_asking`, for what may take as long as a client needs: nobody waits for its outcome."""
        self._begin(WRITE).end(asyncio.CancelledError())
        try:
            with _refusing():
                yield
        except refusal.StoreUnavailable as failure:
            self._report_write(failure)
            raise
        self._report_write(None)

    def _report_write(self, failure: refusal.StoreUnavailable | None) -> None:
        with suppress(refusal.StoreUnavailable):
            self._begin(WRITE).end(failure)

    async def _signed(
        self, store: Cloud, method: Literal["GET", "PUT"], key: str, ttl_seconds: int, headers: dict[str, str]
    ) -> SignedRequest:
        lasting = timedelta(seconds=ttl_seconds)
        with _refusing():
            url = await obstore.sign_async(store, method, key, lasting)
        return SignedRequest(url, method, headers, datetime.now(UTC) + lasting)


def open_blobs(url: str, tickets: Tickets, begin: Begin = unguarded) -> ObjectBlobs:
    """Open the store a URL names; credentials of clouds come from where their own tools find them.

    `file:///folder`, `memory:///`, `s3://bucket/prefix`, `gs://bucket/prefix`, `az://account/container/prefix`;
    S3 takes `?endpoint=…&region=…` for stores that speak like it. Raises BadBlobUrl.
    """
    parts = urllib.parse.urlsplit(url)
    options = dict(urllib.parse.parse_qsl(parts.query))
    if unknown := options.keys() - (_S3_OPTIONS if parts.scheme == "s3" else set()):
        raise BadBlobUrl(f"unknown option {min(unknown)}")
    try:
        match parts.scheme:
            case "file":
                folder = Path(urllib.parse.unquote(parts.path))
                _drop_abandoned_parts(folder)
                return ObjectBlobs(LocalStore(folder, mkdir=True), tickets, begin)
            case "memory":
                return ObjectBlobs(MemoryStore(), tickets, begin)
            case _:
                return ObjectBlobs(_cloud(parts.scheme, parts._replace(query="").geturl(), options), tickets, begin)
    except (BaseError, ValueError, OSError) as error:
        raise BadBlobUrl(str(error).splitlines()[0]) from None


def _cloud(scheme: str, url: str, options: dict[str, str]) -> Cloud:
    client: ClientConfig = {"timeout": timedelta(seconds=60), "connect_timeout": timedelta(seconds=5)}
    match scheme:
        case "s3":
            config: S3Config = {}
            if region := options.get("region"):
                config["region"] = region
            if endpoint := options.get("endpoint"):
                client["allow_http"] = endpoint.startswith("http://")
                config |= {"endpoint": endpoint, "virtual_hosted_style_request": False}
            return S3Store.from_url(url, config=config, client_options=client, retry_config=_RETRIES)
        case "gs":
            return GCSStore.from_url(url, client_options=client, retry_config=_RETRIES)
        case "az":
            return AzureStore.from_url(url, client_options=client, retry_config=_RETRIES)
        case _:
            raise BadBlobUrl("must start with file:, s3:, gs: or az:")


def _drop_abandoned_parts(folder: Path) -> None:
    """Delete what uploads cut by a crash left beside the objects (`name#1`); the store itself never lists them."""
    for part in folder.rglob("*#*"):
        if part.is_file() and time.time() - part.stat().st_mtime > _ABANDONED_SECONDS:
            part.unlink(missing_ok=True)


@contextmanager
def _refusing() -> Iterator[None]:
    """Turn what obstore raises into refusals; the reason goes to the log only."""
    try:
        yield
    except FileNotFoundError as error:
        raise refusal.NotFound("There is no such file.") from error
    except TimeoutError:
        raise  # of whoever sends the stream
    except (BaseError, OSError) as error:  # a writer of obstore raises plain OSErrors
        _log.warning("blobs_failed", problem=str(error).partition("\n")[0])
        raise refusal.StoreUnavailable(store="blobs") from error
