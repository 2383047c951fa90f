"""A bounded cache in this process: entries expire, the least recently used goes first, parallel misses load once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from cachetools import TTLCache

from server import caller

K = TypeVar("K")
V = TypeVar("V")


class FlightCache(Generic[K, V]):
    """Loads each missing key once, however many callers wait for it. Belongs to one event loop.

    A load goes on when the caller that began it is cancelled, because others may wait for the same value; it runs in
    that caller's context (its request id) but without its deadline. A failed load is told to all who wait and kept for
    nobody. `name` labels the counters `hits` and `misses` and the calls of `on_event(name, hit)`.
    """

    def __init__(
        self,
        size: int,
        ttl_seconds: float,
        name: str = "",
        *,
        on_event: Callable[[str, bool], None] = lambda name, hit: None,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self.hits = 0
        self.misses = 0
        self._on_event = on_event
        self._kept: TTLCache[K, V] = TTLCache(size, ttl_seconds, timer=now)
        self._loading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, load: Callable[[K], Awaitable[V]]) -> V:
        """Return the value of `key`, loading it when it is not kept. Raises what `load` raises."""
        try:
            kept = self._kept[key]
        except KeyError:
            self._count(hit=False)
        else:
            self._count(hit=True)
            return kept
        return await asyncio.shield(self._loading.get(key) or self._start(key, load))

    def peek(self, key: K) -> V | None:
        """Return the value of `key` if it is kept, else None; counts as a hit or miss."""
        kept = self._kept.get(key)
        self._count(hit=kept is not None)
        return kept

    def put(self, key: K, value: V) -> None:
        """Keep a value that was loaded otherwise, such as several keys by one query."""
        self._kept[key] = value

    def drop(self, key: K) -> None:
        """Forget a key; a load that is under way still answers those who wait, and is not kept."""
        self._kept.pop(key, None)
        self._loading.pop(key, None)

    def clear(self) -> None:
        """Forget everything, like `drop` of every key."""
        self._kept.clear()
        self._loading.clear()

    def __len__(self) -> int:
        """Return how many values are kept."""
        return len(self._kept)

    def _start(self, key: K, load: Callable[[K], Awaitable[V]]) -> "asyncio.Task[V]":
        async def run() -> V:
            with caller.acting_as(caller.detached(caller.current())):
                return await load(key)

        loading = self._loading[key] = asyncio.create_task(run(), name=f"cache-{self.name}")
        loading.add_done_callback(lambda done: self._loaded(key, loading))
        return loading

    def _loaded(self, key: K, loading: "asyncio.Task[V]") -> None:
        failed = loading.cancelled() or loading.exception() is not None
        if self._loading.get(key) is not loading:
            return
        del self._loading[key]
        if not failed:
            self._kept[key] = loading.result()

    def _count(self, *, hit: bool) -> None:
        self.hits += hit
        self.misses += not hit
        self._on_event(self.name, hit)
