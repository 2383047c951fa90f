"""The cache in the process: bounded in count and age, one load per key, safe from cancelled callers."""

import asyncio
from uuid import UUID

import pytest

from server import caller
from server.cache.flight import FlightCache


class Loader:
    """Counts loads and lets them end when told."""

    def __init__(self, *, held: bool = False) -> None:
        self.loads: list[str] = []
        self.go_on = asyncio.Event()
        self.failure: Exception | None = None
        self.seen: list[caller.Caller] = []
        if not held:
            self.go_on.set()

    async def __call__(self, key: str) -> str | None:
        self.loads.append(key)
        self.seen.append(caller.current())
        await self.go_on.wait()
        if self.failure:
            raise self.failure
        return f"value of {key}"


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


def cache(size: int = 10, ttl_seconds: float = 60, clock: Clock | None = None) -> FlightCache[str, str | None]:
    return FlightCache(size, ttl_seconds, "test", now=clock or Clock())


async def test_a_kept_value_is_not_loaded_again() -> None:
    kept, load = cache(), Loader()
    assert await kept.get("a", load) == await kept.get("a", load) == "value of a"
    assert load.loads == ["a"]
    assert (kept.hits, kept.misses) == (1, 1)


async def test_a_value_of_none_is_kept_like_any_other() -> None:
    loads = []

    async def nothing(key: str) -> None:
        loads.append(key)

    kept = cache()
    assert await kept.get("a", nothing) is await kept.get("a", nothing) is None
    assert loads == ["a"]


async def test_parallel_misses_load_once() -> None:
    kept, load = cache(), Loader(held=True)
    waiting = [asyncio.create_task(kept.get("a", load)) for _ in range(200)]
    await asyncio.sleep(0)
    load.go_on.set()
    assert set(await asyncio.gather(*waiting)) == {"value of a"}
    assert load.loads == ["a"]


async def test_those_who_wait_survive_the_cancel_of_the_first() -> None:
    kept, load = cache(), Loader(held=True)
    leader = asyncio.create_task(kept.get("a", load))
    await asyncio.sleep(0)
    follower = asyncio.create_task(kept.get("a", load))
    await asyncio.sleep(0)
    leader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    load.go_on.set()
    assert await follower == "value of a"
    assert load.loads == ["a"]


async def test_a_load_that_nobody_waits_for_any_more_is_kept() -> None:
    kept, load = cache(), Loader(held=True)
    only = asyncio.create_task(kept.get("a", load))
    await asyncio.sleep(0)
    only.cancel()
    load.go_on.set()
    assert await kept.get("a", load) == "value of a"
    assert load.loads == ["a"]


async def test_a_failed_load_is_told_to_all_and_kept_for_nobody() -> None:
    kept, load = cache(), Loader(held=True)
    load.failure = RuntimeError("broken")
    waiting = [asyncio.create_task(kept.get("a", load)) for _ in range(5)]
    await asyncio.sleep(0)
    load.go_on.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert [str(result) for result in results] == ["broken"] * 5
    load.failure = None
    assert await kept.get("a", load) == "value of a"


async def test_values_expire() -> None:
    clock = Clock()
    kept, load = cache(ttl_seconds=900, clock=clock), Loader()
    await kept.get("a", load)
    clock.seconds = 899
    await kept.get("a", load)
    assert load.loads == ["a"]
    clock.seconds = 900
    await kept.get("a", load)
    assert load.loads == ["a", "a"]


async def test_the_least_recently_used_value_goes_first() -> None:
    kept, load = cache(size=2), Loader()
    for key in ("a", "b", "a", "c"):
        await kept.get(key, load)
    assert len(kept) == 2
    assert kept.kept(["a", "b"]) == {"a": "value of a"}


async def test_a_value_dropped_while_it_loads_is_not_kept() -> None:
    kept, load = cache(), Loader(held=True)
    waiting = asyncio.create_task(kept.get("a", load))
    await asyncio.sleep(0)
    kept.drop("a")
    load.go_on.set()
    assert await waiting == "value of a"
    assert kept.kept(["a"]) == {}


async def test_clearing_forgets_what_is_kept_and_what_is_loading() -> None:
    kept, load = cache(), Loader(held=True)
    kept.put("b", "given")
    waiting = asyncio.create_task(kept.get("a", load))
    await asyncio.sleep(0)
    kept.clear()
    load.go_on.set()
    await waiting
    assert len(kept) == 0


async def test_a_value_that_was_put_is_a_hit() -> None:
    kept, load = cache(), Loader()
    kept.put("a", "given")
    assert await kept.get("a", load) == "given"
    assert load.loads == []


async def test_a_load_runs_as_its_first_caller_without_that_deadline() -> None:
    kept, load = cache(), Loader()
    asking = caller.Caller(request_id=UUID(int=7), deadline_at=1.0)
    with caller.acting_as(asking):
        await kept.get("a", load)
        assert caller.current() is asking
    assert load.seen == [caller.Caller(request_id=UUID(int=7))]


async def test_hits_and_misses_are_told() -> None:
    told: list[tuple[str, bool, int]] = []
    kept: FlightCache[str, str | None] = FlightCache(10, 60, "rerank", on_event=lambda *event: told.append(event))
    await kept.get("a", Loader())
    await kept.get("a", Loader())
    assert kept.kept(["a", "b", "c"]) == {"a": await kept.get("a", Loader())}
    assert told == [
        ("rerank", False, 1),
        ("rerank", True, 1),
        ("rerank", True, 1),
        ("rerank", False, 2),
        ("rerank", True, 1),
    ]
