"""What every process does for itself from time to time, unlike the schedule, whose ticks are shared out."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog

from server.app.rooms import Rooms
from server.caller import acting_as, system
from server.database.cancellation import is_cancelled
from server.telemetry import metrics

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Chore:
    """A task that each process repeats; `run` may fail, the next time comes all the same."""

    name: str
    every_seconds: float
    run: Callable[[], Awaitable[object]]


def chores(rooms: Rooms) -> list[Chore]:
    """Return what this process has to keep up: what it remembers, and its machine's own disk."""

    async def sweep_scratch() -> None:
        await asyncio.to_thread(rooms.scratch.sweep)

    return [
        Chore("learn_revocations", 5, rooms.auth.service.learn_revocations),
        Chore("keep_search_stories", 2, rooms.retrieval.searches.keep_stories),
        Chore("sweep_scratch", 86_400, sweep_scratch),
    ]


async def keep_up(tasks: Sequence[Chore]) -> None:
    """Do each task at once and then again and again, until cancelled."""
    async with asyncio.TaskGroup() as group:
        for chore in tasks:
            group.create_task(_repeat(chore), name=chore.name)


async def _repeat(chore: Chore) -> None:
    # Counted from the start: a process whose first try already fails must be seen as well.
    metrics.set_upkeep_success(chore.name, time.time())
    while not is_cancelled():
        with acting_as(system()):
            try:
                await chore.run()
                metrics.set_upkeep_success(chore.name, time.time())
            except Exception as error:  # noqa: BLE001 - one bad round must not be the last one
                log.warning("upkeep_failed", task=chore.name, error=repr(error))
        await asyncio.sleep(chore.every_seconds)
