"""What every file store promises: a folder, memory, and S3 by its wire protocol."""

import asyncio
import urllib.parse
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path

import httpx
import pytest

from server import refusal
from server.blobs.door import Door
from server.blobs.objects import open_blobs
from server.blobs.port import BlobStore, SignedRequest
from server.blobs.tickets import PATH, Tickets
from server.models.breakers import Breakers, Open
from tests.s3 import CREDENTIALS, serving

PDF = "application/pdf"
TICKETS = Tickets(b"s" * 32, "http://files.test")
MISSING = "uploads/missing.pdf"
_keys = count(1)


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with serving() as url:
        yield url


@pytest.fixture(params=["folder", "memory", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BlobStore:
    if request.param == "s3":
        for name, value in CREDENTIALS.items():
            monkeypatch.setenv(name, value)
        return open_blobs(request.getfixturevalue("s3"), TICKETS)
    return open_blobs("memory:///" if request.param == "memory" else f"file://{tmp_path}/files", TICKETS)


@pytest.fixture
def key() -> str:
    return f"uploads/{next(_keys)}/lesson.pdf"


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def broken(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk
    raise refusal.UploadRefused


async def read(store: BlobStore, key: str) -> bytes:
    return b"".join([chunk async for chunk in store.get(key)])


async def send(store: BlobStore, signed: SignedRequest, body: bytes = b"", content_type: str = PDF) -> bytes:
    """Do what a client does with a signed request; our own tickets are served by the door behind the HTTP port."""
    if not signed.url.startswith("http://files.test"):
        async with httpx.AsyncClient() as client:
            reply = await client.request(signed.method, signed.url, content=body, headers=dict(signed.headers))
        return reply.raise_for_status().content
    parts = urllib.parse.urlsplit(signed.url)
    key, query = urllib.parse.unquote(parts.path).removeprefix(PATH), dict(urllib.parse.parse_qsl(parts.query))
    door = Door(store, TICKETS)
    if signed.method == "PUT":
        await door.upload(key, query, content_type, stream(body))
        return b""
    _, chunks = await door.download(key, query)
    return b"".join([chunk async for chunk in chunks])


async def test_a_stream_comes_back_as_it_went_in(store: BlobStore, key: str) -> None:
    chunks = [bytes([number]) * 700_000 for number in range(10)]
    blob = await store.put(key, stream(*chunks))
    assert blob.key == key
    assert blob.size_bytes == 7_000_000
    assert await read(store, key) == b"".join(chunks)


async def test_a_small_object_comes_back_as_it_went_in(store: BlobStore, key: str) -> None:
    await store.put_bytes(key, b"%PDF-")
    assert await store.get_bytes(key) == b"%PDF-"
    described = await store.head(key)
    assert described.size_bytes == 5
    assert abs(described.modified_at - datetime.now(UTC)) < timedelta(minutes=1)


async def test_an_empty_stream_is_an_empty_object(store: BlobStore, key: str) -> None:
    assert (await store.put(key, stream())).size_bytes == 0
    assert await read(store, key) == b""


@pytest.mark.parametrize("size", [10, 12_000_000])
async def test_a_stream_that_breaks_leaves_nothing(store: BlobStore, key: str, size: int) -> None:
    with pytest.raises(refusal.UploadRefused):
        await store.put(key, broken(*[b"x" * (size // 10)] * 10))
    with pytest.raises(refusal.NotFound):
        await store.head(key)


async def test_a_stream_that_breaks_keeps_the_former_object(store: BlobStore, key: str) -> None:
    await store.put_bytes(key, b"former")
    with pytest.raises(refusal.UploadRefused):
        await store.put(key, broken(b"x" * 6_000_000, b"x"))
    assert await store.get_bytes(key) == b"former"


async def test_nothing_is_visible_before_the_stream_ends(store: BlobStore, key: str) -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 6_000_000
        started.set()
        await go_on.wait()
        yield b"x"

    writing = asyncio.create_task(store.put(key, slow()))
    await started.wait()
    with pytest.raises(refusal.NotFound):
        await store.head(key)
    go_on.set()
    assert (await writing).size_bytes == 6_000_001


async def test_a_later_write_replaces_the_object(store: BlobStore, key: str) -> None:
    await store.put_bytes(key, b"one")
    await store.put(key, stream(b"two!"))
    assert await store.get_bytes(key) == b"two!"


async def test_missing_objects_are_not_found(store: BlobStore) -> None:
    for reading in (store.head(MISSING), store.get_bytes(MISSING), read(store, MISSING)):
        with pytest.raises(refusal.NotFound):
            await reading


async def test_deleting_works_once_and_again(store: BlobStore, key: str) -> None:
    await store.put_bytes(key, b"x")
    await store.delete(key)
    await store.delete(key)
    with pytest.raises(refusal.NotFound):
        await store.head(key)


async def test_listing_names_what_lies_under_a_folder(store: BlobStore) -> None:
    for name in ("listed/a/1", "listed/a/2", "listed/ab/3"):
        await store.put_bytes(name, name.encode())
    found = {blob.key: blob.size_bytes async for blob in store.list("listed/a")}
    assert found == {"listed/a/1": 10, "listed/a/2": 10}
    assert [blob async for blob in store.list("nowhere")] == []


@pytest.mark.parametrize("bad", ["", "/etc/passwd", "../up", "a/../b", "a//b", "a/.", "a/", "a\x00b", "a b", "é"])
async def test_keys_that_could_leave_the_store_are_refused(store: BlobStore, bad: str) -> None:
    for call in (store.put_bytes(bad, b""), store.get_bytes(bad), store.head(bad), store.delete(bad)):
        with pytest.raises(refusal.Invalid):
            await call
    with pytest.raises(refusal.Invalid):
        await store.sign_upload(bad, content_type=PDF, max_bytes=1, ttl_seconds=60)


async def test_a_signed_request_uploads(store: BlobStore, key: str) -> None:
    signed = await store.sign_upload(key, content_type=PDF, max_bytes=100, ttl_seconds=60)
    assert signed.method == "PUT"
    assert signed.headers == {"content-type": PDF}
    assert timedelta(seconds=50) < signed.expires_at - datetime.now(UTC) <= timedelta(seconds=60)
    await send(store, signed, b"%PDF-1.7")
    assert await store.get_bytes(key) == b"%PDF-1.7"


async def test_a_signed_request_downloads(store: BlobStore, key: str) -> None:
    await store.put_bytes(key, b"lesson")
    assert await send(store, await store.sign_download(key, ttl_seconds=60)) == b"lesson"


async def test_a_reachable_store_is_healthy(store: BlobStore) -> None:
    assert await store.healthy()


async def test_an_unreachable_cloud_is_named_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    store = open_blobs("s3://bacmr?endpoint=http://127.0.0.1:9&region=us-east-1", TICKETS)
    assert not await store.healthy()
    with pytest.raises(refusal.StoreUnavailable):
        await store.get_bytes("a")


class Gone(AsyncIterator[bytes]):
    """A stream whose sender hangs up."""

    async def __anext__(self) -> bytes:
        raise TimeoutError


def unreachable(monkeypatch: pytest.MonkeyPatch, breakers: Breakers) -> BlobStore:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    return open_blobs("s3://bacmr?endpoint=http://127.0.0.1:9&region=us-east-1", TICKETS, breakers.enter)


async def test_a_cloud_that_keeps_failing_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    breakers = Breakers(failures=2)
    store = unreachable(monkeypatch, breakers)
    for _ in range(2):
        with pytest.raises(refusal.StoreUnavailable):
            await store.head("a")
    assert breakers.states() == {"blobs_read": 1}
    with pytest.raises(Open):
        await store.get_bytes("a")


async def test_a_cloud_that_was_left_alone_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    store = unreachable(monkeypatch, Breakers(failures=1, open_seconds=0.01))
    with pytest.raises(refusal.StoreUnavailable):
        await store.head("a")
    await asyncio.sleep(0.02)
    with pytest.raises(refusal.StoreUnavailable) as tried:
        await store.head("a")
    assert not isinstance(tried.value, Open)


async def test_uploads_that_fail_open_the_breaker_of_writes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    breakers = Breakers(failures=1)
    store = unreachable(monkeypatch, breakers)
    with pytest.raises(refusal.StoreUnavailable):
        await store.put("a", stream(b"x"))
    with pytest.raises(Open):
        await store.put("a", stream(b"x"))
    assert breakers.states() == {"blobs_write": 1}


async def test_what_is_missing_and_who_hangs_up_are_no_failures_of_the_store(tmp_path: Path, key: str) -> None:
    breakers = Breakers(failures=1)
    store = open_blobs(f"file://{tmp_path}/files", TICKETS, breakers.enter)
    with pytest.raises(refusal.NotFound):
        await store.head(MISSING)
    with pytest.raises(TimeoutError):
        await store.put(key, Gone())
    assert set(breakers.states().values()) == {0}
    await store.put(key, stream(b"x"))
    assert await read(store, key) == b"x"


async def test_a_folder_that_is_gone_is_unhealthy(tmp_path: Path) -> None:
    store = open_blobs(f"file://{tmp_path}/files", TICKETS)
    (tmp_path / "files").rmdir()
    assert not await store.healthy()
