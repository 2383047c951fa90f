"""The caches whose misses cost a model call: in this process, and shared with the others where there is a Redis."""

from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar

from server.cache.flight import FlightCache, OnEvent, unheard
from server.cache.redis_cache import RedisCache

V = TypeVar("V")


class Cache(Protocol[V]):
    """A cache by text keys."""

    async def get(self, key: str, load: Callable[[str], Awaitable[V]]) -> V:
        """Return the value of `key`, loading it once when it is not kept. Raises what `load` raises."""


class Caches:
    """Makes caches, all in the same place."""

    def __init__(self, redis_url: str = "", on_event: OnEvent = unheard) -> None:
        """`on_event(name, hit, times)` hears of every look."""
        self._redis_url = redis_url
        self._on_event = on_event
        self._shared: list[RedisCache[Any]] = []

    def make(
        self,
        size: int,
        ttl_seconds: float,
        name: str,
        *,
        encode: Callable[[V], object],
        decode: Callable[[object], V],
    ) -> Cache[V]:
        """Return a cache; `encode` and `decode` turn a value into JSON values and back, as in RedisCache."""
        if not self._redis_url:
            return FlightCache[str, V](size, ttl_seconds, name, on_event=self._on_event)
        shared = RedisCache(
            self._redis_url, size, ttl_seconds, name, encode=encode, decode=decode, on_event=self._on_event
        )
        self._shared.append(shared)
        return shared

    async def close(self) -> None:
        """Release connections."""
        for cache in self._shared:
            await cache.close()
