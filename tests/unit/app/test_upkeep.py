"""What every process does for itself, and how long a parent waits before it starts a process again."""

import asyncio
from contextlib import suppress

import pytest

from server.app.processes import PAUSES_SECONDS, STEADY_SECONDS, Pauses
from server.app.upkeep import Chore, keep_up
from server.caller import Role, current
from server.telemetry.metrics import export


async def run_until(done: asyncio.Event, *chores: Chore) -> None:
    keeping = asyncio.create_task(keep_up(chores))
    async with asyncio.timeout(5):
        await done.wait()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


def last_success(task: str) -> float:
    series = export.snapshot()["metrics"]["upkeep_last_success_timestamp_seconds"]["series"]
    return next(found["value"] for found in series if found["labels"] == {"task": task})


async def test_a_round_that_fails_is_not_the_last_one_and_holds_up_no_other_chore():
    seen, done = [], asyncio.Event()

    async def failing() -> None:
        seen.append("failing")
        if seen.count("failing") == 3:
            done.set()
        raise OSError("away")

    async def steady() -> None:
        seen.append("steady")

    await run_until(done, Chore("failing", 0.001, failing), Chore("steady", 0.001, steady))
    assert seen.count("steady") >= 2


async def test_a_chore_that_keeps_failing_shows_in_the_time_of_its_last_success():
    rounds, succeeded_at, done = 0, 0.0, asyncio.Event()

    async def once_well() -> None:
        nonlocal rounds, succeeded_at
        rounds += 1
        if rounds == 2:
            succeeded_at = last_success("once_well")
        if rounds == 4:
            done.set()
        if rounds > 1:
            raise OSError("away")

    await run_until(done, Chore("once_well", 0.01, once_well))
    assert last_success("once_well") == succeeded_at > 0


async def test_chores_run_as_the_system():
    roles, done = [], asyncio.Event()

    async def who() -> None:
        roles.append(current().role)
        done.set()

    await run_until(done, Chore("who", 60, who))
    assert roles == [Role.SERVICE]


def test_a_process_that_keeps_ending_is_started_less_and_less_often():
    pauses = Pauses()
    assert tuple(pauses.next(0.0) for _ in PAUSES_SECONDS) == PAUSES_SECONDS
    assert pauses.next(1.0) == PAUSES_SECONDS[-1]


@pytest.mark.parametrize(("later_seconds", "expected"), [(STEADY_SECONDS, PAUSES_SECONDS[1]), (STEADY_SECONDS + 1, 0)])
def test_pauses_begin_anew_after_a_steady_time(later_seconds, expected):
    pauses = Pauses()
    pauses.next(0.0)
    assert pauses.next(later_seconds) == expected
