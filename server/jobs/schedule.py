"""When scheduled jobs are due. Pure: the clock is handed in."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from croniter import croniter


@dataclass(frozen=True, slots=True)
class Periodic:
    """A job that runs by the clock: `every` is a number of seconds, or a cron line in UTC such as `0 2 * * *`.

    Every tick runs once over all workers. Ticks missed while no worker ran are made up by one run.
    """

    name: str
    every: float | str
    run: Callable[[], Awaitable[object]]

    def __post_init__(self) -> None:
        """Refuse a line that is no cron line where it is written, not when it is due."""
        if isinstance(self.every, str):
            croniter(self.every)

    def previous(self, now: datetime) -> datetime:
        """Return the newest tick that is not after `now`."""
        if isinstance(self.every, str):
            # The line's own tick counts as passed, which the library's strict `get_prev` would skip.
            tick: datetime = croniter(self.every, now + timedelta(microseconds=1)).get_prev(datetime)
            return tick
        return datetime.fromtimestamp(now.timestamp() // self.every * self.every, UTC)

    def following(self, now: datetime) -> datetime:
        """Return the first tick after `now`."""
        if isinstance(self.every, str):
            tick: datetime = croniter(self.every, now).get_next(datetime)
            return tick
        return self.previous(now) + timedelta(seconds=self.every)
