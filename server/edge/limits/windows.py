"""Moving windows that count hits by key: in this process, or in Redis for several processes.

While Redis is down each process counts for itself. The memory of one process is our own, because the asynchronous one
of `limits` walks all its keys, with a thread for each, on every hit.
"""

import time
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

import structlog
from limits import RateLimitItemPerSecond
from limits.aio.storage import Storage
from limits.aio.strategies import MovingWindowRateLimiter
from limits.errors import StorageError
from limits.storage import storage_from_string

MAX_KEYS: Final = 200_000
"""Keys remembered in memory; beyond, the one that was quiet for longest is forgotten."""
FALLBACK_SECONDS: Final = 5.0
REDIS_TIMEOUT_SECONDS: Final = 0.2
Key = tuple[str | int, ...]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `amount` hits within any `window_seconds`."""

    amount: int
    window_seconds: float


class Windows(Protocol):
    """Counts hits. Both methods return 0.0 when there is room, else the seconds until there is."""

    async def hit(self, rate: Rate, key: Key) -> float:
        """Count a hit unless there is no room for it."""

    async def test(self, rate: Rate, key: Key) -> float:
        """Say whether there is room without counting."""

    async def close(self) -> None:
        """Let go of connections."""


class MemoryWindows:
    """Exact windows in this process: one short queue of times per key that was active within its window."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, max_keys: int = MAX_KEYS) -> None:
        """Take a clock in seconds."""
        self._clock = clock
        self._max_keys = max_keys
        self._windows: OrderedDict[Key, _Window] = OrderedDict()

    async def hit(self, rate: Rate, key: Key) -> float:
        """Count a hit unless there is no room for it."""
        return self.take(rate, key)

    def take(self, rate: Rate, key: Key) -> float:
        """As `hit`, for who has no time to wait."""
        now = self._clock()
        window = self._windows.get(key)
        if window is None:
            window = self._windows[key] = _Window(rate)
            self._forget(now)
        else:
            self._windows.move_to_end(key)
        wait_seconds = window.wait_seconds(now)
        if wait_seconds == 0.0:
            window.hits.append(now)
        return wait_seconds

    async def test(self, rate: Rate, key: Key) -> float:
        """Say whether there is room without counting."""
        window = self._windows.get(key)
        return window.wait_seconds(self._clock()) if window else 0.0

    async def close(self) -> None:
        """Nothing to let go of."""

    def __len__(self) -> int:
        """Return the number of keys remembered."""
        return len(self._windows)

    def _forget(self, now: float) -> None:
        """Drop up to two keys whose window is over for each new one, so that the work never piles up."""
        for _ in range(2):
            key, window = next(iter(self._windows.items()))
            if len(self._windows) <= self._max_keys and not window.is_over(now):
                return
            if len(self._windows) > 1:
                del self._windows[key]


class _Window:
    __slots__ = ("hits", "rate")

    def __init__(self, rate: Rate) -> None:
        self.rate = rate
        self.hits: deque[float] = deque(maxlen=rate.amount)

    def wait_seconds(self, now: float) -> float:
        if len(self.hits) < self.rate.amount:
            return 0.0
        return max(self.hits[0] + self.rate.window_seconds - now, 0.0)

    def is_over(self, now: float) -> bool:
        return not self.hits or self.hits[-1] + self.rate.window_seconds <= now


class RedisWindows:
    """Exact windows shared by all processes; while Redis does not answer, each process counts for itself."""

    def __init__(
        self,
        url: str,
        fallback_seconds: float = FALLBACK_SECONDS,
        timeout_seconds: float = REDIS_TIMEOUT_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Connect on first use to a `redis://` or `rediss://` address; ask again `fallback_seconds` after a failure."""
        storage = storage_from_string(
            f"async+{url}",
            implementation="redispy",
            wrap_exceptions=True,
            key_prefix="bacmr",
            socket_timeout=timeout_seconds,
            socket_connect_timeout=timeout_seconds,
        )
        assert isinstance(storage, Storage)
        self._storage = storage
        self._shared = MovingWindowRateLimiter(storage)
        self._alone = MemoryWindows(clock)
        self._fallback_seconds = fallback_seconds
        self._clock = clock
        self._down_until = -1.0

    async def hit(self, rate: Rate, key: Key) -> float:
        """Count a hit unless there is no room for it."""
        if self._clock() < self._down_until:
            return await self._alone.hit(rate, key)
        item = _item(rate)
        try:
            return 0.0 if await self._shared.hit(item, *map(str, key)) else await self._wait_seconds(item, key)
        except StorageError as error:
            self._fall_back(error)
            return await self._alone.hit(rate, key)

    async def test(self, rate: Rate, key: Key) -> float:
        """Say whether there is room without counting."""
        if self._clock() < self._down_until:
            return await self._alone.test(rate, key)
        item = _item(rate)
        try:
            return 0.0 if await self._shared.test(item, *map(str, key)) else await self._wait_seconds(item, key)
        except StorageError as error:
            self._fall_back(error)
            return await self._alone.test(rate, key)

    async def close(self) -> None:
        """Close the connections."""
        connection = getattr(self._storage, "bridge", None)
        if connection is not None:
            await connection.storage.aclose()

    async def _wait_seconds(self, item: RateLimitItemPerSecond, key: Key) -> float:
        stats = await self._shared.get_window_stats(item, *map(str, key))
        return max(stats.reset_time - time.time(), 0.001)

    def _fall_back(self, error: StorageError) -> None:
        self._down_until = self._clock() + self._fallback_seconds
        _log.warning("limits_fall_back_to_memory", seconds=self._fallback_seconds, error=type(error).__name__)


def _item(rate: Rate) -> RateLimitItemPerSecond:
    return RateLimitItemPerSecond(rate.amount, int(rate.window_seconds))


def windows(redis_url: str = "") -> Windows:
    """Return windows in Redis when an address is given, else in this process."""
    return RedisWindows(redis_url) if redis_url else MemoryWindows()
