"""What the queue can run, and the rule of when a failed try is worth another one."""

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from server.refusal import Kind, Refusal

TRIES = 3
"""How often a job runs before it is given up."""
FIRST_WAIT_SECONDS = 4.0
WAIT_FACTOR = 4
"""The waits are 4 s, 16 s, 64 s, ..."""
STALLS = 2
"""How many lost workers a job survives beyond its tries: one that kills its worker each time must end as well."""
TRANSIENT_KINDS = (Kind.UNAVAILABLE, Kind.DEADLINE, Kind.ABORTED, Kind.EXHAUSTED)

Arguments = Mapping[str, Any]


def is_transient(error: BaseException) -> bool:
    """Say whether an error may go away by itself: a store away, a conflict, a limit, a broken connection."""
    if isinstance(error, Refusal):
        return error.kind in TRANSIENT_KINDS
    return bool(getattr(error, "transient", isinstance(error, OSError | TimeoutError)))


@dataclass(frozen=True, slots=True)
class Task:
    """A kind of job: `run` gets the arguments it was enqueued with, and must bear being run twice.

    `given_up` hears of a job that will not run again, with the error that ended its last try.
    """

    name: str
    run: Callable[..., Awaitable[object]]
    tries: int = TRIES
    first_wait_seconds: float = FIRST_WAIT_SECONDS
    transient: Callable[[BaseException], bool] = is_transient
    given_up: Callable[[Arguments, BaseException], Awaitable[object]] | None = None

    def wait_seconds(self, error: BaseException, earlier_tries: int) -> float | None:
        """Return how long to wait before the next try, or None when there is none."""
        if earlier_tries + 1 >= self.tries or not self.transient(error):
            return None
        return self.first_wait_seconds * math.pow(WAIT_FACTOR, earlier_tries)

    def outlives_stall(self, earlier_tries: int) -> bool:
        """Say whether a job whose worker vanished may run again."""
        return earlier_tries + 1 < self.tries + STALLS


class WorkerLost(Exception):
    """The workers of a job vanished while it ran, too often to try again."""
