"""Moving windows: exact in memory, shared in Redis, and in memory again while Redis is down."""

import asyncio
import shutil
import socket
import time
from pathlib import Path

import pytest
import pytest_asyncio
import redis.asyncio

from server.edge.limits.windows import MemoryWindows, Rate, RedisWindows

TEN = Rate(10, 60.0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_the_eleventh_hit_is_told_when_there_is_room_again(clock):
    windows = MemoryWindows(clock)
    for _ in range(10):
        assert await windows.hit(TEN, ("user", 1)) == 0.0
        clock.now += 1
    assert await windows.hit(TEN, ("user", 1)) == 50.0
    clock.now += 50.0
    assert await windows.hit(TEN, ("user", 1)) == 0.0
    assert await windows.hit(TEN, ("user", 1)) == 1.0


async def test_no_more_than_the_amount_fits_into_any_window(clock):
    windows, taken = MemoryWindows(clock), []
    for _ in range(1000):
        clock.now += 0.7
        if await windows.hit(TEN, ("user", 1)) == 0.0:
            taken.append(clock.now)
    for start in taken:
        assert sum(start <= at < start + TEN.window_seconds for at in taken) <= TEN.amount


async def test_keys_are_counted_apart(clock):
    windows = MemoryWindows(clock)
    for _ in range(10):
        await windows.hit(TEN, ("user", 1))
    assert await windows.hit(TEN, ("user", 2)) == 0.0


async def test_a_test_counts_nothing(clock):
    windows = MemoryWindows(clock)
    for _ in range(50):
        assert await windows.test(TEN, ("user", 1)) == 0.0
    for _ in range(10):
        await windows.hit(TEN, ("user", 1))
    assert await windows.test(TEN, ("user", 1)) == 60.0


async def test_keys_whose_window_is_over_are_forgotten(clock):
    windows = MemoryWindows(clock)
    for number in range(1000):
        await windows.hit(TEN, ("user", number))
    clock.now += 61
    for number in range(1000, 2000):
        await windows.hit(TEN, ("user", number))
    assert len(windows) <= 1000


async def test_memory_is_bounded_even_when_every_window_is_open(clock):
    windows = MemoryWindows(clock, max_keys=100)
    for number in range(1000):
        await windows.hit(TEN, ("user", number))
    assert len(windows) <= 100


class RedisServer:
    """A real Redis on a free port that can be stopped and started."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.process: asyncio.subprocess.Process | None = None
        self.url = f"redis://127.0.0.1:{self.port}"

    async def start(self) -> None:
        options = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", str(self.folder)]
        self.process = await asyncio.create_subprocess_exec("redis-server", *options, stdout=asyncio.subprocess.DEVNULL)
        client = redis.asyncio.Redis.from_url(self.url)
        async with asyncio.timeout(10):
            while True:
                try:
                    await client.ping()
                    break
                except redis.ConnectionError:
                    await asyncio.sleep(0.02)
        await client.aclose()

    async def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            await self.process.wait()
            self.process = None


@pytest_asyncio.fixture
async def server(tmp_path):
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    found = RedisServer(tmp_path)
    await found.start()
    yield found
    await found.stop()


async def test_two_processes_share_a_limit_through_redis(server):
    first, second = RedisWindows(server.url, timeout_seconds=10), RedisWindows(server.url, timeout_seconds=10)
    hits = await asyncio.gather(*((first, second)[n % 2].hit(TEN, ("user", 1)) for n in range(40)))
    assert sum(wait == 0.0 for wait in hits) == 10
    assert all(0 < wait <= 60 for wait in hits if wait)
    assert 0 < await first.test(TEN, ("user", 1)) <= 60
    assert await first.test(TEN, ("user", 2)) == 0.0
    await first.close()
    await second.close()


async def test_while_redis_is_down_each_process_counts_for_itself_and_then_together_again(server, clock):
    windows = RedisWindows(server.url, fallback_seconds=5.0, timeout_seconds=10, clock=clock)
    for _ in range(10):
        assert await windows.hit(TEN, ("user", 1)) == 0.0
    await server.stop()
    began = time.monotonic()
    alone = [await windows.hit(TEN, ("user", 1)) for _ in range(15)]
    assert sum(wait == 0.0 for wait in alone) == 10
    assert time.monotonic() - began < 2.0
    await server.start()
    assert await windows.hit(TEN, ("user", 1)) > 0.0, "Redis is not asked before the pause is over"
    clock.now += 5.1
    assert await windows.hit(TEN, ("user", 1)) == 0.0, "the restarted Redis is empty"
    await windows.close()
