"""The public keys of an external issuer: fetched when needed, kept when fetching fails, never fetched in a storm."""

import asyncio
import ipaddress
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import httpx
import jwt
import structlog
from jwt import PyJWK, PyJWKSet

from server.refusal import StoreUnavailable

TTL_SECONDS = 600.0
COOLDOWN_SECONDS = 30.0
"""The least time between two fetches, whatever key ids the tokens of the day name."""
FETCH_TIMEOUT_SECONDS = 5.0
DOCUMENT_LENGTH_MAX = 256 * 1024

_log = structlog.get_logger(__name__)

Fetch = Callable[[], Awaitable[Mapping[str, Any]]]
"""Returns the issuer's JWKS document, or raises httpx.HTTPError or ValueError."""


class Jwks:
    """Keys by id. After RFC 7517; the fetching rules are those of Supabase's and Auth0's client libraries."""

    def __init__(
        self,
        fetch: Fetch,
        ttl_seconds: float = TTL_SECONDS,
        cooldown_seconds: float = COOLDOWN_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Fetch anew after `ttl_seconds`, or for an unknown id, but never twice within `cooldown_seconds`."""
        self._fetch = fetch
        self._ttl_seconds = ttl_seconds
        self._cooldown_seconds = cooldown_seconds
        self._clock = clock
        self._keys: dict[str, PyJWK] | None = None
        self._asked_at: float | None = None
        self._refreshing: asyncio.Future[None] | None = None

    async def key(self, key_id: str) -> PyJWK | None:
        """Return the key, or None when the issuer has no such key. Raises StoreUnavailable while none was ever read."""
        if self._stale(key_id):
            if self._refreshing is None:
                self._refreshing = asyncio.ensure_future(self._refresh())
            # Shielded: a caller who hangs up must not take the fetch away from those who wait for it too.
            await asyncio.shield(self._refreshing)
        if self._keys is None:
            raise StoreUnavailable(retry_after_seconds=self._cooldown_seconds, store="issuer_keys")
        return self._keys.get(key_id)

    def _stale(self, key_id: str) -> bool:
        if self._asked_at is None:
            return True
        age_seconds = self._clock() - self._asked_at
        if age_seconds < self._cooldown_seconds:
            return False
        return self._keys is None or key_id not in self._keys or age_seconds >= self._ttl_seconds

    async def _refresh(self) -> None:
        try:
            document = await self._fetch()
            keys = PyJWKSet.from_dict(dict(document)).keys
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError, AttributeError) as error:
            _log.warning("issuer_keys_not_read", problem=type(error).__name__)
        else:
            self._keys = {key.key_id: key for key in keys if key.key_id}
        finally:
            self._asked_at = self._clock()
            self._refreshing = None


def over_http(url: str) -> Fetch:
    """Return a Fetch that reads `url`: https (or loopback), no redirects, bounded time and size. Raises ValueError."""
    if not _may_be_asked(httpx.URL(url)):
        raise ValueError("jwks_url must be https")

    async def fetch() -> Mapping[str, Any]:
        async with (
            httpx.AsyncClient(timeout=FETCH_TIMEOUT_SECONDS, trust_env=False) as client,
            asyncio.timeout(FETCH_TIMEOUT_SECONDS),
            client.stream("GET", url, headers={"accept": "application/json"}) as response,
        ):
            response.raise_for_status()
            body = b""
            async for piece in response.aiter_bytes():
                body += piece
                if len(body) > DOCUMENT_LENGTH_MAX:
                    raise ValueError("the JWKS document is too large")
        document = json.loads(body)
        if not isinstance(document, dict):
            raise ValueError("the JWKS document is no object")
        return document

    return fetch


def _may_be_asked(url: httpx.URL) -> bool:
    if url.scheme == "https":
        return bool(url.host)
    try:
        return url.scheme == "http" and ipaddress.ip_address(url.host).is_loopback
    except ValueError:
        return url.scheme == "http" and url.host == "localhost"
