"""External issuers: which key verifies, which rights they may grant, how their keys are fetched."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from server.auth import issuers
from server.auth.issuers import Issuer
from server.auth.jwks import COOLDOWN_SECONDS, DOCUMENT_LENGTH_MAX, TTL_SECONDS, Jwks, over_http
from server.auth.tokens import Label, Rule, public_jwk
from server.caller import Role
from server.refusal import StoreUnavailable

SUPABASE = "https://project.supabase.example/auth/v1"


@dataclass
class Published:
    """An issuer's key document that counts its readers and fails on command."""

    keys: dict[str, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    broken: Exception | None = None
    fetches: int = 0
    now: float = 1000.0

    def add(self, key_id: str) -> None:
        self.keys[key_id] = ec.generate_private_key(ec.SECP256R1())

    def clock(self) -> float:
        return self.now

    async def fetch(self) -> dict[str, Any]:
        self.fetches += 1
        await asyncio.sleep(0)
        if self.broken:
            raise self.broken
        return {"keys": [public_jwk(key.public_key(), key_id) for key_id, key in self.keys.items()]}

    def jwks(self) -> Jwks:
        return Jwks(self.fetch, clock=self.clock)


@pytest.fixture
def published() -> Published:
    document = Published()
    document.add("k1")
    return document


async def test_fifty_parallel_first_looks_fetch_once(published: Published) -> None:
    jwks = published.jwks()
    assert all(await asyncio.gather(*(jwks.key("k1") for _ in range(50))))
    assert published.fetches == 1


async def test_a_first_look_that_is_cancelled_does_not_take_the_others_with_it(published: Published) -> None:
    jwks = published.jwks()
    first, second = asyncio.ensure_future(jwks.key("k1")), asyncio.ensure_future(jwks.key("k1"))
    await asyncio.sleep(0)
    first.cancel()
    assert await second is not None


async def test_a_new_key_is_found_and_the_old_one_stays(published: Published) -> None:
    jwks = published.jwks()
    await jwks.key("k1")
    published.add("k2")
    published.now += COOLDOWN_SECONDS
    assert await jwks.key("k2")
    assert await jwks.key("k1")
    assert published.fetches == 2


async def test_unknown_keys_do_not_make_us_fetch_again_and_again(published: Published) -> None:
    jwks = published.jwks()
    await jwks.key("k1")
    published.now += COOLDOWN_SECONDS
    assert [await jwks.key(f"unknown {number}") for number in range(100)] == [None] * 100
    assert published.fetches == 2


async def test_a_withdrawn_key_ends_with_the_next_reading(published: Published) -> None:
    jwks = published.jwks()
    await jwks.key("k1")
    published.keys.clear()
    published.add("k2")
    published.now += TTL_SECONDS
    assert await jwks.key("k1") is None


@pytest.mark.parametrize("problem", [httpx.ConnectError("down"), ValueError("no JSON"), httpx.ReadTimeout("slow")])
async def test_known_keys_stay_in_use_while_the_issuer_is_down(published: Published, problem: Exception) -> None:
    jwks = published.jwks()
    await jwks.key("k1")
    published.broken = problem
    published.now += TTL_SECONDS
    assert await jwks.key("k1")


async def test_an_issuer_that_was_never_reached_makes_us_unavailable_and_is_not_asked_in_a_storm(
    published: Published,
) -> None:
    published.broken = httpx.ConnectError("down")
    jwks = published.jwks()
    for _ in range(20):
        with pytest.raises(StoreUnavailable):
            await jwks.key("k1")
    assert published.fetches == 1
    published.broken = None
    published.now += COOLDOWN_SECONDS
    assert await jwks.key("k1")


@pytest.mark.parametrize("document", [{}, {"keys": []}, {"keys": "x"}, {"keys": [5]}, {"keys": [{"kty": "EC"}]}, []])
async def test_a_document_that_is_no_key_set_is_as_good_as_none(document: Any) -> None:
    async def fetch() -> Any:
        return document

    with pytest.raises(StoreUnavailable):
        await Jwks(fetch).key("k1")


async def test_the_algorithm_of_the_key_decides_not_the_tokens(published: Published) -> None:
    issuer = Issuer(Rule(SUPABASE, "authenticated", issuers.JWKS_ALGORITHMS), jwks=published.jwks())
    assert await issuer.key(Label("ES256", "k1", SUPABASE))
    assert await issuer.key(Label("RS256", "k1", SUPABASE)) is None
    assert await issuer.key(Label("HS256", "k1", SUPABASE)) is None
    assert await issuer.key(Label("none", "k1", SUPABASE)) is None


async def test_a_secret_verifies_hs256_alone() -> None:
    issuer = issuers.with_secret(SUPABASE, "authenticated", "s" * 32)
    assert await issuer.key(Label("HS256", "", SUPABASE)) == b"s" * 32
    assert await issuer.key(Label("ES256", "", SUPABASE)) is None
    assert "ssss" not in repr(issuer)


def test_a_short_secret_is_refused_at_the_start() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        issuers.with_secret(SUPABASE, "authenticated", "s" * 31)


def test_an_issuer_grants_no_more_than_it_may() -> None:
    trusted_little = issuers.with_secret(SUPABASE, "authenticated", "s" * 32)
    trusted_fully = issuers.with_secret(SUPABASE, "authenticated", "s" * 32, roles=list(Role))
    assert [trusted_little.role(role) for role in (Role.TEACHER, Role.ADMIN, Role.SERVICE, None)] == [
        Role.TEACHER,
        Role.STUDENT,
        Role.STUDENT,
        Role.STUDENT,
    ]
    assert trusted_fully.role(Role.ADMIN) is Role.ADMIN


@pytest.mark.parametrize(
    "url", ["http://issuer.example/jwks", "http://10.0.0.1/jwks", "file:///etc/passwd", "ftp://x/y", ""]
)
def test_keys_are_fetched_over_https_or_loopback_only(url: str) -> None:
    with pytest.raises(ValueError, match="https"):
        over_http(url)


@asynccontextmanager
async def answering(answer: Callable[[], bytes]) -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/jwks"


def http(body: bytes, status: str = "200 OK", extra: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}Connection: close\r\n\r\n".encode() + body


async def test_keys_come_over_http(published: Published) -> None:
    body = json.dumps(await published.fetch()).encode()
    async with answering(lambda: http(body)) as url:
        assert await Jwks(over_http(url)).key("k1")


@pytest.mark.parametrize(
    "answer",
    [
        http(b"{}", "500 Internal Server Error"),
        http(b"", "302 Found", "Location: http://127.0.0.1:1/jwks\r\n"),
        http(b"no json"),
        http(b"[]"),
        http(b"{" + b" " * DOCUMENT_LENGTH_MAX + b"}"),
        b"nonsense",
    ],
    ids=["error", "redirect", "text", "list", "too large", "nonsense"],
)
async def test_a_bad_answer_is_as_good_as_none(answer: bytes) -> None:
    async with answering(lambda: answer) as url:
        with pytest.raises(StoreUnavailable):
            await Jwks(over_http(url)).key("k1")
