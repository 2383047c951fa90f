"""A bounded cache in this process: entries expire, the least recently used goes first, parallel misses load once."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from cachetools import TTLCache

from server import caller

K = TypeVar("K")
V = TypeVar("V")

OnEvent = Callable[[str, bool, int], None]
"""Hears the name of a cache, whether it held what was looked for, and how many times that happened."""


def unheard(name: str, hit: bool, times: int) -> None:
    """Tell nobody."""


class FlightCache(Generic[K, V]):
    """Loads each missing key once, however many callers wait for it. Belongs to one event loop.

    A load goes on when the caller that began it is cancelled, because others may wait for the same value; it runs in
    that caller's context (its request id) but without its deadline. A failed load is told to all who wait and kept for
    nobody. `name` labels the counters `hits` and `misses` and the calls of `on_event(name, hit, times)`.
    """

    def __init__(
        self,
        size: int,
        ttl_seconds: float,
        name: str = "",
        *,
        on_event: OnEvent = unheard,
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

    def kept(self, keys: Iterable[K]) -> dict[K, V]:
        """Return the values of those keys that are kept; each key counts as a hit or miss."""
        found: dict[K, V] = {}
        misses = 0
        for key in keys:
            try:
                found[key] = self._kept[key]
            except KeyError:
                misses += 1
        self._count(hit=True, times=len(found))
        self._count(hit=False, times=misses)
        return found

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

    def _count(self, *, hit: bool, times: int = 1) -> None:
        if not times:
            return
        if hit:
            self.hits += times
        else:
            self.misses += times
        self._on_event(self.name, hit, times)
