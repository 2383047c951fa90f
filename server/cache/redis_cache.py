"""A cache that several processes share through Redis, behind the same call as the one in the process."""

import hashlib
import json
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from server.cache.flight import FlightCache, OnEvent, unheard

V = TypeVar("V")
_log = structlog.get_logger(__name__)

_TIMEOUT_SECONDS = 0.2
"""Longer than any answer of a healthy Redis, and little beside the loads that the cache saves."""
_PAUSE_SECONDS = 5.0
"""How long a Redis that failed is left alone."""


async def answers(url: str) -> bool:
    """Say whether a Redis answers at this address."""
    redis = Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
    try:
        return await cast("Awaitable[bool]", redis.ping())
    except RedisError:
        return False
    finally:
        await redis.aclose()


class RedisCache(Generic[V]):
    """Looks in the process, then in Redis, then loads. A Redis that is down costs nothing but its hits.

    Values cross as JSON (never pickled: what lies in Redis is not trusted to run code); `encode` and `decode` turn a
    value into what `json` can write and back. `decode` raising ValueError, KeyError or TypeError counts as a miss.
    """

    def __init__(
        self,
        url: str,
        size: int,
        ttl_seconds: float,
        name: str,
        *,
        encode: Callable[[V], object],
        decode: Callable[[object], V],
        on_event: OnEvent = unheard,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._redis = Redis.from_url(url, socket_timeout=_TIMEOUT_SECONDS, socket_connect_timeout=_TIMEOUT_SECONDS)
        self._near: FlightCache[str, V] = FlightCache(size, ttl_seconds, name, on_event=on_event, now=now)
        self._name = name
        self._ttl_milliseconds = int(ttl_seconds * 1000)
        self._encode = encode
        self._decode = decode
        self._now = now
        self._paused_until = 0.0
        self.shared_hits = 0

    async def get(self, key: str, load: Callable[[str], Awaitable[V]]) -> V:
        """Return the value of `key`, loading it when neither level has it. Raises what `load` raises."""
        return await self._near.get(key, lambda _: self._shared(key, load))

    async def close(self) -> None:
        """Release connections."""
        await self._redis.aclose()

    async def _shared(self, key: str, load: Callable[[str], Awaitable[V]]) -> V:
        place = f"bacmr:{self._name}:{hashlib.sha256(key.encode()).hexdigest()}"
        written = await self._try(lambda: self._redis.get(place))
        if written:
            try:
                value = self._decode(json.loads(written))
            except (ValueError, KeyError, TypeError):
                _log.warning("cache_entry_unreadable", cache=self._name)
            else:
                self.shared_hits += 1
                return value
        value = await load(key)
        content = json.dumps(self._encode(value), ensure_ascii=False).encode()
        await self._try(lambda: self._redis.set(place, content, px=self._ttl_milliseconds))
        return value

    async def _try(self, call: Callable[[], Awaitable[bytes | None]]) -> bytes | None:
        if self._now() < self._paused_until:
            return None
        try:
            return await call()
        except (RedisError, OSError) as error:
            self._paused_until = self._now() + _PAUSE_SECONDS
            _log.warning("cache_unreachable", cache=self._name, problem=type(error).__name__)
            return None
