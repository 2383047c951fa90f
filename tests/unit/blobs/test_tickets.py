"""Tickets allow what they say, to whom they were given, until they expire, and nothing else."""

import os
import stat
import urllib.parse
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from server import refusal
from server.blobs.door import Door, limited
from server.blobs.objects import BadBlobUrl, open_blobs
from server.blobs.tickets import PATH, Allowance, Tickets, secret_from

NOW = 1_900_000_000.0
KEY = "uploads/1/a.pdf"
PDF = "application/pdf"


def made(ttl_seconds: int = 60, max_bytes: int = 10, method: str = "PUT") -> dict[str, str]:
    signed = tickets().sign(method, KEY, ttl_seconds=ttl_seconds, max_bytes=max_bytes, content_type=PDF)
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(signed.url).query))


def tickets(now: float = NOW, secret: bytes = b"k" * 32) -> Tickets:
    return Tickets(secret, "https://bacmr.example/", now=lambda: now)


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


def test_a_ticket_allows_what_it_was_made_for() -> None:
    assert tickets().verify("PUT", KEY, made()) == Allowance(10, PDF)


def test_a_ticket_is_an_address_under_the_public_url() -> None:
    signed = tickets().sign("PUT", KEY, ttl_seconds=60)
    assert signed.url.startswith(f"https://bacmr.example{PATH}{KEY}?")


@pytest.mark.parametrize(
    ("method", "key", "changed"),
    [
        ("GET", KEY, {}),
        ("PUT", "uploads/2/a.pdf", {}),
        ("PUT", KEY, {"max": "11"}),
        ("PUT", KEY, {"type": "text/html"}),
        ("PUT", KEY, {"expires": "2000000000"}),
        ("PUT", KEY, {"signature": ""}),
        ("PUT", KEY, {"signature": "é"}),
        ("PUT", KEY, {"max": "1", "type": "0application/pdf"}),
    ],
)
def test_a_ticket_is_worthless_for_anything_else(method: str, key: str, changed: dict[str, str]) -> None:
    with pytest.raises(refusal.NotSignedIn):
        tickets().verify(method, key, made() | changed)


def test_no_ticket_is_refused() -> None:
    with pytest.raises(refusal.NotSignedIn):
        tickets().verify("PUT", KEY, {})


def test_a_ticket_of_another_secret_is_refused() -> None:
    with pytest.raises(refusal.NotSignedIn):
        tickets(secret=b"o" * 32).verify("PUT", KEY, made())


def test_a_ticket_expires() -> None:
    tickets(now=NOW + 60).verify("PUT", KEY, made())
    with pytest.raises(refusal.NotSignedIn, match="expired"):
        tickets(now=NOW + 61).verify("PUT", KEY, made())


async def test_the_door_refuses_another_content_type() -> None:
    store = open_blobs("memory:///", tickets())
    with pytest.raises(refusal.UploadRefused):
        await Door(store, tickets()).upload(KEY, made(), "text/html", stream(b"x"))


async def test_the_door_refuses_more_bytes_than_allowed_and_keeps_the_former_file() -> None:
    store = open_blobs("memory:///", tickets())
    await store.put_bytes(KEY, b"former")
    with pytest.raises(refusal.UploadRefused):
        await Door(store, tickets()).upload(KEY, made(max_bytes=10), PDF, stream(b"12345", b"678901"))
    assert await store.get_bytes(KEY) == b"former"


async def test_the_door_describes_what_it_hands_out() -> None:
    store = open_blobs("memory:///", tickets())
    await store.put_bytes(KEY, b"lesson")
    blob, chunks = await Door(store, tickets()).download(KEY, made(method="GET"))
    assert blob.size_bytes == 6
    assert [chunk async for chunk in chunks] == [b"lesson"]


async def test_a_stream_within_its_limit_passes_unchanged() -> None:
    assert [chunk async for chunk in limited(stream(b"12", b"345"), 5)] == [b"12", b"345"]


def test_the_secret_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    secret = secret_from(file)
    assert len(secret) == 32
    assert secret_from(file) == secret
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize("url", ["ftp://x/y", "", "s3://b?color=red", "file:///tmp?endpoint=x", "az://container"])
def test_an_address_that_names_no_store_is_refused_in_one_line(url: str) -> None:
    with pytest.raises(BadBlobUrl) as refused:
        open_blobs(url, tickets())
    assert "\n" not in str(refused.value)


def test_parts_of_uploads_cut_by_a_crash_are_dropped_when_they_are_old(tmp_path: Path) -> None:
    old, fresh = tmp_path / "uploads" / "a.pdf#1", tmp_path / "uploads" / "b.pdf#1"
    old.parent.mkdir()
    for part in (old, fresh):
        part.write_bytes(b"cut")
    os.utime(old, (0, 0))
    open_blobs(f"file://{tmp_path}", tickets())
    assert not old.exists()
    assert fresh.exists()
