"""The cache shared through Redis, over a real Redis server."""

import asyncio
import shutil
import signal
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from itertools import count

import pytest
import pytest_asyncio
from redis import Redis

from server.cache.caches import Caches
from server.cache.redis_cache import RedisCache
from tests.searching import Bench

BINARY = shutil.which("redis-server", path="/usr/bin:/usr/local/bin:/bin")
pytestmark = pytest.mark.skipif(BINARY is None, reason="redis-server is not installed")
_names = count(1)


class Loader:
    """Counts its loads."""

    def __init__(self) -> None:
        self.loads = 0

    async def __call__(self, key: str) -> list[float]:
        self.loads += 1
        return [0.5, 0.25]


@pytest.fixture
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    assert BINARY is not None
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        BINARY,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--dir",
        str(tmp_path_factory.mktemp("r")),
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert process.stdout is not None
    for line in process.stdout:
        if b"Ready to accept connections" in line:
            break
    yield f"redis://127.0.0.1:{port}/0", process
    process.send_signal(signal.SIGCONT)
    process.terminate()
    process.stdout.close()
    process.wait()


def cache(url: str, name: str) -> RedisCache[list[float]]:
    return RedisCache(url, 10, 900, name, encode=list, decode=lambda value: [float(one) for one in value])  # type: ignore[attr-defined]


@pytest_asyncio.fixture
async def pair(server: tuple[str, object]) -> AsyncIterator[tuple[RedisCache[list[float]], RedisCache[list[float]]]]:
    name = f"rerank{next(_names)}"
    one, other = cache(server[0], name), cache(server[0], name)
    yield one, other
    await one.close()
    await other.close()


Pair = tuple[RedisCache[list[float]], RedisCache[list[float]]]


async def test_what_one_process_loaded_another_finds(pair: Pair) -> None:
    load = Loader()
    assert await pair[0].get("question é", load) == await pair[1].get("question é", load) == [0.5, 0.25]
    assert load.loads == 1
    assert pair[1].shared_hits == 1


async def test_values_expire_in_redis_too(pair: Pair, server: tuple[str, object]) -> None:
    await pair[0].get("a", Loader())
    with Redis.from_url(server[0]) as client:
        (key,) = client.keys("*")
        assert 890_000 < client.pttl(key) <= 900_000
        assert client.get(key) == b"[0.5, 0.25]"


@pytest.mark.parametrize("content", [b"{not json", b'"text"', b"5"])
async def test_an_unreadable_entry_is_loaded_anew(pair: Pair, server: tuple[str, object], content: bytes) -> None:
    await pair[0].get("a", Loader())
    load = Loader()
    with Redis.from_url(server[0]) as client:
        (key,) = client.keys("*")
        client.set(key, content)
        assert await pair[1].get("a", load) == [0.5, 0.25]
        assert load.loads == 1
        assert client.get(key) == b"[0.5, 0.25]"


async def test_a_question_that_another_process_was_asked_costs_no_model_call(server: tuple[str, object]) -> None:
    processes = Caches(server[0]), Caches(server[0])
    first, second = [await Bench(caches=caches).fill() for caches in processes]
    found = await first.search()
    again = await second.search()
    for caches in processes:
        await caches.close()
    assert again.passages == found.passages
    assert sum(first.model.asked.values()) > 0
    assert sum(second.model.asked.values()) == 0
    assert sum(second.embedder.asked.values()) == 0


async def test_without_redis_values_are_loaded(pair: Pair, server: tuple[str, subprocess.Popen[bytes]]) -> None:
    server[1].terminate()
    await asyncio.to_thread(server[1].wait)
    load = Loader()
    assert await pair[0].get("a", load) == [0.5, 0.25]
    assert await pair[0].get("a", load) == [0.5, 0.25]
    assert load.loads == 1


async def test_a_frozen_redis_delays_one_call_only(pair: Pair, server: tuple[str, subprocess.Popen[bytes]]) -> None:
    await pair[0].get("warm", Loader())
    server[1].send_signal(signal.SIGSTOP)
    async with asyncio.timeout(5):
        await asyncio.gather(*(pair[0].get(f"key {number}", Loader()) for number in range(50)))
        for number in range(50, 100):
            await pair[0].get(f"key {number}", Loader())
