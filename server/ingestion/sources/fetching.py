"""Guarded HTTP: connects only to public addresses it has checked itself, on allow-listed hosts, within limits."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import urljoin

import httpx
from ssrfguard import Policy, Resolver, SSRFGuardError
from ssrfguard.httpx import AsyncClient

from server.ingestion.sources.address import canonical, require_allowed
from server.refusal import SourceRefused

AddressPolicy = Policy
"""Which addresses may be connected to; the default is public ones on ports 80 and 443."""

USER_AGENT = "BacMR/1 (+https://github.com/bacmr; school library)"
MAX_REDIRECTS = 5
_TIMEOUT = httpx.Timeout(20.0, connect=10.0)
_FETCH_SECONDS = 60.0
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ACCEPT = "text/html, application/xhtml+xml, application/pdf;q=0.9, text/plain;q=0.8, application/xml;q=0.7"


class FetchFailed(Exception):
    """The site did not give the page; the message is a sentence for operators."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the site said of a page when it was last fetched; makes the next request conditional."""

    etag: str = ""
    last_modified: str = ""


@dataclass(frozen=True, slots=True)
class Fetched:
    """A page as it came. `address` is where redirects ended; `body` is None when it is as last seen (304)."""

    address: str
    status: int
    content_type: str
    body: bytes | None
    seen: Seen


class Fetcher:
    """Fetches pages for one sync. Every hop of a redirect must be on an allowed host and a public address."""

    def __init__(self, client: httpx.AsyncClient, hosts: Iterable[str], max_bytes: int) -> None:
        self._client = client
        self._hosts = tuple(hosts)
        self._max_bytes = max_bytes

    async def fetch(self, address: str, seen: Seen | None = None) -> Fetched:
        """Return a page. Raises SourceRefused for what may not be fetched and FetchFailed for what could not."""
        here = canonical(address)
        for _ in range(MAX_REDIRECTS + 1):
            require_allowed(here, self._hosts)
            try:
                async with asyncio.timeout(_FETCH_SECONDS):
                    answer = await self._get(here, seen)
            except TimeoutError:
                raise FetchFailed("the site took too long") from None
            if isinstance(answer, Fetched):
                return answer
            here = canonical(answer, relative_to=here)
        raise FetchFailed("too many redirects")

    async def _get(self, address: str, seen: Seen | None) -> Fetched | str:
        """Return the page, or the address that it redirects to."""
        try:
            async with self._client.stream("GET", address, headers=_headers(seen)) as response:
                if response.status_code in _REDIRECTS:
                    return urljoin(address, str(response.headers.get("location", "")))
                return await self._answer(address, response)
        except SSRFGuardError as error:
            raise SourceRefused("This address is not public.") from error
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise FetchFailed(f"the site did not answer ({type(error).__name__})") from error

    async def _answer(self, address: str, response: httpx.Response) -> Fetched:
        seen = Seen(response.headers.get("etag", "")[:1024], response.headers.get("last-modified", "")[:128])
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if response.status_code == 304:
            return Fetched(address, 304, content_type, None, seen)
        if response.status_code >= 400:
            return Fetched(address, response.status_code, content_type, b"", seen)
        body = bytearray()
        async for piece in response.aiter_bytes():
            body += piece
            if len(body) > self._max_bytes:
                raise FetchFailed(f"the page is longer than {self._max_bytes} bytes")
        return Fetched(address, response.status_code, content_type, bytes(body), seen)


@asynccontextmanager
async def guarded_client(
    policy: AddressPolicy | None = None, resolver: Resolver | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that refuses private, reserved and translated addresses at connect time. No proxy."""
    async with AsyncClient(
        policy=policy or AddressPolicy(),
        resolver=resolver,
        trust_env=False,
        follow_redirects=False,
        timeout=_TIMEOUT,
        headers={"user-agent": USER_AGENT, "accept": _ACCEPT},
        limits=httpx.Limits(max_connections=4),
    ) as client:
        yield client


def _headers(seen: Seen | None) -> dict[str, str]:
    headers = {}
    if seen and seen.etag:
        headers["if-none-match"] = seen.etag
    if seen and seen.last_modified:
        headers["if-modified-since"] = seen.last_modified
    return headers
