"""Breakers: open after failures in a row, one trial when half open, deaf to what is not the service's failure."""

import asyncio

import pytest

from server import refusal
from server.models.breakers import Breakers, Open
from server.models.port import ProviderFailure

TRANSIENT = ProviderFailure("status 500", transient=True)
PERMANENT = ProviderFailure("status 400", transient=False)
OPEN_SECONDS = 0.02


class Service:
    """Counts the calls that reach it and fails as told."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.failure = failure
        self.calls = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self) -> str:
        self.calls += 1
        await self.go_on.wait()
        if self.failure:
            raise self.failure
        return "well"


async def fail(breakers: Breakers, times: int, failure: BaseException = TRANSIENT) -> None:
    for _ in range(times):
        with pytest.raises(type(failure)):
            await breakers.call("s", Service(failure))


async def opened() -> Breakers:
    breakers = Breakers(3, OPEN_SECONDS)
    await fail(breakers, 3)
    return breakers


async def half_open() -> Breakers:
    breakers = await opened()
    await asyncio.sleep(2 * OPEN_SECONDS)
    return breakers


async def test_three_failures_in_a_row_open_it() -> None:
    breakers, service = Breakers(3, 60), Service()
    await fail(breakers, 3)
    with pytest.raises(Open):
        await breakers.call("s", service)
    assert service.calls == 0
    assert breakers.states() == {"s": 1}


async def test_a_success_between_failures_keeps_it_closed() -> None:
    breakers = Breakers(3, 60)
    await fail(breakers, 2)
    await breakers.call("s", Service())
    await fail(breakers, 2)
    assert breakers.states() == {"s": 0}


@pytest.mark.parametrize("failure", [TRANSIENT, refusal.StoreUnavailable(), TimeoutError(), ConnectionError()])
async def test_failures_of_the_service_count(failure: Exception) -> None:
    breakers = Breakers(1, 60)
    await fail(breakers, 1, failure)
    assert breakers.states() == {"s": 1}


@pytest.mark.parametrize(
    "failure", [PERMANENT, refusal.NotFound(), refusal.DeadlineExceeded(), asyncio.CancelledError()]
)
async def test_refused_requests_and_cancelled_callers_neither_open_it_nor_hide_failures(failure: BaseException) -> None:
    breakers = Breakers(3, 60)
    await fail(breakers, 2)
    await fail(breakers, 5, failure)
    assert breakers.states() == {"s": 0}
    await fail(breakers, 1)
    assert breakers.states() == {"s": 1}


async def test_one_call_only_tries_a_service_that_failed() -> None:
    breakers, service = await half_open(), Service()
    service.go_on.clear()
    calls = [asyncio.create_task(breakers.call("s", service)) for _ in range(10)]
    await asyncio.sleep(0)
    assert breakers.states() == {"s": 2}
    service.go_on.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert results.count("well") == 1
    assert service.calls == 1
    assert sum(isinstance(result, Open) for result in results) == 9


async def test_a_trial_that_succeeds_closes_it() -> None:
    breakers = await half_open()
    await breakers.call("s", Service())
    assert breakers.states() == {"s": 0}
    assert await breakers.call("s", Service()) == "well"


async def test_a_trial_that_fails_opens_it_again() -> None:
    breakers, service = await half_open(), Service()
    await fail(breakers, 1)
    with pytest.raises(Open):
        await breakers.call("s", service)
    assert service.calls == 0


async def test_a_cancelled_trial_decides_nothing_and_lets_the_next_one_try() -> None:
    breakers = await half_open()
    await fail(breakers, 1, asyncio.CancelledError())
    assert breakers.states() == {"s": 2}
    assert await breakers.call("s", Service()) == "well"
    assert breakers.states() == {"s": 0}


async def test_a_call_from_before_it_opened_does_not_decide_the_trial() -> None:
    breakers = Breakers(3, OPEN_SECONDS)
    early = breakers.enter("s")
    await fail(breakers, 3)
    await asyncio.sleep(2 * OPEN_SECONDS)
    trial = breakers.enter("s")
    early.end()
    assert breakers.states() == {"s": 2}
    trial.end()
    assert breakers.states() == {"s": 0}


async def test_only_the_first_report_of_a_call_counts() -> None:
    breakers = Breakers(2, 60)
    passage = breakers.enter("s")
    for _ in range(5):
        passage.end(TRANSIENT)
    assert breakers.states() == {"s": 0}


async def test_services_do_not_share_a_breaker() -> None:
    breakers = await opened()
    assert await breakers.call("other", Service()) == "well"


async def test_every_change_of_state_is_told_once() -> None:
    told: list[tuple[str, int]] = []
    breakers = Breakers(2, OPEN_SECONDS, on_state=lambda service, state: told.append((service, state)))
    await breakers.call("s", Service())
    await fail(breakers, 2)
    await asyncio.sleep(2 * OPEN_SECONDS)
    await breakers.call("s", Service())
    await breakers.call("s", Service())
    assert told == [("s", 0), ("s", 1), ("s", 2), ("s", 0)]


async def test_each_call_is_heard_with_how_it_ended_and_none_that_was_not_made() -> None:
    heard: list[tuple[str, BaseException | None]] = []
    breakers = Breakers(1, 60, on_call=lambda service: lambda error: heard.append((service, error)))
    await breakers.call("milvus_query", Service())
    await fail(breakers, 1)
    with pytest.raises(Open):
        await breakers.call("s", Service())
    assert heard == [("milvus_query", None), ("s", TRANSIENT)]
